"""A provider that sends bytes as they are given, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
CONTENT = {"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": None}]}
"""A chunk of a stream."""


class Listening:
    """Every request gets `answer`; `heads` and `bodies` are what came."""

    def __init__(self) -> None:
        self.answer = answer_of(GOOD)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The OpenAI base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r")[0]
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(int(length or b"0")))
                writer.write(self.answer)
                if b"\r\ncontent-length: " not in self.answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    def header_names(self) -> set[str]:
        """Of the request that came last."""
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:-2]
        return {line.partition(":")[0] for line in lines}


def answer_of(body: Any, status: int = 200, *headers: tuple[str, str]) -> bytes:
    """A plain answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


def stream_of(*events: Any, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A streamed answer that ends with its connection; an event is JSON, or text as it stands."""
    lines = [
        "HTTP/1.1 200 X",
        "content-type: text/event-stream",
        *(f"{name}: {value}" for name, value in headers),
    ]
    data = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    return ("\r\n".join(lines) + "\r\n\r\n" + data).encode("latin-1")
