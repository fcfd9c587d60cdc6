"""Who calls, and what for: all that the head of a request says, worked out once per head and policy."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.clock import now_s
from gateway.errors import COMPRESSED, KEY_EXPIRED, UNAUTHORIZED, GatewayError
from gateway.http.head import Head
from gateway.http.message import named_by
from gateway.line.endpoints import Endpoint, endpoint_of
from gateway.policy.snapshot import Key, Snapshot
from gateway.telemetry.trace_context import Parent, read_parent

_CONTEXT = (b"traceparent", b"tracestate")
"""Those that say which trace a call belongs to; `line.tracing` decides what becomes of them."""


class Admission:
    """A head that may call, under one policy."""

    __slots__ = ("context", "endpoint", "forwarded", "key", "parent", "snapshot", "tags")

    def __init__(self, snapshot: Snapshot, endpoint: Endpoint, key: Key, head: Head) -> None:
        known = head.known
        self.snapshot = snapshot
        self.endpoint = endpoint
        self.key = key
        named = named_by(b",".join([value for name, value in head.headers if name == b"connection"]))
        heard = {name: value for name, value in known.items() if name not in named}
        self.forwarded = _lines(heard, endpoint.dialect.forwarded)
        """The lines that go on to the provider; b"" for most calls."""
        self.context = _lines(heard, _CONTEXT)
        self.parent: Parent | None = None
        if b"traceparent" in heard:
            self.parent = read_parent(heard[b"traceparent"], heard.get(b"tracestate", b""))
        tags = known.get(b"x-headgate-tags")
        self.tags = () if tags is None else tuple(tag.strip() for tag in tags.decode("latin-1").split(","))


def _lines(headers: Mapping[bytes, bytes], names: tuple[bytes, ...]) -> bytes:
    return b"".join([name + b": " + headers[name] + b"\r\n" for name in names if name in headers])


def admit(head: Head, snapshot: Snapshot) -> Admission:
    """Authenticates, from the headers alone. Raises `GatewayError` (401, 404, 405, 415)."""
    admission = head.memo
    if type(admission) is not Admission or admission.snapshot is not snapshot:
        endpoint = endpoint_of(head.method, head.target, snapshot.passages)
        admission = Admission(snapshot, endpoint, _key_of(head, snapshot), head)
        encoding = head.known.get(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise GatewayError(COMPRESSED)
        head.memo = admission
    expires_s = admission.key.expires_s
    if expires_s is not None and now_s() >= expires_s:
        raise GatewayError(KEY_EXPIRED)
    return admission


def _key_of(head: Head, snapshot: Snapshot) -> Key:
    known = head.known
    token = known.get(b"authorization")
    if token is not None:
        scheme, _, token = token.partition(b" ")
        if scheme.lower() != b"bearer":
            raise GatewayError(UNAUTHORIZED)
        token = token.strip()
    else:
        token = known.get(b"x-api-key") or known.get(b"api-key")
    key = snapshot.key_of(token) if token else None
    if key is None:
        raise GatewayError(UNAUTHORIZED)
    return key
