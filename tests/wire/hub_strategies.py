"""What the tests of the hub are made of: requests, answers and streams that say what every dialect knows.

A further dialect joins them by one line in `DIALECTS`, and by what `known_to` and `meant_to` say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import strategies as st

from gateway.usage import Usage
from gateway.wire.answered import (
    LENGTH,
    STOP,
    TOOL_CALLS,
    Answer,
    Began,
    Candidate,
    Closed,
    Done,
    Ended,
    Event,
    Opened,
    Piece,
    Said,
    Sealed,
    Used,
)
from gateway.wire.conversation import (
    Conversation,
    Form,
    Media,
    Part,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    merged_turns,
)
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.json import dumps
from gateway.wire.sse import events
from gateway.wire.translated import Reader, TranslatedStream, Writer

DIALECTS = (CHAT, ANTHROPIC, RESPONSES)
EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
PAIR = pytest.mark.parametrize(
    ("provider", "caller"),
    [pair for pair in product(DIALECTS, DIALECTS) if pair[0] is not pair[1]],
    ids=lambda dialect: dialect.name,
)

WORDS = st.text(st.sampled_from('aZ é漢😀\n\r\t"\\{}[]:,0\u2028'), min_size=1, max_size=12)
NAMES = st.text(st.sampled_from("abcXYZ_09-"), min_size=1, max_size=10)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=3).map(lambda found: dumps(found).decode())
SCHEMAS = st.dictionaries(NAMES, VALUES, max_size=2).map(lambda found: {"type": "object", **found})
BASE64 = st.sampled_from(["YQ==", "iVBORw0KGgo="])
URLS = st.sampled_from(["https://a.example/b.png", "http://c.example/?d=data:e;base64,f"])


# requests

MEDIA = st.one_of(
    st.builds(
        Media, st.just("image"), st.sampled_from(["image/png", "image/jpeg", "image/webp"]), data=BASE64
    ),
    st.builds(Media, st.just("image"), url=URLS),
    st.builds(Media, st.just("file"), st.just("application/pdf"), data=BASE64, name=NAMES),
    st.builds(Media, st.just("file"), file_id=NAMES),
)
TOOLS = st.lists(
    st.builds(Tool, NAMES, WORDS | st.just(""), SCHEMAS, st.none() | st.booleans()),
    max_size=3,
    unique_by=lambda tool: tool.name,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "stop": st.lists(WORDS, min_size=1, max_size=4),
    },
)
FORMS = st.builds(Form, st.just("json_schema"), NAMES, SCHEMAS, st.none() | st.booleans())


@st.composite
def dialogues(draw: st.DrawFn) -> list[Turn]:
    """A user and a model by turns; every call of a tool has its result first in the next turn."""
    turns: list[Turn] = []
    calls: list[ToolCall] = []
    for at in range(draw(st.integers(1, 3))):
        asked: list[Part] = [
            ToolResult(call.id, [Text(text) for text in draw(st.lists(WORDS, max_size=2))]) for call in calls
        ]
        asked += draw(st.lists(WORDS.map(Text) | MEDIA, min_size=0 if asked else 1, max_size=3))
        names = draw(st.lists(NAMES, max_size=2))
        calls = [ToolCall(f"call_{at}_{nth}", name, draw(ARGUMENTS)) for nth, name in enumerate(names)]
        said = [Text(text) for text in draw(st.lists(WORDS, min_size=0 if calls else 1, max_size=1))]
        turns += [Turn("user", asked), Turn("assistant", [*said, *calls])]
    return turns if draw(st.booleans()) else turns[:-1]


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """A call that says nothing but what every dialect knows."""
    found = Conversation(
        draw(NAMES),
        [Text(text) for text in draw(st.lists(WORDS, max_size=2))],
        draw(dialogues()),
        draw(TOOLS),
        cap_tokens=draw(st.integers(RESPONSES.least_cap, 10**6)),
        form=draw(st.none() | FORMS),
        stream=draw(st.booleans()),
        options=draw(OPTIONS),
    )
    if found.tools:
        named = ToolChoice("named", found.tools[0].name)
        modes = st.sampled_from(["auto", "none", "required"]).map(ToolChoice)
        found.tool_choice = draw(st.none() | st.just(named) | modes)
        if found.tool_choice is None or found.tool_choice.mode != "none":
            found.parallel = draw(st.sampled_from([None, False]))
    return found


def known_to(dialect: Dialect, said: Conversation) -> Conversation:
    """What of a call the dialect has words for: the Responses API has none for where to stop."""
    if dialect is not RESPONSES:
        return said
    return replace(said, options={name: value for name, value in said.options.items() if name != "stop"})


def meant_to(dialect: Dialect, said: Conversation) -> dict[str, Any]:
    """What a call means once it was said in the dialect: where others would do otherwise by default, the
    Responses API is told in so many words."""
    found = meant(said)
    if dialect is RESPONSES:
        found["tools"] = [(*told, strict is True) for *told, strict in found["tools"]]
        found["options"] = {**found["options"], "store": False}
    return found


def meant(said: Conversation) -> dict[str, Any]:
    """What a call means in every dialect: how it is cut into parts is not of it."""
    return {
        "system": "\n\n".join(part.text for part in said.system),
        "turns": [(turn.role, [_meant(part) for part in turn.parts]) for turn in merged_turns(said.turns)],
        "tools": [(tool.name, tool.description, tool.parameters, tool.strict) for tool in said.tools],
        "choice": said.tool_choice or ToolChoice("auto"),
        "parallel": said.parallel,
        "cap": said.cap_tokens,
        "form": said.form and (said.form.mode, said.form.schema),
        "stream": said.stream,
        "options": said.options,
        "rest": said.rest,
    }


def _meant(part: Part) -> Any:
    if isinstance(part, ToolResult):
        return part.call_id, "\n".join(inner.text for inner in part.parts if isinstance(inner, Text))
    return part


# answers

COUNTS = st.integers(0, 10**7)
USAGES = st.builds(
    Usage,
    input=COUNTS,
    cached_input=COUNTS,
    cache_write=COUNTS,
    output=COUNTS,
    reasoning=COUNTS,
    service_tier=st.sampled_from(["", "default", "priority"]),
)


@st.composite
def parts_of_answers(draw: st.DrawFn) -> list[Said]:
    """Thoughts, a text and calls, in the order that chat tells them in."""
    found: list[Said] = [Thinking(text) for text in draw(st.lists(WORDS, max_size=1))]
    found += [Text(text) for text in draw(st.lists(WORDS, max_size=1))]
    names = draw(st.lists(NAMES, max_size=2))
    return found + [ToolCall(f"call_{nth}", name, draw(ARGUMENTS)) for nth, name in enumerate(names)]


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """An answer that says nothing but what every dialect knows."""
    parts = draw(parts_of_answers())
    calls = any(isinstance(part, ToolCall) for part in parts)
    reason = draw(st.sampled_from([TOOL_CALLS if calls else STOP, LENGTH]))
    return Answer("msg_" + draw(NAMES), draw(NAMES), [Candidate(parts, reason)], draw(USAGES))


@dataclass
class Heard:
    """What was understood of an answer."""

    thoughts: str = ""
    text: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    refusal: str = ""
    reason: str = ""
    usage: Usage | None = None
    model: str = ""


def heard(answer: Answer) -> Heard:
    """The first candidate of a whole answer."""
    (candidate, *_) = answer.candidates
    found = Heard(reason=candidate.reason, usage=answer.usage, model=answer.model)
    for part in candidate.parts:
        _hear(found, part, "")
    return found


def _hear(found: Heard, part: Said, text: str) -> None:
    if isinstance(part, ToolCall):
        found.calls.append((part.id, part.name, part.arguments + text))
    elif isinstance(part, Text):
        found.text += part.text + text
    elif isinstance(part, Thinking):
        found.thoughts += part.text + text
    else:
        found.refusal += part.text + text


# streams


def told(answer: Answer, cuts: Iterable[int], *, usage_first: bool) -> list[Event]:
    """The events of an answer, made anew: writers may write in them. `cuts` say where texts are cut."""
    (candidate,) = answer.candidates
    found: list[Event] = [Began(answer.id, answer.model)]
    for index, part in enumerate(candidate.parts):
        assert isinstance(part, (Text, Thinking, ToolCall))
        text = part.arguments if isinstance(part, ToolCall) else part.text
        empty = ToolCall(part.id, part.name, "") if isinstance(part, ToolCall) else type(part)("")
        found.append(Opened(index, empty))
        found += [Piece(index, piece) for piece in cut(text, cuts)]
        if isinstance(part, Thinking) and part.signature:
            found.append(Sealed(index, part.signature))
        found.append(Closed(index))
    assert answer.usage is not None
    end: list[Event] = [Ended(candidate.reason), Used(answer.usage)]
    return [*found, *(reversed(end) if usage_first else end), Done()]


def cut(whole: Any, cuts: Iterable[int]) -> list[Any]:
    """Text or bytes in pieces, none of them empty."""
    places = sorted({0, len(whole), *(place for place in cuts if place < len(whole))})
    return [whole[begin:end] for begin, end in pairwise(places)]


def written(writer: Writer, said: Iterable[Event]) -> bytes:
    return b"".join([writer.write(event) for event in said])


def read(reader: Reader, stream: bytes) -> list[Event]:
    """The events of a stream that came whole."""
    return [event for _, data in events(stream) for event in reader.read(data)]


def heard_in(said: Iterable[Event]) -> Heard:
    """What is understood of events. They must be in order: a part is opened before its pieces and closed
    after them, one at a time; the end comes once, and nothing after it."""
    found, part, text, at, count = Heard(), None, "", -1, 0
    kinds = []
    for event in said:
        kinds.append(type(event))
        if isinstance(event, Opened):
            assert part is None and event.index == count, event
            part, text, at, count = event.part, "", event.index, count + 1
        elif isinstance(event, (Piece, Sealed, Closed)):
            assert part is not None and event.index == at, event
            if isinstance(event, Piece):
                text += event.text
            elif isinstance(event, Closed):
                _hear(found, part, text)
                part = None
        elif isinstance(event, Began):
            found.model = event.model
        elif isinstance(event, Ended):
            found.reason = event.reason
        elif isinstance(event, Used):
            found.usage = event.usage
    assert part is None and kinds[0] is Began and kinds[-1] is Done
    assert [kinds.count(kind) for kind in (Began, Ended, Done)] == [1, 1, 1]
    return found


def translated(
    provider: Dialect, caller: Dialect, parts: Iterable[bytes], *, wants_usage: bool = True
) -> tuple[TranslatedStream, bytes]:
    """A stream after all its bytes, and what its caller got."""
    stream = TranslatedStream(provider.reader(), caller.writer(wants_usage))
    out = b"".join([*(stream.feed(part) for part in parts), stream.finish()])
    return stream, out


def data_in(stream: bytes) -> Iterator[bytes]:
    """The data of a stream's events."""
    return (data for _, data in events(stream) if data)
