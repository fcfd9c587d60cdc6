"""A dialect as the line sees it: the functions that every one of them has, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.errors import GatewayError, ProviderError
from gateway.usage import Usage
from gateway.wire.answered import Answer
from gateway.wire.conversation import Conversation, Leftovers, Toward
from gateway.wire.dialects import (
    anthropic_answer,
    anthropic_events,
    anthropic_failure,
    anthropic_headers,
    anthropic_request,
    chat_answer,
    chat_events,
    chat_request,
    completions,
    openai_chat,
    responses_answer,
    responses_asked,
    responses_failure,
    responses_reader,
    responses_repeated,
    responses_request,
    responses_writer,
)
from gateway.wire.translated import Reader, Writer


def _takes_all(fields: Mapping[str, Any]) -> None:
    """Refuses nothing."""


def _as_they_are(told: Any, now_s: float) -> Any:
    return told


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One way to ask for an answer and to give it. `paths` are below a provider's base URL, by endpoint."""

    name: str
    paths: Mapping[str, str]
    read_request: Callable[[Mapping[str, Any]], Conversation]
    write_request: Callable[[Conversation, Toward, int | None, Leftovers], dict[str, Any]]
    read_answer: Callable[[Mapping[str, Any]], Answer | None]
    write_answer: Callable[[Answer], dict[str, Any]]
    reader: Callable[[], Reader]
    writer: Callable[[bool], Writer]
    """Takes whether the caller asked for usage at the end of a stream."""
    read_usage: Callable[[Mapping[str, Any]], Usage | None]
    read_error: Callable[[int, Mapping[bytes, bytes], bytes, float], ProviderError]
    error_in_answer: Callable[[Mapping[str, Any]], ProviderError | None]
    """The error inside a 200; None if it is none."""
    error_body: Callable[[GatewayError, bytes], bytes]
    """Takes the id of the request, for dialects that tell it in the body."""
    error_event: Callable[[GatewayError], bytes]
    cap_field: str = "max_tokens"
    """The field that caps the output, for what a caller is told of it."""
    least_cap: int = 0
    """The least cap that its providers take, in tokens: limits hold and write no lower one."""
    write_cap: Callable[[dict[str, Any], int], None] | None = None
    """Writes the tokens of output that limits allow into a request that is relayed; None for chat, whose body
    is written with them."""
    model_object: Callable[[str], dict[str, Any]] = openai_chat.model_object
    """One entry of the list of models."""
    passes_through: bool = False
    """True if its providers have the rest of OpenAI's API, which is passed through."""
    speaks_all: bool = False
    """True if it has a word for every kind of call."""
    headers_in_chat: Callable[[dict[bytes, bytes], float], dict[bytes, bytes]] = _as_they_are
    """A provider's headers under OpenAI's names; takes the time of day."""
    lines_for_caller: Callable[[bytes, float], bytes] = _as_they_are
    """The lines of an answer's head under the names that its SDK looks for; takes the time of day."""
    check_relayed: Callable[[Mapping[str, Any]], None] = _takes_all
    """Raises `GatewayError` (400) for what a request must not have that goes on as it came."""
    repeated: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """What an answer repeats of its caller's request; None where it repeats nothing."""
    followed: Callable[[Mapping[str, Any]], str | None] | None = None
    """The id of the stored answer that a call follows; None where nothing is stored."""
    forwarded: tuple[bytes, ...] = ()
    """A caller's headers that a provider of the same dialect gets. All others stay here."""

    def path_of(self, endpoint: str) -> str | None:
        """Where a kind of call goes; None if there is nobody for it. A completion is asked of who only
        chats."""
        found = self.paths.get(endpoint)
        return self.paths.get("chat") if found is None and endpoint == "completions" else found


def _chat_error_in(fields: Mapping[str, Any]) -> ProviderError | None:
    if fields.get("error") and not fields.get("choices"):
        return openai_chat.error_in_answer(fields)
    return None


CHAT = Dialect(
    name="openai_chat",
    paths=openai_chat.ENDPOINTS,
    read_request=chat_request.read_request,
    write_request=chat_request.write_request,
    read_answer=chat_answer.read_answer,
    write_answer=chat_answer.write_answer,
    reader=chat_events.EventReader,
    writer=lambda wants_usage: chat_events.EventWriter(wants_usage=wants_usage),
    read_usage=openai_chat.read_usage,
    read_error=openai_chat.read_error,
    error_in_answer=_chat_error_in,
    error_body=lambda error, request_id: openai_chat.error_body(error),
    error_event=openai_chat.error_event,
    passes_through=True,
    speaks_all=True,
    forwarded=(b"openai-beta", b"x-client-request-id"),
)

COMPLETIONS = replace(
    CHAT,
    name="openai_completions",
    read_request=completions.read_request,
    write_answer=completions.write_answer,
    writer=lambda wants_usage: completions.EventWriter(wants_usage=wants_usage),
)
"""A caller's alone: who takes it speaks `CHAT`."""

ANTHROPIC = Dialect(
    name="anthropic",
    paths={"chat": "/messages", "count_tokens": "/messages/count_tokens"},
    read_request=anthropic_request.read_request,
    write_request=anthropic_request.write_request,
    read_answer=anthropic_answer.read_answer,
    write_answer=anthropic_answer.write_answer,
    reader=anthropic_events.EventReader,
    writer=lambda wants_usage: anthropic_events.EventWriter(),
    read_usage=anthropic_answer.read_usage,
    read_error=anthropic_failure.read_error,
    error_in_answer=anthropic_failure.error_in_answer,
    error_body=anthropic_failure.error_body,
    error_event=anthropic_failure.error_event,
    write_cap=anthropic_request.write_cap,
    model_object=anthropic_answer.model_object,
    headers_in_chat=anthropic_headers.in_chat,
    lines_for_caller=anthropic_headers.lines_for_caller,
    forwarded=(b"anthropic-beta",),
)

COUNTING = replace(ANTHROPIC, name="anthropic_count")
"""A caller's alone: asks how many tokens a call would have."""

RESPONSES = Dialect(
    name="responses",
    paths={"chat": "/responses"},
    read_request=responses_request.read_request,
    write_request=responses_asked.write_request,
    read_answer=responses_answer.read_answer,
    write_answer=responses_answer.write_answer,
    reader=responses_reader.EventReader,
    writer=lambda wants_usage: responses_writer.EventWriter(),
    read_usage=responses_answer.read_usage,
    read_error=openai_chat.read_error,
    error_in_answer=responses_failure.error_in_answer,
    error_body=CHAT.error_body,
    error_event=responses_failure.error_event,
    cap_field=responses_request.CAP_FIELD,
    least_cap=responses_request.LEAST_CAP_TOKENS,
    check_relayed=responses_request.check_relayed,
    repeated=responses_repeated.repeated,
    followed=responses_request.followed,
    passes_through=True,
    write_cap=responses_asked.write_cap,
    forwarded=CHAT.forwarded,
)

SPOKEN: Mapping[str, Dialect] = {
    "openai": CHAT,
    "azure": CHAT,
    "simulated": CHAT,
    "anthropic": ANTHROPIC,
    "responses": RESPONSES,
}
"""By a provider's `dialect` in the policy."""
