"""Whole raw requests over a socket, to a line in front of a simulated provider: no 500, hang or traceback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import re
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import httptools

from gateway.pricing.catalogue import Catalogue
from gateway.simulator.server import start
from gateway.simulator.settings import Settings
from tests.fuzz.target import pieces
from tests.fuzz.targets_http import WORDS
from tests.fuzz.transport import Loop
from tests.relaying import Relay, start_relay
from tests.running import KEY, eventually, policy_for

ANSWERS_S = 1.0
"""A request that is whole and not answered by then hangs."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_HEAD = b"POST /v1/%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"


def _post(path: bytes, body: bytes) -> bytes:
    return _HEAD % path + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


_CHAT = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Where?"}]%b}'


class Whole(Loop):
    """A worker's line as callers see it."""

    name = "relay"
    corpus = (
        _post(b"chat/completions", _CHAT % b""),
        _post(b"chat/completions", _CHAT % b',"stream":true'),
        _post(b"chat/completions", _CHAT % b',"n":2')
        + _post(b"chat/completions", _CHAT % b',"max_tokens":3'),
        _post(b"embeddings", b'{"model":"text-embedding-3-small","input":"x"}'),
        _post(b"completions", b'{"model":"gpt-3.5-turbo-instruct","prompt":"x","stream":true}'),
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\napi-key: " + KEY.encode() + b"\r\n\r\n",
        _HEAD % b"chat/completions"
        + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(_CHAT % b"")
        + (_CHAT % b"")
        + b"\r\n0\r\n\r\n",
    )
    tokens = (
        *WORDS,
        b'"',
        b"}",
        b"{",
        b'"stream":true,',
        b'"n":9999,',
        b"null",
        b'"model":',
        b"\\ud800",
        b"1e400",
    )

    def __init__(self) -> None:
        super().__init__()
        self._stack = AsyncExitStack()
        self._folder = tempfile.TemporaryDirectory()
        self._relay: Relay = self.runner.run(self._start())

    async def _start(self) -> Relay:
        provider = await start("127.0.0.1", 0, Settings(output_tokens=3))
        self._stack.push_async_callback(provider.stop)
        policy = policy_for(provider.url)
        return await start_relay(self._stack, Path(self._folder.name) / "line", Catalogue(), policy)

    async def checked(self, data: bytes, draw: random.Random) -> None:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            answer = await self._exchange(pieces(draw, data))
            await eventually(self._is_idle, within_s=ANSWERS_S)
        self._relay.lines.clear()
        assert not said.getvalue(), said.getvalue()
        assert self._relay.server.held_bytes == 0
        statuses = [int(status) for status in _STATUS.findall(answer)]
        assert all(status < 500 or status == 501 for status in statuses), statuses
        assert statuses or not _holds_a_request(data), f"no answer within {ANSWERS_S} s"

    def _is_idle(self) -> bool:
        return not (self._relay.line.exchanges or self._relay.server.connections)

    async def _exchange(self, parts: list[bytes]) -> bytes:
        """What comes back, until nothing more does or, for what is no whole request, at once."""
        reader, writer = await self._relay.connect()
        whole = _holds_a_request(b"".join(parts))
        answer = b""
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            # An answer that has begun may be followed by the next one, which would come at once.
            async with asyncio.timeout(ANSWERS_S if whole else 0.005) as patience:
                while block := await reader.read(65_536):
                    answer += block
                    patience.reschedule(self.loop.time() + 0.003)
        except (TimeoutError, ConnectionError):
            pass
        writer.transport.abort()
        return answer

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        super().close()
        self._folder.cleanup()


def _holds_a_request(data: bytes) -> bool:
    """True if it begins with a whole request, as the parser alone sees it."""
    done = []

    class Callbacks:
        def on_message_complete(self) -> None:
            done.append(True)

    try:
        httptools.HttpRequestParser(Callbacks()).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        pass
    return bool(done)


TARGETS = (Whole,)
