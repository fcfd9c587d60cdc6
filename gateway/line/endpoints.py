"""Which paths callers may use, and what each one is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from gateway.errors import BAD_METHOD, NOT_FOUND, GatewayError
from gateway.http.head import Head
from gateway.wire.dialect import ANTHROPIC, CHAT, COMPLETIONS, COUNTING, RESPONSES, Dialect
from gateway.wire.dialects.openai_chat import ENDPOINTS
from gateway.wire.dialects.openai_families import Passing, passing_of


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path stands for. `kind` is one of `openai_chat.ENDPOINTS`, or "count_tokens", "models" or
    "pass_through"."""

    kind: str
    model: str | None = None
    """The model where the path names it (Azure deployments, `/models/{id}`)."""
    passing: Passing | None = None
    """What is passed through; None for the other kinds."""
    dialect: Dialect = CHAT
    """What the caller speaks, and is answered in."""
    family: str = ""
    """The family that the path belongs to instead, where the policy opens that."""


_DIALECTS = {"completions": COMPLETIONS}
_FIXED: dict[bytes, Endpoint] = {
    prefix + path.encode(): Endpoint(kind, dialect=_DIALECTS.get(kind, CHAT))
    for prefix in (b"/v1", b"/openai/v1")
    for kind, path in (*ENDPOINTS.items(), ("models", "/models"))
} | {
    b"/v1/messages": Endpoint("chat", dialect=ANTHROPIC),
    b"/v1/messages/count_tokens": Endpoint("count_tokens", dialect=COUNTING),
}
for _path in (b"/v1/responses", b"/openai/v1/responses"):
    _FIXED[_path] = Endpoint("chat", dialect=RESPONSES, family="responses")
_MODEL_PREFIXES = (b"/v1/models/", b"/openai/v1/models/")
_DEPLOYMENTS = b"/openai/deployments/"
_BY_PATH = {path.encode(): kind for kind, path in ENDPOINTS.items()}


def endpoint_of(method: bytes, target: bytes, opened: Collection[str] = ()) -> Endpoint:
    """The endpoint of a request line. `opened` are the families that are passed through. Raises
    `GatewayError` (404, 405)."""
    found = _FIXED.get(target)
    if found is None:
        path, _, query = target.partition(b"?")
        found = _FIXED.get(path) or _with_model(path)
        if found is None:
            return _passed_through(method, path, query)
    if found.family and found.family in opened:
        path, _, query = target.partition(b"?")
        return _passed_through(method, path, query)
    if found.kind == "models":
        if method not in (b"GET", b"HEAD"):
            raise GatewayError(BAD_METHOD, headers=(("allow", "GET, HEAD"),))
    elif method != b"POST":
        raise GatewayError(BAD_METHOD, headers=(("allow", "POST"),))
    return found


def dialect_of(head: Head) -> Dialect:
    """What a caller speaks, whether there is anything at its path or not. The list of models is both's: there
    it is Anthropic's if its version is named."""
    target = head.target
    if target.startswith(b"/v1/messages"):
        return ANTHROPIC
    return ANTHROPIC if target.startswith(b"/v1/models") and b"anthropic-version" in head.known else CHAT


def _passed_through(method: bytes, path: bytes, query: bytes) -> Endpoint:
    for prefix in (b"/v1", b"/openai/v1"):
        if path.startswith(prefix + b"/"):
            passing, methods = passing_of(method, path[len(prefix) :], query)
            if passing is not None:
                return Endpoint("pass_through", passing=passing)
            if methods:
                raise GatewayError(BAD_METHOD, headers=(("allow", ", ".join(methods)),))
    raise GatewayError(NOT_FOUND)


def _with_model(path: bytes) -> Endpoint | None:
    """`/v1/models/{id}` and Azure's `/openai/deployments/{deployment}/…`."""
    kind: str | None = None
    name = b""
    for prefix in _MODEL_PREFIXES:
        if path.startswith(prefix):
            kind, name = "models", path[len(prefix) :]
    if path.startswith(_DEPLOYMENTS):
        name, _, rest = path[len(_DEPLOYMENTS) :].partition(b"/")
        kind = _BY_PATH.get(b"/" + rest)
    if kind is None or not name:
        return None
    try:
        return Endpoint(kind, unquote_to_bytes(name).decode(), dialect=_DIALECTS.get(kind, CHAT))
    except UnicodeDecodeError:
        return None
