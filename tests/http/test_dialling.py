"""Connecting to providers: TLS as the policy says, through a proxy or not, and clear failures."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trustme

from gateway.http.dial import CannotConnect, Origin, dial

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Heard(asyncio.Protocol):
    """Says hello and keeps what comes back."""

    def __init__(self) -> None:
        self.got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.made = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made += 1
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(b"hello")

    def data_received(self, data: bytes) -> None:
        if not self.got.done():
            self.got.set_result(data)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(5))
    await reader.read()
    writer.close()


class Site:
    """A certificate authority and TLS servers with certificates of it."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)
        self._stack = stack
        self._folder = folder

    async def serve(
        self, handler: Handler = echo, *, name: str = "localhost", asks_client: bool = False
    ) -> int:
        """The port of a TLS server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(name).configure_cert(context)
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return await self.plain(handler, context)

    async def plain(self, handler: Handler, context: ssl.SSLContext | None = None) -> int:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, OSError):
                writer.close()

        server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=context)
        self._stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    def client_certificate(self) -> tuple[str, str]:
        """The files of a certificate of ours and of its key."""
        issued = self.authority.issue_cert("headgate")
        issued.private_key_pem.write_to_path(str(self._folder / "client.key"))
        issued.cert_chain_pems[0].write_to_path(str(self._folder / "client.pem"))
        return str(self._folder / "client.pem"), str(self._folder / "client.key")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(tmp_path, stack)


async def says_hello(origin: Origin) -> None:
    heard = await dial(origin, Heard)
    assert await asyncio.wait_for(heard.got, 5) == b"hello"
    assert heard.made == 1
    assert heard.transport is not None
    heard.transport.abort()


async def test_private_authority_is_trusted_where_the_policy_names_it(site: Site) -> None:
    port = await site.serve()
    await says_hello(Origin("https", "localhost", port, ca_file=site.ca_file))


async def test_unknown_authority_and_wrong_name_are_refused(site: Site) -> None:
    port = await site.serve()
    with pytest.raises(CannotConnect):
        await dial(Origin("https", "localhost", port), Heard)
    elsewhere = await site.serve(name="elsewhere.example")
    with pytest.raises(CannotConnect):
        await dial(Origin("https", "localhost", elsewhere, ca_file=site.ca_file), Heard)
    await says_hello(Origin("https", "localhost", elsewhere, verify=False))


async def test_client_certificate_is_shown(site: Site) -> None:
    port = await site.serve(asks_client=True)
    certificate, key = site.client_certificate()
    origin = Origin("https", "localhost", port, ca_file=site.ca_file)
    await says_hello(replace(origin, client_cert=certificate, client_key=key))


async def test_missing_files_and_plain_servers_cannot_be_connected_to(site: Site) -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    port = await site.plain(no_tls)
    for origin in (
        Origin("https", "localhost", port, ca_file="/no/such/file.pem"),
        Origin("https", "localhost", port, verify=False),
        Origin("http", "no-such-host.invalid", 80),
        Origin("http", "127.0.0.1", 1),
    ):
        with pytest.raises(CannotConnect):
            await asyncio.wait_for(dial(origin, Heard), 10)
    await says_hello(Origin("http", "127.0.0.1", await site.plain(echo)))


def proxy(answers: list[bytes], seen: list[bytes]) -> Handler:
    """A proxy that answers CONNECT with the next of `answers` and, if that is a 200, opens the tunnel."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        answer = answers.pop(0)
        writer.write(answer)
        if b" 200 " not in answer:
            writer.close()
            return
        host, _, port = head.split(b" ")[1].decode().partition(":")
        there, to = await asyncio.open_connection(host, int(port))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, to), copy(there, writer), return_exceptions=True)

    return handle


async def test_tls_goes_through_the_proxys_tunnel(site: Site) -> None:
    port = await site.serve()
    seen: list[bytes] = []
    through = await site.plain(proxy([b"HTTP/1.1 200 OK\r\n\r\n"], seen))
    url = f"http://us%65r:pa%20ss@127.0.0.1:{through}"
    await says_hello(Origin("https", "localhost", port, ca_file=site.ca_file, proxy=url))
    assert seen[0].startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % port)
    assert b"proxy-authorization: Basic " + base64.b64encode(b"user:pa ss") in seen[0]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"nonsense\r\n\r\n", b"x" * 20_000]
)
async def test_proxy_that_says_no_is_a_clear_failure(site: Site, answer: bytes) -> None:
    through = await site.plain(proxy([answer], []))
    origin = Origin("https", "localhost", 1, verify=False, proxy=f"http://127.0.0.1:{through}")
    with pytest.raises(CannotConnect):
        await asyncio.wait_for(dial(origin, Heard), 5)


async def test_plain_provider_behind_a_proxy_is_asked_through_it(site: Site) -> None:
    through = await site.plain(echo)
    await says_hello(Origin("http", "provider.invalid", 80, proxy=f"http://127.0.0.1:{through}"))
