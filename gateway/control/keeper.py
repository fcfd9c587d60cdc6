"""The keeper process: owns the store of limits and budgets, and does nothing else, so that no scrape, reload
or report delays a grant."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvloop

from gateway.control import store_choice
from gateway.control.books import Books
from gateway.control.burials import Burials
from gateway.control.exchanges import Exchanges
from gateway.control.kept_store import LONGEST_RETRY_S, KeptStore
from gateway.control.store_choice import EMBEDDED, RECALL_S, CannotOpen, Choice, kind_of
from gateway.link.frames import KEEPER
from gateway.link.journal import Journaled
from gateway.link.keeper_end import LedgerEnd, LedgerServer
from gateway.link.worker_end import ControlLink
from gateway.quota.contract import MONEY, RATE, ROLLING, Store, StoreDown, Terms
from gateway.telemetry.diagnostics import report, report_escaped, say
from gateway.telemetry.meters import KeeperMeters
from gateway.telemetry.pulse import Pulse
from gateway.telemetry.slots import SlotFile

EXPIRE_S = 1.0
EXAMINE_EVERY = 5
"""Every so many seconds the store's durability is examined."""
FINISH_S = 5.0
"""How long the last exchanges may take at the end; the supervisor waits 8 s."""

Opener = Callable[[Mapping[str, Any], Path], Awaitable[Store]]
"""Opens the store that a `store` table names, in a state folder."""


class Rules(NamedTuple):
    """What the keeper needs of a policy."""

    terms: dict[str, Terms]
    """By rule."""
    store: dict[str, Any]
    must_last: frozenset[str]
    """Rules of strict budgets: what the store has promised to keep may not be lost."""


class Keeper:
    """The parts of the keeper, and what they ask of one another."""

    def __init__(self, options: argparse.Namespace, opener: Opener) -> None:
        self._options = options
        self._state = Path(options.state)
        self._opener = opener
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.slots = SlotFile.open(options.slots)
        self._store = KeptStore(KeeperMeters(self.slots), self._store_changed)
        self._exchanges = Exchanges(self._store)
        self._books = Books(self._store)
        self._burials = Burials(Path(options.journals), self._settle)
        self._server = LedgerServer(self)
        self._link = ControlLink(
            options.control_socket, KEEPER, self._prepare, self._switch, lambda lines: None
        )
        self._choice = Choice(self._state)
        self._kind = ""
        """Of the store of this run; "" before it is chosen."""
        self._where: str | None = None
        self._is_open = asyncio.Event()
        self._failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._prepared: dict[str, Rules] = {}
        self._rules: Rules | None = None
        self._terms_are_due = False
        self._setting_terms = asyncio.Lock()

    async def start(self) -> None:
        """Takes connections from now on; the store is opened when it is known which."""
        if self._choice.kept() == EMBEDDED:
            self._choose(None, {})
        await self._server.start(socket.socket(fileno=self._options.keeper_socket_fd))
        await self._link.start()
        self._start(self._keep_house())

    async def finish(self) -> None:
        """The workers have gone: what they said last is booked, and what they left is settled."""
        # Without a store nobody was given anything, and nobody waits for one that is only now looked for.
        if self._is_open.is_set():
            if self._serving:
                await asyncio.wait(self._serving, timeout=FINISH_S)
            with suppress(StoreDown, TimeoutError):
                async with asyncio.timeout(1):
                    await self._burials.all()
        self._server.close()
        for task in (*self._serving, *self._tasks):
            task.cancel()
        await self._link.close()
        await self._store.close()

    # policy

    def _prepare(self, tables: Mapping[str, Any]) -> None:
        """Reads what it needs of a policy. Raises whatever is wrong with it."""
        rules, stamp = tables.get("rules", ()), tables.get("stamp", 0)
        store = dict(tables.get("store") or {})
        self._prepared = {
            tables["hash"]: Rules(
                {rule["name"]: _terms(rule, stamp) for rule in rules},
                store,
                frozenset(
                    rule["name"] for rule in rules if _must_last(rule) and not store.get("accept_lossy")
                ),
            )
        }

    def _switch(self, hash_: str) -> Awaitable[None]:
        """Puts it in force; control is told when the store has the new limits, or cannot be asked."""
        self._rules = rules = self._prepared[hash_]
        self._terms_are_due = bool(rules.terms)
        where = rules.store.get("redis")
        if not self._kind:
            self._choose(where, rules.store)
        elif where != self._where:
            say("the policy names another store; it is used from the next start of the gateway on")
        return self._put_in_force(rules)

    async def _put_in_force(self, rules: Rules) -> None:
        await self._examine()
        with suppress(StoreDown):
            await self._set_terms()

    async def _examine(self) -> None:
        must_last = frozenset() if self._rules is None else self._rules.must_last
        await self._store.examine(must_last=bool(must_last))
        self._exchanges.withheld = must_last if self._store.why else frozenset()

    async def _set_terms(self) -> None:
        """The newest terms, unless the store has them. Raises `StoreDown`; they are set when it is up."""
        async with self._setting_terms:
            rules = self._rules
            if rules is None or not self._terms_are_due:
                return
            edited = await self._store.ask(lambda store: store.set_terms(rules.terms))
            if rules is self._rules:
                self._terms_are_due = False
            if edited:
                self._exchanges.edited(edited)

    # store

    def _choose(self, where: str | None, table: dict[str, Any]) -> None:
        """From now on this is the store of this run: Redis at an address, or the embedded one."""
        self._where, self._kind = where, kind_of(table)
        is_first = not self._choice.kept()
        self._choice.keep(self._kind)
        self._exchanges.recall_s = self._options.recall_s or RECALL_S[self._kind]
        self._start(self._open(table, is_first=is_first))

    async def failed(self) -> str:
        """Returns when the store turns out to be one that cannot be used: why, for the operator."""
        return await self._failure

    async def _open(self, table: dict[str, Any], *, is_first: bool) -> None:
        """Opens the store. The first of this run may not be unfit; later, gateways that serve go on with all
        but strict budgets."""
        try:
            await self._store.open(lambda: self._opener(table, self._state))
        except CannotOpen as error:
            self._failure.set_result(str(error))
            return
        await self._examine()
        if is_first and self._store.why:
            self._failure.set_result("the gateway does not start with strict budgets on such a store")
            return
        self._store.use()
        self._is_open.set()
        while True:
            try:
                async for event in self._store.events():
                    self._exchanges.happened(event)
                return
            except StoreDown:
                await asyncio.sleep(LONGEST_RETRY_S)

    def _store_changed(self) -> None:
        state = self._store.state()
        for end in self._server.ends:
            if end.owner or end.is_control:
                end.store(state)
        if state["up"]:
            self._start(self._catch_up())

    async def _catch_up(self) -> None:
        """What could not be said to the store while it was down."""
        with suppress(StoreDown):
            await self._set_terms()
            await self._burials.all()

    async def _settle(self, journaled: Journaled) -> None:
        owner = self._choice.owner(self._kind, journaled.owner)
        used, holds = journaled.used, journaled.holds
        await self._store.ask(lambda store: store.bury(owner, journaled.epoch, used, holds))
        self._exchanges.settled([owner])

    async def _keep_house(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(EXPIRE_S)
            turn += 1
            try:
                expired = await self._store.ask(lambda store: store.expire())
                if expired:
                    self._exchanges.settled(expired)
                await self._burials.all()
            except StoreDown:
                pass  # the next turn asks again
            except Exception as error:
                report(error)
            if turn % EXAMINE_EVERY == 0:
                await self._examine()

    # what comes in

    def joined(self, end: LedgerEnd) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(end))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, end: LedgerEnd) -> None:
        """One worker's connection; if it ends because the worker does, what that leaves is settled."""
        end.store(self._store.state())
        await self._is_open.wait()
        owner = self._choice.owner(self._kind, end.owner)
        await self._exchanges.serve(owner, end, lambda: self._burials.before(end.owner, end.epoch))
        if not end.journal:
            return
        with suppress(StoreDown):
            await self._burials.of(Path(end.journal), lambda: self._exchanges.is_here(owner, end.epoch))

    def left(self, end: LedgerEnd) -> None:
        """What it said is booked first, by `_serve`."""

    def asked(self, end: LedgerEnd, question: dict[str, Any]) -> None:
        if question["what"] == "state":
            end.result(orjson.dumps({"n": question["n"], "result": self._store.state()}))
        else:
            self._start(self._answer(end, question))

    async def _answer(self, end: LedgerEnd, question: dict[str, Any]) -> None:
        await self._books.answer(question, end)
        if question["what"] in ("adjust", "reset"):
            self._exchanges.filled()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _terms(rule: Mapping[str, Any], stamp: int) -> Terms:
    return Terms(
        kind=rule["kind"],
        limit=rule["limit"],
        burst=rule["burst"],
        # As `quota.rule.Rule.terms`, which workers tell.
        window_ms=rule["window_ms"] if rule["kind"] in (RATE, ROLLING) else 0,
        shadow=rule["mode"] == "shadow",
        stamp=stamp,
    )


def _must_last(rule: Mapping[str, Any]) -> bool:
    return rule["kind"] in (MONEY, ROLLING) and rule["strict"] and rule["mode"] == "enforce"


async def run(keeper: Keeper, life_fd: int) -> int:
    """Until SIGTERM and the end of the workers; the exit code."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(report_escaped)
    loop.add_reader(life_fd, os._exit, 1)
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    # A terminal's Ctrl-C reaches all processes; the supervisor alone decides what it means.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    await keeper.start()
    pulse = Pulse(loop, keeper.slots, "keeper")
    # Messages and buckets make no cycles: the collector need not look through all buckets while a worker
    # waits for a grant, so its last generation may come a thousand times as seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
    waits = [loop.create_task(stopping.wait()), loop.create_task(keeper.failed())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        if not wait.done():
            wait.cancel()
    if waits[1].done() and not waits[1].cancelled():
        say(str(waits[1].result()))
        return 2
    pulse.stop()
    await keeper.finish()
    return 0


def main(arguments: list[str] | None = None, opener: Opener = store_choice.open_store) -> int:
    """Started by the supervisor with everything it needs as flags. 2: the store cannot be used."""
    parser = argparse.ArgumentParser(prog="headgate-keeper")
    for name in ("--state", "--control-socket", "--journals", "--slots"):
        parser.add_argument(name, required=True)
    for name in ("--keeper-socket-fd", "--life-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--recall-s", type=float, default=0.0, help="instead of what fits the store")
    options = parser.parse_args(arguments)
    # Reports run in threads; one that holds the interpreter gives it to a waiting grant after 0.5 ms.
    sys.setswitchinterval(0.0005)

    async def serve() -> int:
        return await run(Keeper(options, opener), options.life_fd)

    return uvloop.run(serve())


if __name__ == "__main__":
    sys.exit(main())
