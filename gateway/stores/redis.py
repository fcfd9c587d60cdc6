"""The store that many hosts share: Redis 6 or newer, one Lua script per operation, atomic and idempotent.

Time is the server's. A script gets all its keys as KEYS: a fixed number, and one for each day of the usage
rows it carries; they share the hash tag `{headgate}`, so that a cluster keeps them on one node. Redis' own
client must not retry: an operation that was applied and not answered would be booked twice by a script that
is not asked with its id.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from gateway.clock import monotonic_s, now_s
from gateway.quota.contract import Balance, Event, Exchange, Reply, StoreDown, StoreLate, StoreLost, Terms
from gateway.stores import redis_words as words
from gateway.stores.breaker import Breaker
from gateway.stores.host_copy import HostCopy
from gateway.stores.host_owners import HostOwners
from gateway.stores.redis_client import client_of, reason_of
from gateway.wire.json import dumps

DRY_MS = 5
"""How long an owner may remember that money is short: on the embedded store, which is nearer, 2 ms."""
GRACE_MS = 1_500
"""How long a rebuilt store grants nothing, so that every host can tell what it has; hosts exchange every
second."""
PAGE = 200
"""Buckets that are read at once: 5 ms of the server's time."""
STEP = 50
"""Buckets of an owner, or of a rule, that one script changes: 5 to 15 ms. For more it is run again, each time
with the same effect if it is repeated."""
ROWS = 250
"""Rows, or accounts, that are read at once."""
RECONNECT_S = 0.25
FORGET_EVERY_S = 86_400.0

_KEYS = [
    "meta",
    "terms",
    "bucket",
    "out",
    "part",
    "owner",
    "reply",
    "lease",
    "asking",
    "names",
    "has",
    "has_part",
    "tell",
    "ticket",
    "posted",
    "charged",
    "entered",
    "rows",
    "entries",
    "days",
    "ended",
    "recalled",
    "acked",
    "wet",
]
"""In the order in which `book.lua` names them; the last three are channels."""
_SCRIPTS = Path(__file__).parent / "scripts"
_FORBIDDEN = ("NOPERM", "ResponseError")
"""What a server says that lets nobody read its settings: no permission, or no such command."""


_READING = ("balances", "verify")
"""Operations that move nothing."""


_NAMES, _VALUES = (rf"{each}(?:,\s*{each})*" for each in ("[A-Z][A-Z_]*", r"(?:[0-9e]+|'\w+')"))
_CONSTANTS = re.compile(rf"^ *local ({_NAMES}) =\s+({_VALUES}) *(?:--.*)?$", re.M)


class _Script:
    """One operation's text, and the name under which a server keeps it."""

    def __init__(self, name: str) -> None:
        files = ["book", *(["bucket"] if name not in _READING else [])]
        files += ["tickets", name] if name == "exchange" else [name]
        self.text = _inlined("".join((_SCRIPTS / f"{file}.lua").read_text() for file in files))
        self.sha = ""


def _inlined(text: str) -> str:
    """A script with its constants written out. As locals that functions refer to they would be looked for,
    one after another, whenever a function is made: a third of an exchange, 310 instead of 454 µs."""
    values: dict[str, str] = {}
    for names, numbers in _CONSTANTS.findall(text):
        values.update(zip(re.split(r",\s*", names), re.split(r",\s*", numbers), strict=True))
    text = _CONSTANTS.sub("", text)
    names = "|".join(sorted(values, key=len, reverse=True))
    return re.sub(rf"(?<!')\b({names})\b(?!')", lambda found: values[found[1]], text)


class RedisStore:
    """`quota.contract.Store` on Redis.

    `url`: as `redis_client` says; `ValueError` if it is none. `host_id` begins the names of this host's
    owners. `copy` is the file in which this host keeps what it posted (`HostCopy`). Nothing is connected
    before the first operation. Operations raise `StoreLate` after `deadline_s`, `StoreDown` if that was so
    three times in a row or it cannot be reached, `StoreLost` while what this
    host wrote is lost and the hosts are putting it together again (1.5 s), `OverflowError` for amounts from
    2^53 on.
    """

    def __init__(
        self,
        url: str,
        *,
        host_id: str,
        deadline_s: float = 0.1,
        copy: Path | str = ":memory:",
        prefix: str = "headgate",
    ) -> None:
        self.clock = "+0"
        """For tests: "+MS" moves the server's clock, "=MS" stops it."""
        self._host_id = host_id
        self._deadline_s = deadline_s
        self._tag = f"{{{prefix}}}:"
        self._keys = [self._tag + name for name in _KEYS]
        self._client = client_of(url, deadline_s)
        self._breaker = Breaker()
        self._scripts: dict[str, _Script] = {}
        self._owners = HostOwners()
        self._rebuilding = False
        self._copy = HostCopy(copy)
        self._mark = self._copy.mark()
        self._forgot_s = -FORGET_EVERY_S

    async def hello(self, owner: str, epoch: int, got: Mapping[str, int]) -> None:
        """See `Store`. A reply that was not heard before is not given again: its exchange is decided anew."""
        for after, upto, names in words.ranges(got, STEP):
            some = [(name, got[name]) for name in names]
            said = {"owner": owner, "epoch": epoch, "upto": upto, "got": some, "count": STEP}
            while after is not None:
                after = await self._run("hello", {**said, "after": after}) or None
        self._owners.hello(owner, epoch, got)

    async def exchange(self, exchange: Exchange) -> Reply:
        """See `Store`. `KeyError`: no terms were ever told of a bucket that is wanted."""
        self._copy.learn((bucket.partition("|")[0], terms) for bucket, terms in exchange.terms.items())
        rows, days = words.rows_told(exchange.rows)
        said = await self._run("exchange", words.exchange_told(exchange, rows, DRY_MS), days)
        posted = {account: sum for account, sum in exchange.used.items() if words.is_money(account)}
        if posted:
            self._copy.keep(self._mark, f"{exchange.owner}@{exchange.epoch}", posted, int(now_s() * 1000))
        reply = words.reply_from(said)
        self._owners.answered(exchange, reply)
        return reply

    async def bury(
        self,
        owner: str,
        epoch: int,
        used: Mapping[str, int],
        holds: Mapping[str, int],
        rows: Sequence[Any] = (),
    ) -> dict[str, int]:
        """See `Store`. The second time there is nothing more to post."""
        told, days = words.rows_told(rows)
        kind, is_counted = "", 0
        posted: dict[str, int] = {}
        for after, upto, names in words.ranges(map(words.bucket_of, (*used, *holds)), STEP):
            said = {"owner": owner, "epoch": epoch, "upto": upto, "rows": told, "count": STEP}
            said["used"] = [each for each in words.accounts(used) if each[1] in names]
            said["holds"] = [each for each in words.accounts(holds) if each[1] in names]
            while after is not None:
                said |= {"after": after, "kind": kind, "is_counted": is_counted}
                following, found, kind, is_counted = await self._run("bury", said, days)
                posted |= {account: max(amount, posted.get(account, 0)) for account, amount in found}
                after = following or None
        self._owners.ended(owner, epoch)
        sums = {account: used.get(account, 0) + holds.get(account, 0) for account in (*used, *holds)}
        money = {account: amount for account, amount in sums.items() if words.is_money(account)}
        self._copy.keep(self._mark, f"{owner}@{epoch}", money, int(now_s() * 1000))
        return posted

    async def expire(self) -> list[str]:
        """See `Store`. Also forgets, a little at a time, what is long over."""
        if monotonic_s() - self._forgot_s > FORGET_EVERY_S:
            self._forgot_s = monotonic_s()
            self._copy.forget(int(now_s() * 1000))
        names: list[str] = []
        try:
            while some := await self._run("expire", {"count": STEP}):
                names += filter(None, some)
        except StoreDown:
            if not names:
                raise
        return names

    async def set_terms(self, terms: Mapping[str, Terms]) -> list[str]:
        """See `Store`. Buckets that were not looked at yet take new terms when they are."""
        self._copy.learn(terms.items())
        said = {"terms": [words.terms_row(rule, each) for rule, each in terms.items()], "count": STEP}
        changed: list[str] = []
        has_more = 1
        while has_more:
            some, has_more = await self._run("set_terms", said)
            changed += some
        return changed

    async def balances(self, rule: str = "") -> list[Balance]:
        """See `Store`. Page by page: not of one moment."""
        found: list[Balance] = []
        while True:
            after = found[-1].bucket if found else ""
            page = await self._run("balances", {"rule": rule, "after": after, "count": PAGE})
            found += map(words.balance_from, page)
            if len(page) < PAGE:
                return found

    async def adjust(self, bucket: str, amount: int, audit: Mapping[str, Any]) -> Balance:
        """See `Store`. `audit["id"]`, if there is one, makes it the same adjustment when asked again."""
        id = str(audit.get("id") or secrets.token_hex(8))
        note = dumps(dict(audit)).decode()
        who = str(audit.get("who", ""))
        said = {"bucket": bucket, "amount": amount, "id": id, "who": who, "audit": note}
        balance = words.balance_from(await self._run("adjust", said))
        self._copy.adjust(self._mark, id, bucket, amount, int(now_s() * 1000))
        return balance

    async def rebuild(self) -> None:
        """Done by the operation that meets a loss: tells what this host's owners have, and posts again what
        its own copy says. The larger of what is told and what is there holds, so it may be told twice.
        Nothing is granted for 1.5 s after the first host has: the others tell theirs meanwhile, each at its
        next operation."""
        copy = self._copy
        told = words.rebuild_told(self._owners.states(), copy.terms(), copy.posted(), copy.adjusted(), STEP)
        for part in told:
            await self._run("rebuild", {**part, "grace_ms": GRACE_MS})

    async def spend(self, by: Sequence[str], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        """See `Store`. By "day" (UTC), key, team, model, target: other columns are a `ValueError`. Whole days
        come from sums, parts of days from the last 100,000 rows."""
        if unknown := set(by) - {"day", *words.GROUPS}:
            raise ValueError(f"no sums are kept by {', '.join(sorted(unknown))}")
        first, last = -(-since_ms // words.DAY_MS), until_ms // words.DAY_MS
        found: list[tuple[Mapping[str, str], str, int]] = []
        days = await self._ask(self._client.zrangebyscore(self._tag + "days", first, last - 1))
        for day in days if first < last else ():
            sums = await self._ask(self._client.hgetall(f"{self._tag}spend:{day}"))
            for field, amount in sums.items():
                *group, what = field.split("\n")
                found.append(({"day": words.date_of(int(day)), **_columns(group)}, what, int(amount)))
        if first > last:
            parts = [(since_ms, until_ms)]
        else:
            parts = [(since_ms, first * words.DAY_MS), (last * words.DAY_MS, until_ms)]
        for start, end in parts:
            async for row in self._rows(start, end):
                columns = {
                    "day": words.date_of(words.day_of(words.time_of(row))),
                    **_columns(words.group_of(row)),
                }
                found += [(columns, what, amount) for what, amount in words.sums_of(row).items()]
        return words.grouped(found, by)

    async def verify(self) -> list[str]:
        """See `Store`. Each account is looked at in one moment."""
        accounts: set[str] = set()
        for name in ("posted", "charged", "entered"):
            accounts |= (await self._hash(name)).keys()
        wrong, names = [], sorted(accounts)
        for start in range(0, len(names), PAGE):
            page = await self._run("verify", {"accounts": names[start : start + PAGE]})
            wrong += words.disagreements(page)
        for balance in await self.balances():
            if balance.held < 0 or balance.idle < 0:
                wrong.append(f"{balance.bucket}: {balance.held} held and {balance.idle} idle")
        return wrong

    async def unfit(self) -> str:
        """See `Store`: what Redis' own settings say."""
        wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always"}
        wrong = []
        for setting, value in wanted.items():
            try:
                found = await self._ask(self._client.config_get(setting))
            except StoreDown as error:
                if isinstance(error.__cause__, ResponseError) and str(error) in _FORBIDDEN:
                    return f"Redis does not let its settings be read ({error}), so nobody knows what it keeps"
                raise
            if (has := found.get(setting)) != value:
                wrong.append(f"{setting} is {has}, not {value}")
        return "; ".join(wrong)

    async def events(self) -> AsyncIterator[Event]:
        """See `Store`. While it is not connected nothing is heard: replies tell what was recalled."""
        own = f"{self._host_id}/"
        while True:
            pubsub = self._client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(*(self._tag + name for name in ("recalled", "acked", "wet")))
                async for message in pubsub.listen():
                    for event in words.events_of(
                        message["channel"].removeprefix(self._tag), message["data"].split("\n")
                    ):
                        if event.kind == "wet" or event.owner.startswith(own) == (event.kind == "recall"):
                            yield event
            except (RedisError, RedisClusterException, OSError):
                await asyncio.sleep(RECONNECT_S)
            finally:
                await pubsub.aclose()

    async def close(self) -> None:
        """Ends the connections and the host's copy."""
        self._copy.close(self._mark)
        await self._client.aclose()

    # asking

    async def _run(self, name: str, said: Mapping[str, Any], days: Sequence[int] = ()) -> Any:
        """An operation's answer. Raises as the class says; `KeyError` where a bucket is not known."""
        keys = [*self._keys, *(f"{self._tag}spend:{day}" for day in days)]
        mark = self._mark
        args = [self._host_id, self.clock, mark.epoch, mark.n, mark.head, secrets.token_hex(8), dumps(said)]
        answer = await self._ask(self._evaluate(name, keys, args))
        match answer:
            case ["LOST", why]:
                if why != "rebuilding" and not self._rebuilding:
                    self._rebuilding = True
                    try:
                        await self.rebuild()
                    finally:
                        self._rebuilding = False
                raise StoreLost(f"the store has lost what was written to it ({why or 'it is empty'})")
            case ["TERMS" | "KEY", *rest]:
                raise KeyError(rest[0] if rest else said["bucket"])
        epoch, n, head, result = answer
        self._mark.follow(epoch, n, head)
        return result

    async def _evaluate(self, name: str, keys: list[str], args: list[Any]) -> Any:
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = _Script(name)
        if script.sha:
            try:
                return await self._client.evalsha(script.sha, len(keys), *keys, *args)
            except NoScriptError:
                pass
        script.sha = await self._client.script_load(script.text)
        return await self._client.evalsha(script.sha, len(keys), *keys, *args)

    async def _ask(self, operation: Any) -> Any:
        """Awaits one command or script; whatever keeps it from being answered in time is `StoreDown`."""
        begun_s = monotonic_s()
        if not self._breaker.lets_through(begun_s):
            operation.close()
            raise StoreDown("the store did not answer lately")
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await operation
        except asyncio.CancelledError:
            self._breaker.left()
            raise
        except (TimeoutError, OSError, RedisError, RedisClusterException) as error:
            reason = reason_of(error)
            if reason == "ResponseError" and "user_script" in str(error):
                # No outage, and asked again it would be the same.
                self._breaker.succeeded()
                raise RuntimeError(f"a script failed: {error}") from error
            self._breaker.failed(monotonic_s(), begun_s)
            is_late = isinstance(error, TimeoutError) and not self._breaker.is_open
            raise (StoreLate if is_late else StoreDown)(reason) from error
        self._breaker.succeeded()
        return answer

    async def _hash(self, name: str) -> dict[str, str]:
        cursor, found = 0, {}
        while True:
            cursor, some = await self._ask(self._client.hscan(self._tag + name, cursor, count=ROWS))
            found.update(some)
            if int(cursor) == 0:
                return found

    async def _rows(self, start_ms: int, end_ms: int) -> AsyncIterator[list[Any]]:
        """The rows of attempts that ended from start to before end, of those that are kept."""
        at = f"{max(0, start_ms - 60_000)}"
        while start_ms < end_ms:
            page = await self._ask(self._client.xrange(self._tag + "rows", at, "+", count=ROWS))
            for id, fields in page:
                row = words.row_from(fields["row"])
                if start_ms <= words.time_of(row) < end_ms:
                    yield row
                at = f"({id}"
            if len(page) < ROWS:
                return


def _columns(group: Sequence[str]) -> dict[str, str]:
    return dict(zip(words.GROUPS, group, strict=True))
