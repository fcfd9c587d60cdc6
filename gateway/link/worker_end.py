"""The worker's end of the link to control, and the keeper's: takes policies, sends log lines, never waits.

Control may be slow, dead or not there yet: lines are held up to 4 MiB, then dropped and counted. They are
held until control says that it has written them, so that its death loses none; a few may then come twice.
Traces go after them, have a bound of their own, and are sent once. Answers for drift go last.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson

from gateway.link.frames import (
    ASK,
    DRIFT,
    HELLO,
    LOG,
    LOGGED,
    PREPARE,
    PREPARED,
    REPLY,
    SWITCH,
    SWITCHED,
    TRACE,
    FrameReader,
    frame,
)

HELD_BYTES = 4 << 20
TRACES_BYTES = 1 << 20
"""What of traces may wait: a fourth, so that they are dropped before lines of the log are."""
ANSWERS_BYTES = 1 << 20
"""What of answers to be looked at may wait. They are sent last, and dropped before all else: those that are
waiting count against the bounds of the others."""
FLUSH_BYTES = 256 << 10
FLUSH_S = 0.05
RECONNECT_S = 0.1
CLOSE_S = 2.0
MAX_QUESTIONS = 4096
"""Questions that may wait for an answer; more are not asked."""


class ControlLink:
    """Connects to control, again and again for ever, and hands over what it says.

    If `on_switch` returns something to wait for, control is told of the switch when that is done.
    """

    def __init__(
        self,
        path: str,
        index: int,
        on_prepare: Callable[[dict[str, Any]], None],
        on_switch: Callable[[str], Awaitable[None] | None],
        on_drop: Callable[[int], None],
        on_trace_drop: Callable[[int], None] = lambda calls: None,
        on_answer_drop: Callable[[int], None] = lambda answers: None,
    ) -> None:
        self._path = path
        self._index = index
        self._on_prepare = on_prepare
        self._on_switch = on_switch
        self._on_drop = on_drop
        self._on_trace_drop = on_trace_drop
        self._on_answer_drop = on_answer_drop
        self._answers: list[bytes] = []
        self._answers_held = 0
        """Bytes of `_answers`."""
        self._traces: list[bytes] = []
        self._traces_held = 0
        """Bytes of `_traces`."""
        self._lines: list[bytes] = []
        self._held = 0
        """Bytes of `_lines`."""
        self._sent: list[bytes] = []
        self._sent_held = 0
        """Bytes of `_sent`: what control has not said yet that it has written."""
        self._timer: asyncio.TimerHandle | None = None
        self._end: _End | None = None
        self._dial: asyncio.Task[None] | None = None
        self._switching: set[asyncio.Task[None]] = set()
        self._questions: dict[int, tuple[bytes, Callable[[dict[str, Any]], None]]] = {}
        self._asked = 0
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Begins to connect; returns at once."""
        self._dial = self._loop.create_task(self._keep_connected())

    def log(self, line: bytes) -> None:
        """Takes one line, with its line end. Dropped and counted if 4 MiB are waiting."""
        held = self._held + len(line)
        if held + self._sent_held > HELD_BYTES:
            self._on_drop(1)
            return
        self._held = held
        self._lines.append(line)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)
        elif held > FLUSH_BYTES:
            self._send()

    def trace(self, line: bytes) -> None:
        """Takes the trace of a call, a line. Dropped and counted if 1 MiB is waiting."""
        held = self._traces_held + len(line)
        if held > TRACES_BYTES:
            self._on_trace_drop(1)
            return
        self._traces_held = held
        self._traces.append(line)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)
        elif held > FLUSH_BYTES:
            self._send()

    def answer(self, told: bytes) -> None:
        """Takes an answer to be looked at. Dropped and counted if 1 MiB is waiting, or nobody is there."""
        held = self._answers_held + len(told)
        if held > ANSWERS_BYTES or self._end is None or self._end.is_full:
            self._on_answer_drop(1)
            return
        self._answers_held = held
        self._answers.append(told)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)
        elif held > FLUSH_BYTES:
            self._send()

    def ask(self, question: dict[str, Any], told: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Asks control; `told` gets the reply, later and once, however often control dies meanwhile.

        Returns what to call when nobody waits any more; the question is forgotten then.
        """
        self._asked += 1
        number = self._asked
        if len(self._questions) < MAX_QUESTIONS:
            message = frame(ASK, orjson.dumps({"n": number, **question}))
            self._questions[number] = (message, told)
            if self._end is not None and self._end.transport is not None:
                self._end.transport.write(message)

        def leave() -> None:
            self._questions.pop(number, None)

        return leave

    async def close(self) -> None:
        """Closes when control has written what is left (2 s at most; then it is dropped and counted)."""
        deadline_s = self._loop.time() + CLOSE_S
        self._send()
        while (self._lines or self._sent or self._traces) and self._loop.time() < deadline_s:
            self._send()
            await asyncio.sleep(0.01)
        if self._dial is not None:
            self._dial.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._lines or self._sent:
            self._on_drop(len(self._lines) + len(self._sent))
        if self._traces:
            self._on_trace_drop(len(self._traces))
        if self._end is not None and self._end.transport is not None:
            self._end.transport.abort()
            await self._end.lost.wait()

    async def _keep_connected(self) -> None:
        while True:
            try:
                _, end = await self._loop.create_unix_connection(lambda: _End(self), self._path)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            self._end = end
            hello = orjson.dumps({"index": self._index, "pid": os.getpid()})
            transport = cast(asyncio.WriteTransport, end.transport)
            transport.write(frame(HELLO, hello))
            transport.writelines(message for message, _ in self._questions.values())
            await end.lost.wait()
            self._end = None
            await asyncio.sleep(RECONNECT_S)

    def _flush(self) -> None:
        self._timer = None
        self._send()
        if self._lines or self._traces or self._answers:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    def _send(self) -> None:
        """Sends what is held, unless nobody is there or it takes too slowly: the log first."""
        end = self._end
        if end is None or end.transport is None:
            return
        if self._lines and not end.is_full:
            end.transport.write(frame(LOG, b"".join(self._lines)))
            self._sent += self._lines
            self._sent_held += self._held
            self._lines, self._held = [], 0
        if self._traces and not end.is_full:
            end.transport.write(frame(TRACE, b"".join(self._traces)))
            self._traces, self._traces_held = [], 0
        if self._answers and not end.is_full:
            end.transport.write(frame(DRIFT, b"".join(self._answers)))
            self._answers, self._answers_held = [], 0

    def take(self, kind: int, payload: bytes) -> None:
        """One message of control's."""
        end = self._end
        if kind == LOGGED:
            lines = int(payload)
            self._sent_held -= sum(map(len, self._sent[:lines]))
            del self._sent[:lines]
        elif kind == PREPARE:
            tables = orjson.loads(payload)
            answer: dict[str, str] = {"hash": tables["hash"]}
            try:
                self._on_prepare(tables)
            except (
                Exception
            ) as error:  # whatever is wrong with the tables, the worker goes on with its policy
                answer["error"] = type(error).__name__
            self._reply(end, PREPARED, answer)
        elif kind == SWITCH:
            hash_ = orjson.loads(payload)["hash"]
            done = self._on_switch(hash_)
            if done is None:
                self._reply(end, SWITCHED, {"hash": hash_})
            else:
                task = self._loop.create_task(self._reply_after(done, end, hash_))
                self._switching.add(task)
                task.add_done_callback(self._switching.discard)
        elif kind == REPLY:
            reply = orjson.loads(payload)
            _, told = self._questions.pop(reply["n"], (b"", None))
            if told is not None:
                told(reply)

    def lost(self) -> None:
        """Control has gone, and with it what it had not written: the next one gets that again."""
        self._on_answer_drop(len(self._answers))
        self._answers, self._answers_held = [], 0
        self._lines, self._sent = self._sent + self._lines, []
        self._held, self._sent_held = self._sent_held + self._held, 0
        if self._lines and self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    async def _reply_after(self, done: Awaitable[None], end: _End | None, hash_: str) -> None:
        await done
        self._reply(end, SWITCHED, {"hash": hash_})

    @staticmethod
    def _reply(end: _End | None, kind: int, answer: dict[str, str]) -> None:
        if end is not None and end.transport is not None:
            end.transport.write(frame(kind, orjson.dumps(answer)))


class _End(asyncio.Protocol):
    """One connection to control."""

    def __init__(self, link: ControlLink) -> None:
        self._link = link
        self._reader = FrameReader()
        self.transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()
        self.is_full = False
        """True while control does not read: nothing more is written, the link holds and then drops."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=FLUSH_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._link.lost()
        self.lost.set()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._reader.feed(data):
                self._link.take(kind, payload)
        except ValueError:
            if self.transport is not None:
                self.transport.abort()
