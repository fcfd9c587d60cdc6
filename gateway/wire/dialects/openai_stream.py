"""A streamed answer of OpenAI's API as it passes: what of it goes on, and what it told us."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import ProviderError
from gateway.usage import Usage, estimated_usage
from gateway.wire.dialects.openai_chat import read_error_object, read_usage, status_of
from gateway.wire.json import try_object
from gateway.wire.sse import Scanner, data_of, events

_HAS_USAGE = re.compile(rb'"usage"\s*:\s*[^\sn]').search
"""Finds usage that is not null."""
_REASON = re.compile(rb'"finish_reason"\s*:\s*"(\w+)"').findall
"""Text cannot fake it: inside a JSON string the quotes are escaped."""
UNSEEN_TOKENS = 256
"""How many tokens a provider may have generated that had not come when a stream was cut: two seconds' worth
at a usual pace."""
_LAST_EVENTS = 4 * 1024
"""The end of a block of events, in which an error or usage may stand."""


def has_content(chunk: Mapping[str, Any]) -> bool:
    """True if a chunk carries an answer's content (text, reasoning, refusal, tool call, audio) or its end."""
    choices = chunk.get("choices")
    if type(choices) is not list:
        return False
    for choice in choices:
        if type(choice) is not dict:
            continue
        if choice.get("text") or choice.get("finish_reason"):
            return True
        delta = choice.get("delta")
        if type(delta) is dict and any(value and name != "role" for name, value in delta.items()):
            return True
    return False


def _text_of(chunk: Mapping[str, Any]) -> str:
    """The text of a chunk's first choice, to tell content from the JSON around it."""
    choices = chunk.get("choices")
    choice = choices[0] if type(choices) is list and choices else None
    if type(choice) is not dict:
        return ""
    delta = choice.get("delta")
    text = (delta.get("content") if type(delta) is dict else None) or choice.get("text")
    return text if type(text) is str else ""


class AnswerStream:
    """One streamed answer as it passes: what of it goes on, and what it told us.

    Until the first content every event is read; from then on a block is looked into only from the
    first place that may hold usage, an error or the end.
    """

    __slots__ = (
        "_before",
        "_blocks",
        "_choices",
        "_content_size",
        "_event_size",
        "_last",
        "_scanner",
        "_strips_usage",
        "bytes_passed",
        "committed",
        "done",
        "error",
        "model",
        "overrun",
        "service_tier",
        "usage",
    )

    unknown: Mapping[str, int] = {}
    """Nothing is passed over: chat's chunks have no types."""

    def __init__(self, *, strips_usage: bool, choices: int = 1) -> None:
        self._strips_usage = strips_usage
        self._choices = choices
        self._scanner = Scanner()
        self._blocks = 0
        self._event_size = 0
        self._content_size = 0
        self._before = self._last = b""
        self.committed = False
        """True once content or the end was seen: the commit point."""
        self.done = False
        """True once `[DONE]` was seen."""
        self.overrun = False
        """True if the provider went on after its end; its connection is not clean."""
        self.error: ProviderError | None = None
        self.usage: Usage | None = None
        self.service_tier = ""
        self.model: object = None
        """What the first content names as its model."""
        self.bytes_passed = 0

    def feed(self, block: bytes) -> bytes:
        """What may go on to the caller of the events that `block` completes. Raises `sse.BadStream`."""
        whole = self._scanner.feed(block)
        return self._passed(self._look(whole)) if whole else b""

    def finish(self) -> bytes:
        """At the regular end of the upstream's body: what was left, if it is a whole event, and the
        `[DONE]` of a provider that gave a finish reason but has no `[DONE]`. Raises `sse.BadStream`."""
        out = self._passed(self._look(self._scanner.finish()))
        if not self.done and self.error is None and self._has_finished():
            self.done = True
            out += b"data: [DONE]\n\n"
        return out

    def estimate(self, input_bytes: int) -> Usage:
        """Usage of a stream that was cut, from what passed: as many events as the first one with content goes
        into the bytes, each of as many tokens as its text suggests."""
        if not self._event_size:
            return estimated_usage(input_bytes, 0)
        count = max(self._blocks, self.bytes_passed // self._event_size)
        return estimated_usage(input_bytes, 4 * count * max(1, self._content_size // 4))

    def most_tokens(self, unread: int) -> int:
        """The most visible tokens that can have been generated of a stream that was cut: one for each byte of
        its content, which is what passed without the JSON around it, and `UNSEEN_TOKENS` for each choice.

        `unread` bytes had come and did not pass: of them as many are content as of an event before.
        """
        around = [self._event_size - self._content_size] if self._event_size else []
        sizes = [self._event_size] if self._event_size else []
        for _, data in events(self._before + self._last):
            chunk = try_object(data)
            if chunk is not None and has_content(chunk):
                sizes.append(len(data) + len("data: \n\n"))
                around.append(sizes[-1] - len(_text_of(chunk).encode()))
        # Blocks have one event or more: of those that came together the JSON counts as content.
        passed = max(0, self.bytes_passed - self._blocks * min(around, default=0))
        coming = unread - unread // max(sizes, default=1) * min(around, default=0)
        return passed + coming + UNSEEN_TOKENS * self._choices

    def finish_reasons(self) -> list[str]:
        """Why the answer ended, as far as its last events tell; what else is in them is not read."""
        return [reason.decode() for reason in _REASON((self._before + self._last)[-_LAST_EVENTS:])]

    def _passed(self, out: bytes) -> bytes:
        if out:
            self._blocks += 1
            self.bytes_passed += len(out)
            self._before, self._last = self._last, out
        return out

    def _look(self, block: bytes) -> bytes:
        """What of a block of whole events goes on: the block itself, if it is all."""
        start = self._news(block, 0) if self.committed and not self.done and self.error is None else 0
        kept: list[bytes] = []
        size = len(block)
        at = passed = start
        while at < size:
            end = block.find(b"\n\n", at) + 2
            if end == 1:
                # Of three line ends in a row the last one ends no event.
                size = at
                break
            committed = self.committed
            if not self._goes_on(data_of(block[at:end])):
                kept.append(block[passed:at])
                passed = end
            at = self._news(block, end) if self.committed and not (committed or self.done) else end
        if self.done and self.usage is None:
            self._usage_of_last(block)
        if passed == start and not kept:
            return block
        return b"".join((block[:start], *kept, block[passed:size]))

    def _news(self, block: bytes, start: int) -> int:
        """After the commit point: where the first event begins, from `start` on, that must be read.

        Searches, no parse: 5 µs for a hundred events. Text cannot fake the marks: inside a JSON string the
        quotes are escaped, and `[DONE]` is compared whole. An error is an answer's last event, and usage
        one of the last, so they are looked for at the block's end; but usage that must not go on everywhere.
        """
        first = size = len(block)
        end = start
        if size - start > _LAST_EVENTS:
            # The last two events whole, however long: an error may quote much, and `[DONE]` may follow it.
            before = block.rfind(b"\n\n", start, size - 2)
            end = max(start, min(size - _LAST_EVENTS, block.rfind(b"\n\n", start, before) + 2))
        for mark, begin in (
            (b"[DONE]", start),
            (b'"error"', end),
            (b'"usage":{', start if self._strips_usage else end),
            (b'"usage": {', start if self._strips_usage else end),
        ):
            at = block.find(mark, begin, first)
            if at >= 0:
                first = at
        if first == size:
            return size
        at = block.rfind(b"\n\n", start, first) + 2
        return at if at > 1 else start

    def _goes_on(self, data: bytes) -> bool:
        """Reads one event's data; False if the event is not for the caller."""
        if self.done or self.error is not None:
            self.overrun = True
            return False
        if data == b"[DONE]":
            self.done = self.committed = True
            return True
        if self.committed and b'"error"' not in data and not _HAS_USAGE(data):
            return True
        chunk = try_object(data)
        return chunk is None or self._chunk_goes_on(chunk, len(data))

    def _chunk_goes_on(self, chunk: dict[str, Any], size: int) -> bool:
        failure = chunk.get("error")
        if failure:
            self.error = read_error_object(failure, status_of(failure))
            return False
        tier = chunk.get("service_tier")
        if type(tier) is str:
            self.service_tier = tier
        if not self.committed and has_content(chunk):
            self.committed = True
            self.model = chunk.get("model")
            self._event_size = size + len("data: \n\n")
            self._content_size = len(_text_of(chunk))
        usage = read_usage(chunk)
        if usage is not None:
            usage.service_tier = usage.service_tier or self.service_tier
            self.usage = usage
        elif type(chunk.get("usage")) is not dict:
            return True
        return not self._strips_usage or bool(chunk.get("choices"))

    def _usage_of_last(self, block: bytes) -> None:
        """Usage written with blanks that the search does not know: read from the last events."""
        for _, data in events((self._last + block)[-4 * _LAST_EVENTS :]):
            if data == b"[DONE]":
                return
            if b'"usage"' in data and (chunk := try_object(data)) is not None:
                self.usage = read_usage(chunk) or self.usage

    def _has_finished(self) -> bool:
        # Two blocks: after the reason a block with the usage may have gone on.
        finished: set[str] = set()
        for _, data in events((self._before + self._last)[-_LAST_EVENTS:]):
            choices = (try_object(data) or {}).get("choices")
            for choice in choices if type(choices) is list else ():
                if type(choice) is dict and choice.get("finish_reason"):
                    finished.add(str(choice.get("index")))
        return len(finished) >= self._choices
