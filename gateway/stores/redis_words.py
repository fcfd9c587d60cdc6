"""Operations on a shared store as its scripts read them, and their answers. No I/O.

What is told goes as one JSON document: whole numbers below 2^53 stay exact in Lua. Answers come as Redis'
own arrays and integers, which Lua's JSON would round at 14 digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from gateway.quota.contract import Balance, Event, Exchange, OwnerState, Recall, Refusal, Reply, Terms
from gateway.wire.json import dumps

MOST = 1 << 53
"""Numbers of scripts are exact below this: 9 million dollars in nano-dollars."""
DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
GROUPS = ("key", "team", "model", "target")
"""The columns of a row by which sums are kept, besides the day."""
SUMS = (
    "calls",
    "input",
    "cached_input",
    "cache_write",
    "audio_input",
    "output",
    "reasoning",
    "audio_output",
    "nanousd",
)
"""What is summed."""
_TIME, _ID, _GROUPS, _TOKENS, _NANOUSD, _CHARGES = 0, slice(0, 3), slice(3, 7), slice(9, 16), 16, 18
"""Where a usage row has them (`Exchange.rows`)."""


def bucket_of(account: str) -> str:
    """The bucket of an account."""
    return account.partition("#")[0]


def is_money(account: str) -> bool:
    """Whether an account is of money: these alone name a window."""
    return not bucket_of(account).endswith("|") and bucket_of(account).count("|") == 2


def ranges(names: Iterable[str], count: int) -> list[tuple[str | None, str, set[str]]]:
    """Names in the order of their bytes, at most `count` at once: (after which, up to which, names),
    without a hole between them. The first begins with "", the last ends with ""."""
    pages = _pages(sorted(set(names), key=str.encode), count) or [[]]
    ends = ["", *(page[-1] for page in pages[:-1]), ""]
    return [(ends[place], ends[place + 1], set(page)) for place, page in enumerate(pages)]


def terms_row(name: str, terms: Terms) -> list[Any]:
    """Terms of a bucket, or of a rule."""
    return [name, *terms[:4], int(terms.shadow), terms.stamp]


def terms_from(said: Sequence[Any]) -> tuple[str, Terms]:
    """The reverse of `terms_row`."""
    name, kind, limit, burst, window_ms, shadow, stamp = said
    return name, Terms(kind, limit, burst, window_ms, bool(shadow), stamp)


def accounts(sums: Mapping[str, int]) -> list[list[Any]]:
    """Account → amount as [account, bucket, amount]."""
    return [[account, bucket_of(account), amount] for account, amount in exact(sums).items()]


def exact(sums: Mapping[str, int]) -> Mapping[str, int]:
    """The same. `OverflowError`: one of them is too large for a script to be exact."""
    if sums and (max(sums.values()) >= MOST or min(sums.values()) <= -MOST):
        raise OverflowError(f"an amount is not below 2^53: {max(sums.values(), key=abs)}")
    return sums


def day_of(time_ms: int) -> int:
    """Days since the epoch, in UTC."""
    return time_ms // DAY_MS


def date_of(day: int) -> str:
    """A day as 2026-11-25."""
    return date.fromordinal(_EPOCH + day).isoformat()


def sums_of(row: Sequence[Any]) -> dict[str, int]:
    """What a usage row adds to the sums of its group."""
    tokens = (max(0, int(count)) for count in row[_TOKENS])
    return dict(zip(SUMS, (1, *tokens, row[_NANOUSD] or 0), strict=True))


def group_of(row: Sequence[Any]) -> tuple[str, ...]:
    """The group of a usage row, as `GROUPS`."""
    return tuple(str(name) for name in row[_GROUPS])


def time_of(row: Sequence[Any]) -> int:
    """When a usage row's attempt ended: milliseconds since the epoch."""
    return int(row[_TIME])


def rows_told(rows: Sequence[Sequence[Any]]) -> tuple[list[list[Any]], list[int]]:
    """Usage rows for a script, and the days that they are of: [JSON, index of the day from 1, group, sums,
    charges, day, what it is known by]."""
    days = sorted({day_of(time_of(row)) for row in rows})
    told = [
        [
            dumps(list(row), default=list).decode(),
            days.index(day_of(time_of(row))) + 1,
            "\n".join(group_of(row)) + "\n",
            {name: amount for name, amount in sums_of(row).items() if amount},
            dict(row[_CHARGES]),
            day_of(time_of(row)),
            "\n".join(map(str, row[_ID])),
        ]
        for row in rows
    ]
    return told, days


def row_from(text: str) -> list[Any]:
    """A usage row that a script kept."""
    row: list[Any] = json.loads(text)
    return row


def exchange_told(exchange: Exchange, rows: list[list[Any]], dry_ms: int) -> dict[str, Any]:
    """An exchange for its script."""
    names = {bucket for want in exchange.wants for bucket in (*want.needs, *want.deposit)}
    names.update(exchange.terms, exchange.returned, exchange.wishes, exchange.held)
    names.update(map(bucket_of, exchange.used))
    return {
        "owner": exchange.owner,
        "epoch": exchange.epoch,
        "seq": exchange.seq,
        "final": exchange.final,
        "names": list(names),
        "terms": [terms_row(bucket, terms) for bucket, terms in exchange.terms.items()],
        "used": accounts(exchange.used),
        "returned": list(exact(exchange.returned).items()),
        "held": list(exchange.held.items()),
        "rows": rows,
        "wants": [
            [want.id, want.who, list(exact(want.needs).items()), list(want.deposit.items())]
            for want in exchange.wants
        ],
        "wishes": list(exchange.wishes.items()),
        "acks": list(exchange.acks),
        "dry_ms": dry_ms,
    }


def reply_from(said: Sequence[Any]) -> Reply:
    """An exchange's answer."""
    seq, granted, refused, parked, recalls, back, slices, shut, over, edited, owners = said
    return Reply(
        seq=seq,
        granted=granted,
        refused=[
            Refusal(want, bucket, wait, dry, bool(held), free)
            for want, bucket, wait, dry, held, free in refused
        ],
        parked=dict(parked),
        recalls={bucket: [Recall(*each) for each in asked] for bucket, asked in recalls},
        back=dict(back),
        slices=dict(slices),
        shut=shut,
        over=list(dict.fromkeys(over)),
        edited=dict(map(terms_from, edited)),
        owners=owners,
    )


def events_of(channel: str, said: Sequence[str]) -> list[Event]:
    """What was published: a bucket, and of each owner that is asked for it its name, epoch and number; an
    owner's name, epoch and number, and what it acknowledges; or what became wet."""
    if channel == "recalled":
        bucket, *owners = said
        named = zip(owners[::3], owners[1::3], owners[2::3], strict=True)
        return [Event("recall", (bucket,), owner, int(epoch), int(seq)) for owner, epoch, seq in named]
    if channel == "acked":
        owner, epoch, seq, *buckets = said
        return [Event("acked", buckets, owner, int(epoch), int(seq))]
    return [Event("wet", said)]


def balance_from(said: Sequence[Any]) -> Balance:
    """One bucket's balance."""
    bucket, terms = terms_from(said[:7])
    return Balance(bucket, terms, *said[7:])


def rebuild_told(
    owners: Iterable[OwnerState],
    terms: Mapping[str, Terms],
    posted: Iterable[tuple[str, str, int]],
    adjusted: Iterable[tuple[str, str, int]],
    count: int,
) -> Iterator[dict[str, Any]]:
    """What a host knows, for the script that puts a store together again, in parts of up to `count` sums."""
    yield _part(terms=[terms_row(rule, each) for rule, each in terms.items()])
    sums = [[entity, account, bucket_of(account), amount] for entity, account, amount in posted]
    for some in _pages(sums, count):
        yield _part([sum[2] for sum in some], posted=some)
    for some in _pages([list(each) for each in adjusted], count):
        yield _part([each[1] for each in some], adjusted=some)
    for state in owners:
        names = list({*state.got, *state.returned, *state.held, *map(bucket_of, state.used)})
        for some in _pages(names, count) or [[]]:
            has = set(some)
            told = [
                state.owner,
                state.epoch,
                state.seq,
                [each for each in state.got.items() if each[0] in has],
                [each for each in accounts(state.used) if each[1] in has],
                [each for each in state.returned.items() if each[0] in has],
                [each for each in state.held.items() if each[0] in has],
            ]
            yield _part(some, owners=[told])


def _part(names: Iterable[str] = (), **told: Any) -> dict[str, Any]:
    return {"terms": [], "posted": [], "adjusted": [], "owners": [], "names": list(set(names)), **told}


def _pages(items: list[Any], count: int) -> list[list[Any]]:
    return [items[start : start + count] for start in range(0, len(items), count)]


def grouped(sums: Iterable[tuple[Mapping[str, str], str, int]], by: Sequence[str]) -> list[dict[str, Any]]:
    """(columns, what, amount) added up by some of the columns: a dict for each group, in order."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for columns, what, amount in sums:
        key = tuple(columns[name] for name in by)
        group = groups.setdefault(key, {**dict(zip(by, key, strict=True)), **dict.fromkeys(SUMS, 0)})
        group[what] += amount
    return [groups[key] for key in sorted(groups)]


def disagreements(found: Iterable[Sequence[Any]]) -> list[str]:
    """What is wrong with [account, posted, charged by rows, entered, spent as its balance says]."""
    wrong = []
    for account, posted, charged, entered, spent in found:
        if posted != charged + entered:
            wrong.append(f"{account}: {posted} posted, but its rows and entries say {charged + entered}")
        if posted != spent:
            wrong.append(f"{account}: {posted} posted, but its balance says {spent}")
    return wrong
