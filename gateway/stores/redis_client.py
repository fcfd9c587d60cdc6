"""A Redis client for an address, which never retries; and what is wrong with a server, in a word.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB]                        rediss:// with TLS
    unix://[USER:PASSWORD@]/PATH[?db=DB]
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/SERVICE[/DB]     rediss+sentinel:// with TLS
    redis+cluster://[USER:PASSWORD@]HOST[:PORT],…                   rediss+cluster:// with TLS

Each may end in `?ssl_ca_certs=/PATH` and the like, as redis-py names them. Passwords are percent-encoded.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.exceptions import ConnectionError as Unreachable

_PLAIN = ("redis", "rediss", "unix")
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_CLUSTER = ("redis+cluster", "rediss+cluster")
_REASON = re.compile(
    r"\b(OOM|READONLY|BUSY|LOADING|NOAUTH|WRONGPASS|NOPERM|MISCONF|MASTERDOWN|CLUSTERDOWN|NOREPLICAS)\b"
)
_REASONS = {
    AuthenticationError: "WRONGPASS",
    BusyLoadingError: "LOADING",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
}
"""What the client takes off an error's text, by the class that it makes of it."""


CONNECT_S = 1.0
"""A connection that takes longer to make is given up."""


class _Patient:
    """Of a pool: connections are made to their end though whoever asked has given up, and wait for the next.
    Else a store that is far away, where a connection and one answer take longer than the answer may, would
    never be up again once its connections had broken."""

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        making = asyncio.ensure_future(self._made(args, options))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(self._keep)
            raise

    async def _made(self, args: Any, options: Any) -> Any:
        pool: Any = super()
        async with asyncio.timeout(CONNECT_S):
            return await pool.get_connection(*args, **options)

    def _keep(self, making: asyncio.Future[Any]) -> None:
        if not making.cancelled() and making.exception() is None:
            pool: Any = self
            self._releasing = asyncio.ensure_future(pool.release(making.result()))


class _Pool(_Patient, ConnectionPool):
    """Of one server."""


class _SentinelPool(_Patient, SentinelConnectionPool):
    """Of the master that sentinels name."""


def client_of(url: str, deadline_s: float, *, decode: bool = True) -> Any:
    """A client; connects when it is first asked. Answers are texts, or bytes if not `decode`. `ValueError`:
    not an address, in words without it."""
    options: dict[str, Any] = {
        # A script that was applied and not answered would be applied again, unknown to who asked.
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_S,
        "decode_responses": decode,
        "protocol": 2,
    }
    scheme, _, rest = url.partition("://")
    try:
        if scheme in _PLAIN:
            return Redis.from_pool(_Pool.from_url(url, **options))
        if scheme in _SENTINEL:
            return _sentinel(scheme, rest, options, deadline_s)
        if scheme in _CLUSTER:
            return _cluster(scheme, rest, options)
    except (ValueError, TypeError):
        # The text of it would hold the address, and with it the password.
        raise ValueError("the address of Redis cannot be read") from None
    raise ValueError(f"an address of Redis begins with {', '.join((*_PLAIN, *_SENTINEL, *_CLUSTER))}")


def reason_of(error: Exception) -> str:
    """What is wrong, in a word: never the address, which may hold a password."""
    if found := _REASON.search(str(error)):
        return found[1]
    if isinstance(error, TimeoutError):
        return "no answer in time"
    for kind, name in _REASONS.items():
        if isinstance(error, kind) or isinstance(error.__cause__, kind):
            return name
    if isinstance(error, OSError | Unreachable):
        return "cannot be reached"
    return type(error).__name__


def _sentinel(scheme: str, rest: str, options: dict[str, Any], deadline_s: float) -> Any:
    addresses, login, path, extra = _several(scheme, rest)
    service, _, db = path.partition("/")
    if not service:
        raise ValueError("no service")
    asking = {
        "socket_timeout": deadline_s,
        "socket_connect_timeout": deadline_s,
        "retry": options["retry"],
        **extra,
    }
    sentinel: Any = Sentinel(addresses, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    more = {"connection_pool_class": _SentinelPool, "db": int(db or 0), **options, **login, **extra}
    return sentinel.master_for(service, **more)


def _cluster(scheme: str, rest: str, options: dict[str, Any]) -> Any:
    addresses, login, _, extra = _several(scheme, rest)
    nodes = [ClusterNode(host, port) for host, port in addresses]
    return RedisCluster(startup_nodes=nodes, **{**options, **login, **extra})


def _several(scheme: str, rest: str) -> tuple[list[tuple[str, int]], dict[str, Any], str, dict[str, Any]]:
    """Addresses, login, path and options of a URL with several hosts."""
    rest, _, query = rest.partition("?")
    place, _, path = rest.partition("/")
    login, _, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    extra = dict(parse_url(f"redis://?{query}")) if query else {}
    if scheme.startswith("rediss"):
        extra["ssl"] = True
    return (
        [_address(host) for host in hosts.split(",")],
        {"username": unquote(user) or None, "password": unquote(password) or None} if login else {},
        path,
        extra,
    )


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "localhost", parts.port or 6379
