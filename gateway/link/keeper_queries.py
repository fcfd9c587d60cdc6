"""Control's end of the link to the keeper: asks for balances and sums, hears whether the store answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import orjson

from gateway.link.frames import FrameReader, frame
from gateway.link.ledger import PART, QUERY, RESULT, STORE

RECONNECT_S = 0.1
ANSWER_S = 5.0
SUMS_S = 30.0
"""How long a question may take that looks at all rows of a year: 10^6 take 3 s."""
START_S = 5.0
"""How long a keeper may take to be there: it is started when somebody connects."""


class NoAnswer(Exception):
    """The keeper is not there, went away or could not say; a sentence for the operator."""


class WrongQuestion(NoAnswer):
    """The keeper answered that what was asked for is not there or cannot be asked."""


class KeeperQueries:
    """Connects to the keeper, from `start` or the first question on, again and again for ever.

    A question is asked once: what changes a bucket must not be done twice because a keeper died.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._end: _End | None = None
        self._dial: asyncio.Task[None] | None = None
        self._asked = 0
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._rows: dict[int, list[Any]] = {}
        """Question → what has come of its answer."""
        self._is_there = asyncio.Event()
        self.is_up = False
        """Whether the store answers, as last told; False while there is no keeper."""
        self.why = ""
        """Why the store may not be used at all, for an operator."""

    def start(self) -> None:
        """Begins to connect, if it has not yet."""
        if self._dial is None:
            self._dial = asyncio.get_running_loop().create_task(self._keep_connected())

    async def ask(self, what: str, *, within_s: float = ANSWER_S, **details: Any) -> Any:
        """The keeper's answer to a query of `link.ledger`. Raises `NoAnswer`."""
        self.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._is_there.wait()
        end = self._end
        if end is None or end.transport is None:
            raise NoAnswer("The keeper does not answer: it is being started again.")
        self._asked += 1
        number = self._asked
        answer = self._questions[number] = asyncio.get_running_loop().create_future()
        end.transport.write(frame(QUERY, orjson.dumps({**details, "n": number, "what": what})))
        try:
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"The keeper does not answer within {within_s:g} s.") from None
        finally:
            self._questions.pop(number, None)
            self._rows.pop(number, None)

    async def close(self) -> None:
        """Closes; questions under way are not answered."""
        if self._dial is not None:
            self._dial.cancel()
        if self._end is not None and self._end.transport is not None:
            self._end.transport.abort()
            await self._end.lost.wait()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError):
                _, end = await loop.create_unix_connection(lambda: _End(self), self._path)
                self._end = end
                self._is_there.set()
                # From its first question on the keeper tells how the store is.
                if end.transport is not None:
                    end.transport.write(frame(QUERY, b'{"n":0,"what":"state"}'))
                await end.lost.wait()
                self._end = None
                self._is_there.clear()
            await asyncio.sleep(RECONNECT_S)

    def take(self, kind: int, payload: bytes) -> None:
        """One message of the keeper's."""
        said = orjson.loads(payload)
        if kind == STORE:
            self._told(said)
        elif kind == RESULT and said["n"] == 0:
            self._told(said["result"])
        elif kind == PART:
            if said["n"] in self._questions:
                self._rows.setdefault(said["n"], []).extend(said["rows"])
        elif kind == RESULT:
            answer = self._questions.pop(said["n"], None)
            rows = self._rows.pop(said["n"], None)
            if answer is None or answer.done():
                return
            if "error" in said:
                what = WrongQuestion if said.get("wrong") else NoAnswer
                answer.set_exception(what(said["error"]))
            else:
                answer.set_result(said["result"] if rows is None else rows + said["result"])

    def lost(self) -> None:
        """The keeper has gone."""
        self.is_up = False
        self._rows = {}
        questions, self._questions = self._questions, {}
        for answer in questions.values():
            if not answer.done():
                answer.set_exception(
                    NoAnswer(
                        "The keeper does not answer any more: it ended, and whether it did what was asked is "
                        "not known."
                    )
                )

    def _told(self, state: dict[str, Any]) -> None:
        self.is_up, self.why = state["up"], state["why"]


class _End(asyncio.Protocol):
    """One connection to the keeper."""

    def __init__(self, link: KeeperQueries) -> None:
        self._link = link
        self._reader = FrameReader()
        self.transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._link.lost()
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._reader.feed(data):
                self._link.take(kind, payload)
        except ValueError:
            if self.transport is not None:
                self.transport.abort()
