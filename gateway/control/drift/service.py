"""The drift service: takes answers without ever waiting, has them judged by a thread of its own, tells what
that finds.

The thread may use a share of one core and passes over what is more.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.clock import monotonic_s, now_s
from gateway.control.drift.acting import standing_of
from gateway.control.drift.texts import Texts
from gateway.control.exposition import Sample
from gateway.link.answers import count, unpack
from gateway.policy.drift_actions import Standing
from gateway.telemetry import drift_table
from gateway.telemetry.diagnostics import report, say
from gateway.telemetry.meters import ControlMeters

if TYPE_CHECKING:
    from gateway.control.drift.desk import Desk, Name, Order
    from gateway.drift.features import Reader
    from gateway.drift.identity import Change

WAITING_BYTES = 8 << 20
"""Answers that wait for the thread."""
CLOSE_S = 5.0
STATES = {"off": 0, "learning": 1, "ok": 2, "notice": 3, "drift": 4}
Told = Callable[[dict[str, Any]], Awaitable[None]]
Watch = Mapping[str, Any]


class DriftService:
    """`path` is the file of a gateway that judges alone. `watch` gives the policy's table `drift_watch`
    (None: no policy yet). `tell` is awaited with each alarm, once it is written down, and again after a
    restart if it had not returned; `stood` is called in the loop when other alarms stand. Where the policy's
    store is Redis the gateways on it judge together (`shared`)."""

    def __init__(
        self,
        path: Path,
        watch: Callable[[], Watch | None],
        meters: ControlMeters,
        tell: Told,
        stood: Callable[[frozenset[Standing]], None],
    ) -> None:
        self._path = path
        self._watch = watch
        self._meters = meters
        self._tell = tell
        self._stood = stood
        self._alarming: frozenset[Standing] = frozenset()
        self._queue: queue.SimpleQueue[bytes | tuple[Order, Future[Any]] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._standing: list[dict[str, Any]] = []
        self._alarms: Mapping[tuple[str, ...], int] = {}
        self._texts: Texts | None = None
        """Where the policy asks for texts. The thread's."""
        self._since_s = self._used_s = 0.0

    def start(self) -> None:
        """Takes up what was left, if there is anything. There must be a policy by now."""
        self._loop = asyncio.get_running_loop()
        watch = self._watch()
        is_shared = watch is not None and watch["redis"] is not None and watch["models"]
        if self._path.exists() or is_shared or self._waiting:
            self._begin()

    def _begin(self) -> None:
        # Not before it is needed: 25 MB, and 0.1 s, that a gateway whose answers nobody watches does without.
        if self._thread is None and self._loop is not None:
            self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
            self._thread.start()

    def take(self, payload: bytes) -> None:
        """Answers of a worker (`link.answers`). Passed over and counted if too many wait."""
        if self._waiting > WAITING_BYTES:
            self._meters.drift_skipped("queue_full", count(payload))
            return
        self._waiting += len(payload)
        self._queue.put(payload)
        self._begin()

    async def ask(self, order: Order) -> Any:
        """Has something done by the thread; its result. Raises what it raises."""
        self._begin()
        done: Future[Any] = Future()
        self._queue.put((order, done))
        return await asyncio.wrap_future(done)

    def streams(self) -> list[dict[str, Any]]:
        """What stands of each stream, a second old at most (`Judge.told`)."""
        return self._standing

    async def alarms(self, most: int = 100) -> list[dict[str, Any]]:
        """The latest, newest first."""
        return list(await self.ask(lambda desk: desk.alarms(most)))

    async def exemplars(self, name: Name) -> list[dict[str, str]]:
        """Answers since the change that an alarm of a stream names, as {"hash", "text"}: none unless the
        policy has texts kept, and this gateway saw them."""
        named = [
            digest
            for stream in self._standing
            if (stream["model"], stream["target"]) == name and stream["alarm"] is not None
            for digest in stream["alarm"]["exemplars"]
        ]
        told: list[dict[str, str]] = await self.ask(
            lambda desk: [] if self._texts is None else self._texts.told(named, now_s())
        )
        return told

    async def probed(self, name: Name, at_s: float) -> None:
        """Probes saw a target change: an alarm of its answers is confirmed by that."""
        with suppress(LookupError):  # nobody's answers of it are watched
            await self.ask(lambda desk: desk.change("probed", name, label="", config="", at_s=at_s))

    def close(self) -> None:
        """Writes down what it knows."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(CLOSE_S)
        for task in self._telling:
            task.cancel()

    def samples(self) -> Iterator[Sample]:
        """The gauges. May be called from any thread."""
        for stream in self._standing:
            yield from _samples(stream)
        for series, alarms in self._alarms.items():
            yield drift_table.DRIFT_ALARMS, series, alarms

    # desk.Outcomes

    def skipped(self, reason: str, answers: int = 1) -> None:
        self._meters.drift_skipped(reason, answers)

    def analyzed(self, name: Name) -> None:
        self._meters.drift_analyzed(*name)

    def identity_changed(self, name: Name, change: Change) -> None:
        self._meters.identity_changed(*name, change.field)

    def counts(self, alarms: Mapping[tuple[str, ...], int]) -> None:
        self._alarms = alarms

    def standing(self, streams: list[dict[str, Any]]) -> None:
        self._standing = streams
        alarming = standing_of(streams)
        if alarming != self._alarming:
            self._alarming = alarming
            self._in_loop(lambda: self._stood(alarming))

    def tell(self, alarm: dict[str, Any]) -> None:
        if self._texts is not None:
            self._texts.hold((alarm["model"], alarm["target"]), alarm["exemplars"])

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(self._told(alarm))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

        self._in_loop(begin)

    def _in_loop(self, act: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:
            return  # the loop has ended; it is told, or done, after the next start

    async def _told(self, alarm: dict[str, Any]) -> None:
        try:
            await self._tell(alarm)
            await self.ask(lambda desk: desk.set_told(alarm["id"]))
        except Exception as error:
            report(error)

    # the thread

    def _run(self) -> None:
        watch = self._watch()
        try:
            desk = self._desk(watch)
        except (sqlite3.Error, ValueError, OSError) as error:
            say(f"drift is not watched: {error}")
            self._refuse()
            return
        self._since_s = monotonic_s()
        running, used, reader = True, None, None
        while running:
            try:
                item = self._queue.get(timeout=desk.pause_s)
            except queue.Empty:
                item = b""
            running = item is not None
            watch = self._watch()
            try:
                if watch is not None and watch is not used:
                    desk.use(watch["models"])
                    reader, used = None, watch
                    self._use_texts(watch["texts_s"])
                if reader is None and watch is not None:
                    reader = _reader(desk, watch)
                if isinstance(item, tuple):
                    _do(desk, *item)
                elif item:
                    self._waiting -= len(item)
                    self._read(desk, reader, item, 1.0 if watch is None else watch["cpu_share"])
                began_s = time.thread_time()
                desk.look(monotonic_s(), last=not running)
                if self._texts is not None:
                    self._texts.expire(now_s())
                self._used_s += time.thread_time() - began_s
            except Exception as error:  # what one answer does must not end the watch over all others
                report(error)
        desk.close()

    def _use_texts(self, keep_s: float | None) -> None:
        """A policy's word on texts; what was kept by another one goes."""
        if keep_s is None:
            self._texts = None
        elif self._texts is None or self._texts.keep_s != keep_s:
            self._texts = Texts(keep_s)

    def _desk(self, watch: Watch | None) -> Desk:
        if watch is not None and watch["redis"] is not None:
            from gateway.control.drift.shared import Shared, log_version
            from gateway.stores.drift_log import DriftLog

            return Shared(DriftLog(watch["redis"], log_version()), self)
        from gateway.control.drift.alone import Alone
        from gateway.control.drift.keeping import DriftFile

        return Alone(DriftFile(self._path), self)

    def _refuse(self) -> None:
        """There is nothing to judge with: whoever asks is told so."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, tuple):
                item[1].set_exception(LookupError("drift is not watched: its file cannot be used"))
            else:
                self._waiting -= len(item)
                self._meters.drift_skipped("no_file", count(item))

    def _read(self, desk: Desk, reader: Reader | None, payload: bytes, share: float) -> None:
        if reader is None:
            self._meters.drift_skipped("store_down", count(payload))
            return
        for told in unpack(payload):
            now = monotonic_s()
            # A second's worth may be used at once; what is not used is not saved up.
            self._used_s = max(0.0, self._used_s - share * (now - self._since_s))
            self._since_s = now
            if self._used_s > share:
                self._meters.drift_skipped("cpu_share")
                continue
            began_s = time.thread_time()
            read = reader.read(told.head, told.request, told.answer)
            if read is None:
                self._meters.drift_skipped("unreadable")
            else:
                name = (told.head["model"], told.head["target"])
                if self._texts is not None:
                    self._texts.keep(name, read.sample.output, read.text, now_s())
                desk.take(name, read)
            took_s = time.thread_time() - began_s
            self._used_s += took_s
            self._meters.drift_took(took_s)


def _reader(desk: Desk, watch: Watch) -> Reader | None:
    """Reads with the policy's key of hashes, or the desk's; None as long as that is not known."""
    from gateway.drift.features import Reader

    own = watch["key"]
    key = desk.key() if own is None else blake2b(own.encode(), digest_size=32).digest()
    return None if key is None else Reader(key, watch["secrets"])


def _do(desk: Desk, order: Order, done: Future[Any]) -> None:
    try:
        done.set_result(order(desk))
    except Exception as error:
        done.set_exception(error)


def _samples(stream: Mapping[str, Any]) -> Iterator[Sample]:
    names = (stream["model"], stream["target"])
    yield drift_table.DRIFT_STATE, names, STATES[stream["state"]]
    yield drift_table.DRIFT_EVIDENCE, names, stream["evidence"]
    yield drift_table.DRIFT_INPUT_EVIDENCE, names, stream["input_evidence"]
    yield drift_table.DRIFT_PERFORMANCE_EVIDENCE, names, stream["performance_evidence"]
    yield drift_table.DRIFT_REFERENCE, names, stream["reference"]
    if stream["alarm"] is not None:
        yield drift_table.DRIFT_CHANGEPOINT, names, stream["alarm"]["since_s"]
    for channel in stream["channels"]:
        labels = (*names, channel["channel"])
        yield drift_table.DRIFT_CHANNEL_EVIDENCE, labels, channel["evidence"]
        yield drift_table.DRIFT_EFFECT, labels, channel["effect"]
        yield drift_table.DRIFT_REFERENCE_VALUE, labels, channel["before"]
        yield drift_table.DRIFT_CURRENT_VALUE, labels, channel["after"]
    for field, value in stream["identity"].items():
        yield drift_table.IDENTITY, (*names, field, value), 1


_TYPES = {"performance": "drift.performance", "probes": "drift.probes"}


def body_of(alarm: Mapping[str, Any], text: str) -> dict[str, Any]:
    """What a webhook is sent of an alarm."""
    return {
        "id": f"drift_{alarm['id']}",
        "type": _TYPES.get(alarm["kind"], "drift.detected"),
        "created_s": round(now_s(), 3),
        "text": text,
        **{name: value for name, value in alarm.items() if name != "id"},
    }
