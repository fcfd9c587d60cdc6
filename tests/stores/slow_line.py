"""A socket before a server's that keeps what it is told for a while."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path


class SlowLine:
    """Listens at `path`. What a client says reaches the server `delay_s` later, or up to `longest_s` if that
    is more."""

    def __init__(self, server: Path) -> None:
        self._server, self.path = server, server.with_name("slow")
        self.delay_s = self.longest_s = 0.0
        self._dice = random.Random(1)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> SlowLine:
        self._listening = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server)
        await asyncio.gather(
            self._carry(reader, to_server, True),
            self._carry(from_server, writer, False),
            return_exceptions=True,
        )

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_slow: bool) -> None:
        while data := await source.read(65_536):
            if is_slow:
                await asyncio.sleep(self._dice.uniform(self.delay_s, max(self.delay_s, self.longest_s)))
            sink.write(data)
        sink.close()
