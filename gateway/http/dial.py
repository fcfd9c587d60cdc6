"""Opening a connection to a provider: plain or TLS, directly or through an egress proxy."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar
from urllib.parse import unquote, urlsplit

P = TypeVar("P", bound=asyncio.BaseProtocol)

_MAX_PROXY_HEAD = 16 * 1024


class CannotConnect(Exception):
    """Refused, unresolvable, unreachable, TLS not agreed, or the proxy said no."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to connect and how; pools are kept by it, so equal settings share connections over reloads."""

    scheme: str
    host: str
    port: int
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    verify: bool = True
    proxy: str | None = field(default=None, repr=False)


def new_tls_context(origin: Origin) -> ssl.SSLContext:
    """Verifies against the system's CAs, or against `ca_file` alone where one is given.

    Raises OSError or ssl.SSLError if a file cannot be read.
    """
    context = ssl.create_default_context(cafile=origin.ca_file)
    if not origin.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if origin.client_cert is not None:
        context.load_cert_chain(origin.client_cert, origin.client_key)
    context.set_alpn_protocols(["http/1.1"])
    return context


tls_context = lru_cache(maxsize=256)(new_tls_context)
"""The same one again for the same origin, until `cache_clear`."""


async def dial(origin: Origin, protocol: Callable[[], P]) -> P:
    """A connected protocol. Raises `CannotConnect`; the caller bounds the time."""
    try:
        tls = tls_context(origin) if origin.scheme == "https" else None
        if origin.proxy is not None and tls is not None:
            return await _through_proxy(origin, origin.proxy, tls, protocol)
        host, port = origin.host, origin.port
        if origin.proxy is not None:
            proxy = urlsplit(origin.proxy)
            host, port = proxy.hostname or "", proxy.port or 3128
        loop = asyncio.get_running_loop()
        _, connected = await loop.create_connection(
            protocol, host, port, ssl=tls, server_hostname=origin.host if tls is not None else None
        )
    except (OSError, ValueError) as error:
        raise CannotConnect(type(error).__name__) from error
    return connected


def proxy_authorization(proxy: str) -> str | None:
    """The Proxy-Authorization value for a proxy URL with a user in it (RFC 7617)."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


async def _through_proxy(origin: Origin, proxy: str, tls: ssl.SSLContext, protocol: Callable[[], P]) -> P:
    """CONNECT (RFC 9110 9.3.6), then TLS to the provider inside the tunnel."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(proxy)
    transport, tunnel = await loop.create_connection(_Tunnel, parts.hostname or "", parts.port or 3128)
    try:
        authority = f"{origin.host}:{origin.port}"
        head = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n"
        credentials = proxy_authorization(proxy)
        if credentials is not None:
            head += f"proxy-authorization: {credentials}\r\n"
        transport.write(head.encode() + b"\r\n")
        await tunnel.opened
        connected = protocol()
        secured = await loop.start_tls(transport, connected, tls, server_hostname=origin.host)
        if secured is None:
            raise CannotConnect("TLS")
    except BaseException:
        transport.abort()
        raise
    connected.connection_made(secured)
    return connected


class _Tunnel(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self._head = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.opened.done():
            return
        if b"\r\n\r\n" in self._head:
            words = self._head.split(b" ", 2)
            if len(words) > 1 and words[1].startswith(b"2"):
                self.opened.set_result(None)
            else:
                self.opened.set_exception(CannotConnect("proxy refused"))
        elif len(self._head) > _MAX_PROXY_HEAD:
            self.opened.set_exception(CannotConnect("proxy"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(CannotConnect("proxy closed"))
