"""The keeper: its real handling of exchanges, over a store that may be down, and burials of the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from gateway.control.exchanges import Exchanges
from gateway.control.kept_store import KeptStore
from gateway.link.keeper_end import LedgerEnd
from gateway.quota.contract import Exchange, Reply, StoreDown, Terms
from tests.escrow.virtual import Fate, Pipe
from tests.escrow.worker import Worker, World


class Meters:
    """Counts round trips."""

    def __init__(self) -> None:
        self.trips = 0

    def round_trip(self) -> None:
        self.trips += 1

    def answered(self, seconds: float) -> None:
        pass

    def outage(self) -> None:
        pass

    def store_is_up(self, is_up: bool) -> None:
        pass


class Way:
    """To the store, from one life of a keeper. `down`: "" or when it fails, "before" or "after" it did
    what it was asked."""

    def __init__(self, store: Any, seen: Callable[[Exchange, Reply], None]) -> None:
        self._store, self._seen = store, seen
        self.down = ""
        self.is_dead = False
        self.die_after: Callable[[], None] | None = None
        self.replayed: Callable[[str], None] | None = None
        """Hears what was different when an exchange was said twice; None: none is."""
        self.before_edit: Callable[[Mapping[str, Terms]], None] = lambda terms: None
        self.lag_s: Callable[[tuple[Any, ...]], float] | None = None
        """What is asked → how long it is on its way, and then its answer: later ones overtake it."""

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)

        async def asked(*arguments: Any) -> Any:
            await self._travel(arguments)
            if self.down == "before":
                raise StoreDown("down")
            if name == "set_terms":
                self.before_edit(arguments[0])
            result = await operation(*arguments)
            if name == "exchange" and self.replayed is not None:
                await self._replay(operation, arguments[0], result)
            if name == "exchange":
                self._seen(arguments[0], result)
                if self.die_after is not None:
                    die, self.die_after = self.die_after, None
                    die()
                    await asyncio.get_running_loop().create_future()
            await self._travel(arguments)
            if self.down:
                raise StoreDown("down")
            return result

        return asked

    async def _travel(self, arguments: tuple[Any, ...]) -> None:
        if self.lag_s is not None:
            await asyncio.sleep(self.lag_s(arguments))
        if self.is_dead:
            await asyncio.get_running_loop().create_future()

    async def _replay(self, operation: Any, exchange: Exchange, reply: Reply) -> None:
        """P7: the same exchange again changes nothing, and is answered alike."""
        assert self.replayed is not None
        book = self._store.book
        before = {bucket.id: (bucket.total, bucket.out, bucket.spent) for bucket in book.buckets.values()}
        again = await operation(exchange)
        after = {bucket.id: (bucket.total, bucket.out, bucket.spent) for bucket in book.buckets.values()}
        same = (again.granted, again.back, again.slices) == (reply.granted, reply.back, reply.slices)
        if before != after or not same:
            self.replayed(f"P7 {exchange}: {reply} and then {again}")


class Keeper:
    """One life of it. It listens for the workers named in `loop.keepers` until `die`."""

    def __init__(
        self, world: World, store: Any, meters: Meters, seen: Callable[[Exchange, Reply], None]
    ) -> None:
        self.world, self.loop = world, world.loop
        self.way = Way(store, seen)
        kept: Any = KeptStore
        self.kept = kept(meters, self._changed)
        self.exchanges = Exchanges(self.kept, world.loop.time)
        self.pipes: dict[str, Pipe] = {}
        self.ends: set[LedgerEnd] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_dead = False
        self.graves: list[Worker] = []
        """The dead whose journals nobody has read."""

    async def open(self) -> None:
        async def opened() -> Any:
            return self.way

        await self.kept.open(opened)
        self.kept.use()

    def run(self, callback: Callable[[], None]) -> None:
        """Something happens in this process."""
        if not self.is_dead:
            callback()

    def connect(self, worker: Worker, near: Any, fate: Fate, *, in_order: bool = True) -> Any:
        """A worker comes."""
        pipe = Pipe(self.loop, self.world.dice, fate, self.world.fail, in_order=in_order)
        self.pipes[worker.key] = pipe
        far = LedgerEnd(self, self.ends)
        return pipe.join(near, worker.run, far, self.run)

    def die(self) -> None:
        """kill -9: what it had read and not answered is gone; the store keeps what it was told."""
        self.is_dead = self.way.is_dead = True
        for pipe in self.pipes.values():
            pipe.break_()
        for task in self.tasks:
            task.cancel()
        if self.exchanges._deciding is not None:
            self.exchanges._deciding.cancel()
        if self.exchanges._timer is not None:
            self.exchanges._timer.cancel()

    # as `control.keeper.Keeper`

    def joined(self, end: LedgerEnd) -> None:
        task = self.loop.create_task(self._outlive(self._serve(end)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def left(self, end: LedgerEnd) -> None: ...

    def asked(self, end: LedgerEnd, question: dict[str, Any]) -> None: ...

    def _changed(self) -> None:
        for end in self.ends:
            if end.owner:
                end.store(self.kept.state())

    async def _outlive(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BaseException:
            if not self.is_dead:
                raise

    async def _serve(self, end: LedgerEnd) -> None:
        end.store(self.kept.state())

        async def before() -> None:
            for dead in [each for each in self.graves if each.name == end.owner and each.epoch != end.epoch]:
                await self.bury(dead)

        await self.exchanges.serve(end.owner, end, before)
        for dead in [each for each in self.graves if (each.name, each.epoch) == (end.owner, end.epoch)]:
            if not dead.is_cut:
                await self._bury_until(dead)

    async def _bury_until(self, dead: Worker) -> None:
        while dead in self.graves:
            try:
                await self.bury(dead)
            except StoreDown:
                await asyncio.sleep(0.25)

    async def bury(self, dead: Worker) -> None:
        """Reads its journal and settles it; `StoreDown`: later."""
        said = dead.said
        assert said is not None
        await self.kept.ask(lambda store: store.bury(dead.name, dead.epoch, said.used, said.holds))
        if dead in self.graves:
            self.graves.remove(dead)
            dead.path.unlink()
        self.exchanges.settled([dead.name])

    async def expire(self) -> list[str]:
        names: list[str] = await self.kept.ask(lambda store: store.expire())
        if names:
            self.exchanges.settled(names)
        return names

    async def set_terms(self, terms: Any) -> None:
        edited = await self.kept.ask(lambda store: store.set_terms(terms))
        if edited:
            self.exchanges.edited(edited)
