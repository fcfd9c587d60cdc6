"""OpenAI's legacy completions, for targets that only chat: the prompt is what the user says.

Facts: openai-openapi 2.3.0. Targets that take completions themselves get them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.usage import Usage
from gateway.wire import answered
from gateway.wire.answered import Answer, Began, Candidate, Done, Ended, Event, Opened, Piece, Pieces, Used
from gateway.wire.conversation import Conversation, Text, Turn
from gateway.wire.dialects.chat_answer import write_usage
from gateway.wire.json import dumps, loads
from gateway.wire.shape import asked_text

DEFAULT_CAP_TOKENS = 16
"""What `max_tokens` is if it is not given."""
_KNOWN = frozenset({"max_tokens", "model", "prompt", "stop", "stream", "stream_options"})
_REST = frozenset({"best_of", "echo", "logprobs", "suffix"})
_WORDS: Mapping[str, str] = {
    answered.LENGTH: "length",
    answered.FILTERED: "content_filter",
    answered.REFUSED: "content_filter",
}
_DONE = b"data: [DONE]\n\n"


def read_request(fields: Mapping[str, Any]) -> Conversation:
    """A caller's request, whose counts `read_call` has looked at. Raises `GatewayError` (400)."""
    found = Conversation(asked_text(fields, "model"), stream=fields.get("stream") is True)
    prompt = fields.get("prompt")
    if type(prompt) is list and len(prompt) == 1:
        prompt = prompt[0]
    if type(prompt) is str:
        found.turns.append(Turn("user", [Text(prompt)]))
    elif prompt is not None:
        # Several prompts are several questions; tokens are of one model's vocabulary.
        found.rest["prompt"] = prompt
    cap = fields.get("max_tokens")
    found.cap_tokens = DEFAULT_CAP_TOKENS if cap is None else cap
    for name, value in fields.items():
        if name not in _KNOWN and value is not None:
            (found.rest if name in _REST else found.options)[name] = value
    stop = fields.get("stop")
    if stop:
        found.options["stop"] = [stop] if type(stop) is str else stop
    return found


def write_answer(answer: Answer) -> dict[str, Any]:
    """The answer for a caller: its text alone."""
    fields: dict[str, Any] = {
        "id": answer.id,
        "object": "text_completion",
        "created": answer.created_s,
        "model": answer.model,
        "choices": [_choice(at, candidate) for at, candidate in enumerate(answer.candidates)],
    }
    if answer.usage is not None:
        fields["usage"] = write_usage(answer.usage)
    return fields


def _choice(index: int, candidate: Candidate) -> dict[str, Any]:
    said = "".join(part.text for part in candidate.parts if type(part) is Text)
    return {
        "index": index,
        "text": said,
        "logprobs": None,
        "finish_reason": _WORDS.get(candidate.reason, "stop"),
    }


class EventWriter:
    """Writes one stream for a caller. `wants_usage`: it asked for the usage chunk."""

    __slots__ = ("_head", "_texts", "_usage", "_wants_usage")

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._head: dict[str, Any] = {}
        self._texts: set[int] = set()
        """Parts that are text: all else has no place here."""
        self._usage: Usage | None = None

    def write(self, event: Event) -> bytes:
        """The bytes of whole events; b"" for what says nothing to this caller."""
        if isinstance(event, Piece):
            return self._chunk(event.text) if event.index in self._texts else b""
        if isinstance(event, Opened):
            if type(event.part) is Text:
                self._texts.add(event.index)
        elif isinstance(event, Began):
            self._head = {
                "id": event.id,
                "object": "text_completion",
                "created": event.created_s,
                "model": event.model,
            }
        elif isinstance(event, Ended):
            return self._chunk("", _WORDS.get(event.reason, "stop"))
        elif isinstance(event, Used):
            self._usage = event.usage
        elif isinstance(event, Done):
            return self._done()
        return b""

    def pieces(self, several: Pieces) -> bytes:
        """One by one: nobody streams much by this API any more."""
        if several.index not in self._texts:
            return b""
        return b"".join([self._chunk(loads(quoted)) for quoted in several.quoted])

    def _chunk(self, said: str, reason: str | None = None) -> bytes:
        choice = {"index": 0, "text": said, "logprobs": None, "finish_reason": reason}
        return b"data: %b\n\n" % dumps({**self._head, "choices": [choice]})

    def _done(self) -> bytes:
        if not self._wants_usage or self._usage is None:
            return _DONE
        return b"data: %b\n\n%b" % (
            dumps({**self._head, "choices": [], "usage": write_usage(self._usage)}),
            _DONE,
        )
