"""What is sent to providers, and the constant parts of what callers get: bytes made once per policy."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from gateway.http.dial import Origin, proxy_authorization, tls_context
from gateway.http.pool import Pool
from gateway.http.wheel import Wheel
from gateway.policy.snapshot import Provider, ProviderKey, Snapshot, Target
from gateway.wire.dialect import Dialect

_RENAMED = {
    b"content-type": b"",
    b"content-length": b"",
    b"content-encoding": b"",
    b"transfer-encoding": b"",
    b"x-request-id": b"x-headgate-upstream-request-id: ",
    b"request-id": b"x-headgate-upstream-request-id: ",
    b"apim-request-id": b"x-headgate-upstream-request-id: ",
}
"""A provider's headers that go on to the caller under another name, or (b"") not at all."""


def origin_of(provider: Provider) -> Origin:
    """Where a provider's connections go."""
    return Origin(
        scheme=provider.scheme,
        host=provider.host,
        port=provider.port,
        ca_file=provider.ca_file,
        client_cert=provider.client_cert,
        client_key=provider.client_key,
        verify=provider.verify,
        proxy=provider.proxy,
    )


class Outbound:
    """The pools of one worker, and the heads for one policy. Pools outlive policies."""

    __slots__ = ("_by_provider", "_heads", "_pools", "_wheel", "target_lines")

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._pools: dict[Origin, Pool] = {}
        self._by_provider: dict[Provider, Pool] = {}
        self._heads: dict[tuple[Target, ProviderKey | None, Dialect, str], bytes] = {}
        self.target_lines: dict[Target, bytes] = {}
        """The headers of every answer of a target that never change, for the caller."""

    def switch(self, snapshot: Snapshot) -> None:
        """Takes up a policy: new origins get pools, those no longer named retire."""
        self._heads = {}
        # A certificate may have been renewed under the same name.
        tls_context.cache_clear()
        self.target_lines = {
            target: target_lines(target, snapshot)
            for model in (*snapshot.models.values(), *(row.model for row in snapshot.passages.values()))
            for target in model.targets
        }
        pools: dict[Origin, Pool] = {}
        by_provider: dict[Provider, Pool] = {}
        for provider in snapshot.providers:
            origin = origin_of(provider)
            if origin not in pools:
                pool = self._pools.pop(origin) if origin in self._pools else None
                if pool is None:
                    pool = Pool(
                        origin, self._wheel, max_connections=provider.max_connections, idle_s=provider.idle_s
                    )
                else:
                    pool.configure(max_connections=provider.max_connections, idle_s=provider.idle_s)
                pools[origin] = pool
            by_provider[provider] = pools[origin]
        for pool in self._pools.values():
            pool.retire()
        self._pools = pools
        self._by_provider = by_provider

    def pool(self, provider: Provider) -> Pool:
        """The pool of a provider; a passing one for calls that began under a policy no longer in force."""
        pool = self._by_provider.get(provider)
        if pool is None:
            origin = origin_of(provider)
            pool = self._pools.get(origin) or Pool(
                origin, self._wheel, max_connections=provider.max_connections, idle_s=0.0
            )
        return pool

    def head(self, target: Target, key: ProviderKey | None, dialect: Dialect, endpoint: str) -> bytes:
        """A request's head up to the value of Content-Length."""
        found = self._heads.get((target, key, dialect, endpoint))
        if found is None:
            found = request_head(target, key, dialect, endpoint)
            self._heads[(target, key, dialect, endpoint)] = found
        return found

    def close(self) -> None:
        """Closes every idle connection."""
        for pool in self._pools.values():
            pool.retire()


def target_lines(target: Target, snapshot: Snapshot | None) -> bytes:
    """The headers of every answer of a target that never change: its name, and the policy that chose it."""
    hash_ = "" if snapshot is None else snapshot.hash
    return b"x-headgate-target: %b\r\nx-headgate-policy: %b\r\n" % (_visible(target.name), hash_.encode())


def request_head(target: Target, key: ProviderKey | None, dialect: Dialect, endpoint: str) -> bytes:
    """The head of every request to a target, up to the value of Content-Length."""
    provider = target.provider
    path = provider.base_path
    if provider.api_version is not None:
        path += f"/openai/deployments/{quote(target.model, safe='')}"
    path += dialect.path_of(endpoint) or ""
    if provider.api_version is not None:
        path += f"?api-version={quote(provider.api_version, safe='')}"
    accept = "application/json, text/event-stream"
    return _head("POST", path, provider, key, accept=accept, type_="application/json") + b"content-length: "


def passing_head(provider: Provider, key: ProviderKey | None, method: str, path: str, type_: str) -> bytes:
    """The head of a request that is passed through, up to the headers that frame its body.

    `path` is below the base URL, with its query; `type_` the body's content type, "" for none.
    """
    return _head(method, provider.base_path + path, provider, key, accept="*/*", type_=type_)


def _head(
    method: str, path: str, provider: Provider, key: ProviderKey | None, *, accept: str, type_: str
) -> bytes:
    """A request's head but for the framing of its body and the blank line."""
    proxied = provider.proxy is not None and provider.scheme == "http"
    if proxied:
        path = f"http://{provider.authority}{path}"
    lines = [
        f"{method} {path} HTTP/1.1",
        f"host: {provider.authority}",
        "user-agent: headgate",
        f"accept: {accept}",
        "accept-encoding: identity",
    ]
    if type_:
        lines.append(f"content-type: {type_}")
    if key is not None and provider.auth != "none":
        value = f"Bearer {key.secret}" if provider.auth == "bearer" else key.secret
        lines.append(f"{'authorization' if provider.auth == 'bearer' else provider.auth}: {value}")
    if proxied and (credentials := proxy_authorization(provider.proxy or "")) is not None:
        lines.append(f"proxy-authorization: {credentials}")
    lines.extend(f"{name.lower()}: {value}" for name, value in provider.headers)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n"


class _Prefixes(dict[bytes, bytes]):
    """Header name → the start of its line, for the few names of `Answer.headers`."""

    def __missing__(self, name: bytes) -> bytes:
        prefix = self[name] = _RENAMED.get(name, name + b": ")
        return prefix


_prefixes = _Prefixes()


def to_caller(headers: Mapping[bytes, bytes], *, rates: bool = True) -> bytes:
    """The lines of a provider's headers that go on to the caller; with its rates, if there are no others."""
    lines: list[bytes] = []
    for name, value in headers.items():
        prefix = _prefixes[name]
        if prefix and (rates or b"-ratelimit-" not in name):
            lines += (prefix, value, b"\r\n")
    return b"".join(lines)


def dropped_line(names: tuple[str, ...]) -> bytes:
    """The header that tells what of a call could not be said to its target."""
    return b"x-headgate-dropped: %b\r\n" % _visible(", ".join(names))


def _visible(text: str) -> bytes:
    """A policy's name as a header value: what is not printable ASCII is percent-encoded."""
    return quote(text, safe="/:@+-._~!$&'()*,;= ").encode()
