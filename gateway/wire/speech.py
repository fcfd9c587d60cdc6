"""What stands between a caller's dialect and a provider's: chosen by both, it says how a request is written,
how its answer is read, and what of it the caller gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from gateway.errors import BAD_JSON, BAD_REQUEST, BELOW_MINIMUM, OBJECT_UNKNOWN, GatewayError
from gateway.usage import FAST, Usage
from gateway.wire.conversation import Judged, Leftovers, Toward
from gateway.wire.dialect import CHAT, COMPLETIONS, COUNTING, Dialect
from gateway.wire.dialects.openai_chat import Call, read_usage, write_body
from gateway.wire.dialects.openai_stream import AnswerStream
from gateway.wire.dialects.responses_answer import UNFINISHED
from gateway.wire.json import dumps, read_object
from gateway.wire.shape import bad
from gateway.wire.stored_id import Account, Renaming
from gateway.wire.translated import EventStream, StoredStream, TranslatedStream

Stream = AnswerStream | EventStream
NOTHING_LEFT: tuple[str, ...] = ()


class Told(NamedTuple):
    """A plain answer: as chat would say it, for traces; the caller's bytes; its usage, if it was told."""

    fields: Mapping[str, Any]
    body: bytes
    usage: Usage | None


class Speech:
    """Chat on both sides: the body is the caller's but for what must be in it, the answer passes as it
    came."""

    __slots__ = ("target",)
    relays = True
    """True if the caller's own headers (`Dialect.forwarded`) go on to the provider."""
    holds_all = False
    """True if a plain answer must be there whole to go on; else one that is too long passes as it comes."""

    def __init__(self, target: Dialect) -> None:
        self.target = target

    def at(self, target: str, secret: str, team: str) -> Speech:
        """The same for one attempt, where answers are stored: at this target, with this key of its provider
        ("": none), for this team."""
        return self

    def body(self, call: Call, toward: Toward, cap: tuple[str, int] | None) -> tuple[bytes, tuple[str, ...]]:
        """The body for a target, and the names of what was left out of it. `cap`: the field and the tokens
        that limits want written into a chat call. Raises `GatewayError` (400)."""
        return write_body(call, toward.model, asks_usage=toward.asks_usage, cap=cap), NOTHING_LEFT

    def stream(self, call: Call, now_s: float) -> Stream:
        """What reads the answer of a streamed call. `now_s` is the time of day."""
        return AnswerStream(strips_usage=not call.wants_usage, choices=call.fields.get("n") or 1)

    def told(self, fields: dict[str, Any], body: bytes, now_s: float) -> Told | None:
        """A provider's plain answer; None if it is none. `now_s` is the time of day."""
        return Told(fields, body, read_usage(fields))

    def headers(self, headers: dict[bytes, bytes], now_s: float) -> dict[bytes, bytes]:
        """A provider's headers for a caller. `now_s` is the time of day."""
        return headers


class Relay(Speech):
    """The same dialect on both sides, other than chat's."""

    __slots__ = ()

    def body(self, call: Call, toward: Toward, cap: tuple[str, int] | None) -> tuple[bytes, tuple[str, ...]]:
        assert call.own is not None
        self.target.check_relayed(call.own)
        fields = {**call.own, "model": toward.model}
        if cap is not None and self.target.write_cap is not None:
            self.target.write_cap(fields, cap[1])
        return _dumped(fields), NOTHING_LEFT

    def stream(self, call: Call, now_s: float) -> Stream:
        return EventStream(self.target.reader())

    def told(self, fields: dict[str, Any], body: bytes, now_s: float) -> Told | None:
        answer = self.target.read_answer(fields)
        return None if answer is None else Told(CHAT.write_answer(answer), body, answer.usage)


class StoringRelay(Relay):
    """The same dialect on both sides, where the provider may store answers."""

    __slots__ = ()

    def at(self, target: str, secret: str, team: str) -> Speech:
        return StoredRelay(self.target, Account(target, secret, team))


class StoredRelay(Relay):
    """One attempt at an answer that may be stored: the caller gets an id of its own for it."""

    __slots__ = ("_account", "_names", "_waits")
    holds_all = True

    def __init__(self, target: Dialect, account: Account) -> None:
        super().__init__(target)
        self._account = account
        self._names = Renaming()
        self._waits = True
        """False if the answer is to be made in the background."""

    def body(self, call: Call, toward: Toward, cap: tuple[str, int] | None) -> tuple[bytes, tuple[str, ...]]:
        own = call.own
        assert own is not None and self.target.followed is not None
        self._waits = own.get("background") is not True
        handed = self.target.followed(own)
        if handed is None:
            return super().body(call, toward, cap)
        made = self._account.made_by_provider(handed)
        if made is None:
            raise GatewayError(OBJECT_UNKNOWN, param="previous_response_id")
        self._names.add(made, handed)
        return super().body(replace(call, own={**own, "previous_response_id": made}), toward, cap)

    def stream(self, call: Call, now_s: float) -> Stream:
        return StoredStream(self.target.reader(), self._named)

    def told(self, fields: dict[str, Any], body: bytes, now_s: float) -> Told | None:
        id_ = fields.get("id")
        renamed = self._named(id_ if type(id_) is str else "").whole(body)
        if not self._waits and fields.get("status") in UNFINISHED:
            return Told({}, renamed, Usage())
        return super().told(fields, renamed, now_s)

    def _named(self, id_: str) -> Renaming:
        """What gives the caller its own ids, now that the answer's is known."""
        self._names.add(id_, self._account.hand_out(id_))
        return self._names


class Counting(Relay):
    """A question how many tokens a call would have, as its provider answers it."""

    __slots__ = ()

    def told(self, fields: dict[str, Any], body: bytes, now_s: float) -> Told | None:
        return Told({}, body, Usage()) if type(fields.get("input_tokens")) is int else None


class Translation(Speech):
    """Two dialects: what one says is read into the neutral form and written in the other."""

    __slots__ = ("caller", "repeats")
    relays = False
    holds_all = True

    def __init__(self, caller: Dialect, target: Dialect) -> None:
        super().__init__(target)
        self.caller = caller
        self.repeats: Mapping[str, Any] | None = None
        """What the answer repeats of its request."""

    def at(self, target: str, secret: str, team: str) -> Speech:
        return self if self.caller.repeated is None else RepeatingTranslation(self.caller, self.target)

    def body(self, call: Call, toward: Toward, cap: tuple[str, int] | None) -> tuple[bytes, tuple[str, ...]]:
        said = call.said
        if said is None:
            said = call.said = self.caller.read_request(call.fields)
        left = Leftovers(f"{toward.model} at its provider", drops_all=toward.drops)
        fields = self.target.write_request(said, toward, None if cap is None else cap[1], left)
        return _dumped(fields), tuple(left.dropped)

    def stream(self, call: Call, now_s: float) -> Stream:
        return TranslatedStream(
            self.target.reader(),
            self.caller.writer(call.wants_usage),
            created_s=int(now_s),
            repeats=self.repeats,
        )

    def told(self, fields: dict[str, Any], body: bytes, now_s: float) -> Told | None:
        answer = self.target.read_answer(fields)
        if answer is None:
            return None
        answer.created_s, answer.repeats = answer.created_s or int(now_s), self.repeats
        chat = CHAT.write_answer(answer)
        try:
            body = dumps(chat if self.caller is CHAT else self.caller.write_answer(answer))
        except TypeError:
            # Nested more deeply than can be written.
            return None
        return Told(chat, body, answer.usage)

    def headers(self, headers: dict[bytes, bytes], now_s: float) -> dict[bytes, bytes]:
        return self.target.headers_in_chat(headers, now_s)


class RepeatingTranslation(Translation):
    """One attempt for a caller whose answers repeat its request."""

    __slots__ = ()

    def body(self, call: Call, toward: Toward, cap: tuple[str, int] | None) -> tuple[bytes, tuple[str, ...]]:
        self._repeat(call)
        return super().body(call, toward, cap)

    def stream(self, call: Call, now_s: float) -> Stream:
        self._repeat(call)
        return super().stream(call, now_s)

    def _repeat(self, call: Call) -> None:
        if self.repeats is None and self.caller.repeated is not None:
            self.repeats = self.caller.repeated(call.own or {})


def read_own(caller: Dialect, body: bytes) -> Call:
    """A call in another dialect than chat's. Raises `GatewayError` (400)."""
    own = read_object(body)
    said = caller.read_request(own)
    if not said.model:
        raise GatewayError(BAD_REQUEST, "'model' must be a string with a model's name.", param="model")
    if type(own.get("stream")) not in (bool, type(None)):
        raise bad("stream", "true or false")
    if said.cap_tokens is not None and said.cap_tokens < 0:
        raise GatewayError(
            BELOW_MINIMUM, f"'{caller.cap_field}' must not be negative.", param=caller.cap_field
        )
    # What has no word in chat stands there under its own name, for whoever must know that it is there.
    fields = {**said.rest, **CHAT.write_request(said, Toward(said.model, reasons=True), None, Judged())}
    if said.rest.get("speed") == FAST:
        fields["service_tier"] = FAST
    if said.reasoning is not None:
        fields.setdefault("reasoning_effort", said.reasoning.effort or "medium")
    return Call("chat", fields, said.model, said.stream, True, len(body), own, said)


@cache
def speech_of(caller: Dialect, target: Dialect) -> Speech:
    """What stands between two dialects."""
    if target is CHAT and caller in (CHAT, COMPLETIONS):
        return Speech(target)
    if caller is COUNTING:
        return Counting(target)
    if caller is target and target.followed is not None:
        return StoringRelay(target)
    return Relay(target) if caller is target else Translation(caller, target)


def _dumped(fields: dict[str, Any]) -> bytes:
    try:
        return dumps(fields)
    except TypeError:
        raise GatewayError(BAD_JSON, "The body is nested more than 254 levels deep.") from None
