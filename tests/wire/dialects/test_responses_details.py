"""What goes along with the words of a Responses answer: where they come from and how likely they were; and
calls whose arguments come by turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response

from gateway.wire.answered import Opened, Piece
from gateway.wire.conversation import ToolCall
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.json import dumps
from gateway.wire.sse import events
from gateway.wire.translated import TranslatedStream
from tests.wire.dialects.test_responses_streams import (
    EVENT,
    added,
    arguments_delta,
    call_delta,
    chunks,
    done,
    function_call,
    inside,
    message,
    numbered,
    response,
    stream,
    told_in,
    translated,
)
from tests.wire.hub_strategies import cut

PAGE = {"url": "https://a.example/nile", "title": "Nile"}
FLAT = {"type": "url_citation", "start_index": 4, "end_index": 8, **PAGE}
"""Of "Nile" in "The Nile is long."."""
NESTED = {"type": "url_citation", "url_citation": {"start_index": 4, "end_index": 8, **PAGE}}
CITED = {"type": "web_search_result_location", **PAGE, "encrypted_index": ""}
FILE = {"type": "file_citation", "file_id": "file-1", "filename": "a.txt", "index": 3}


def moved(note: Mapping[str, Any], by: int) -> dict[str, Any]:
    return {**note, "start_index": note["start_index"] + by, "end_index": note["end_index"] + by}


def output_text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": [], **more}


def item(*content: Mapping[str, Any]) -> dict[str, Any]:
    begun = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"}
    return {**begun, "content": [*content]}


def told(provider: Dialect, caller: Dialect, fields: dict[str, Any]) -> dict[str, Any]:
    """A whole answer for a caller."""
    answer = provider.read_answer(fields)
    assert answer is not None
    found = caller.write_answer(answer)
    if caller is RESPONSES:
        Response.model_validate(found)
    return found


def chat(content: str, **more: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop", **more}
    return {"id": "c", "model": "m", "choices": [choice]}


# where words come from, in whole answers


def test_a_page_is_cited_at_its_place_among_all_texts() -> None:
    texts = [output_text("So: "), output_text("The Nile is long.", annotations=[FILE, FLAT])]
    (choice,) = told(RESPONSES, CHAT, response("completed", item(*texts)))["choices"]
    noted = moved(NESTED["url_citation"], 4)
    assert choice["message"]["annotations"] == [{"type": "url_citation", "url_citation": noted}]
    assert choice["message"]["content"][8:12] == "Nile"


def test_a_page_that_chat_cites_is_cited_here_at_its_place() -> None:
    fields = chat("The Nile is long.")
    fields["choices"][0]["message"]["annotations"] = [NESTED]
    ((found,), *_) = (one["content"] for one in told(CHAT, RESPONSES, fields)["output"])
    assert found["annotations"] == [FLAT]


def test_a_page_is_cited_in_anthropics_words_and_back() -> None:
    text = output_text("The Nile is long.", annotations=[FLAT])
    (block,) = told(RESPONSES, ANTHROPIC, response("completed", item(text)))["content"]
    assert block["citations"] == [{**CITED, "cited_text": "Nile"}]
    fields = {"type": "message", "id": "m", "model": "m", "content": [block], "stop_reason": "end_turn"}
    ((found,), *_) = (one["content"] for one in told(ANTHROPIC, RESPONSES, fields)["output"])
    # Anthropic cites a whole block.
    assert found["annotations"] == [{**FLAT, "start_index": 0, "end_index": len("The Nile is long.")}]


# in streams


def note(annotation: Any, at: int = 0) -> dict[str, Any]:
    more = {"annotation_index": 0, "annotation": annotation}
    return inside("output_text.annotation.added", {"id": f"msg_resp_7_{at}"}, at, content_index=0, **more)


def noted(*pieces: str, whole: Any = ()) -> list[dict[str, Any]]:
    """The events of a message with a note before its text ends; `whole` is what its last events repeat."""
    told = message("msg_resp_7_0", 0, *pieces)
    told.insert(-3, note(FLAT))
    told[-2]["part"] = {**told[-2]["part"], "annotations": [*whole]}
    told[-1]["item"] = {**told[-1]["item"], "content": [told[-2]["part"]]}
    return told


def notes_in(sent: bytes) -> list[Any]:
    """Chat's annotations in a stream for its caller."""
    found = [one for one in told_in(sent.replace(b"data: [DONE]\n\n", b"")) if one.get("choices")]
    return [note for one in found for note in one["choices"][0]["delta"].get("annotations", ())]


def test_a_stream_cites_at_the_place_among_all_texts() -> None:
    first, second = message("msg_resp_7_0", 0, "So: "), message("msg_resp_7_1", 1, "The Nile", " is long.")
    second.insert(-3, note(FLAT, 1))
    out = translated(stream(first, second), RESPONSES, CHAT)
    assert notes_in(out) == [{"type": "url_citation", "url_citation": moved(NESTED["url_citation"], 4)}]


@pytest.mark.parametrize("is_added", [True, False])
def test_what_is_cited_is_told_once(is_added: bool) -> None:
    told = noted("The Nile", " is long.", whole=[FLAT])
    if not is_added:
        told = [one for one in told if "annotation" not in one]
    out = translated(stream(told), RESPONSES, CHAT)
    assert notes_in(out) == [NESTED]
    through = TranslatedStream(RESPONSES.reader(), ANTHROPIC.writer(True))
    cited = [
        one["delta"]["citation"]
        for one in told_in(through.feed(stream(told)))
        if one.get("delta", {}).get("type") == "citations_delta"
    ]
    assert cited == [{**CITED, "cited_text": "" if is_added else "Nile"}]
    assert through.unknown == {}


def test_a_note_of_chats_is_an_event_and_is_in_all_that_repeats_the_text() -> None:
    deltas = [{"content": "The Nile"}, {"content": " is long."}, {"annotations": [NESTED]}]
    sent = chunks({"role": "assistant", "content": ""}, *deltas, reason="stop")
    told = told_in(translated(sent, CHAT, RESPONSES))
    for one in told:
        EVENT.validate_python(one)
    assert told == told_in(stream(noted("The Nile", " is long.", whole=[FLAT])))[:-1] + told[-1:]
    (out,) = told[-1]["response"]["output"]
    assert out["content"] == [output_text("The Nile is long.", annotations=[FLAT])]


def test_a_block_of_anthropics_is_cited_for_as_a_whole() -> None:
    def delta(fields: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": fields}

    sent = numbered(
        [
            {"type": "message_start", "message": {"id": "resp_7", "model": "gpt-5"}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            delta({"type": "text_delta", "text": "The Nile"}),
            delta({"type": "citations_delta", "citation": {**CITED, "cited_text": "long"}}),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            {"type": "message_stop"},
        ]
    )
    last = told_in(translated(sent, ANTHROPIC, RESPONSES))[-1]
    (content,) = last["response"]["output"][0]["content"]
    assert content["annotations"] == [{**FLAT, "start_index": 0, "end_index": 8}]


# how likely words were


def token(said: str, logprob: float, *, bytes_: bool = True) -> dict[str, Any]:
    more = {"bytes": [*said.encode()]} if bytes_ else {}
    other = {"token": "x", "logprob": -9.0, **({"bytes": [120]} if bytes_ else {})}
    return {"token": said, "logprob": logprob, **more, "top_logprobs": [other]}


def without_bytes(odds: Mapping[str, Any], unknown: Any) -> dict[str, Any]:
    return {**odds, "bytes": unknown, "top_logprobs": [{**odds["top_logprobs"][0], "bytes": unknown}]}


def test_a_whole_answer_keeps_logprobs_both_ways() -> None:
    odds = [token("The", -0.1), token(" Nile", -0.2)]
    fields = chat("The Nile", logprobs={"content": odds, "refusal": None})
    answered = told(CHAT, RESPONSES, fields)
    assert answered["output"][0]["content"][0]["logprobs"] == odds
    (choice,) = told(RESPONSES, CHAT, answered)["choices"]
    assert choice["logprobs"] == {"content": odds, "refusal": None}
    fields["choices"][0]["logprobs"]["content"][0]["bytes"] = None
    assert told(CHAT, RESPONSES, fields)["output"][0]["content"][0]["logprobs"][0]["bytes"] == []


def likely(pieces: list[str], *, bytes_: bool) -> bytes:
    """A Responses stream: each piece as one token, each as likely as the last one."""
    told = message("msg_resp_7_0", 0, *pieces)
    for one in told:
        if one["type"] == "response.output_text.delta":
            one["logprobs"] = [token(one["delta"], -0.5, bytes_=bytes_)]
    return stream(told)


@pytest.mark.parametrize("bytes_", [True, False])
def test_each_piece_has_its_logprobs_in_chat(bytes_: bool) -> None:
    """Also of pieces that are alike but for their text, of which runs are handed on unread otherwise."""
    pieces = ["a", "b", "c", "d"]
    out = translated(likely(pieces, bytes_=bytes_), RESPONSES, CHAT).replace(b"data: [DONE]\n\n", b"")
    found = []
    for one in told_in(out):
        ChatCompletionChunk.model_validate({**one, "usage": None})
        found += [choice["logprobs"] for choice in one["choices"] if choice["delta"].get("content")]
    odds = [token(piece, -0.5) for piece in pieces]
    expected = odds if bytes_ else [without_bytes(one, None) for one in odds]
    assert found == [{"content": [one], "refusal": None} for one in expected]


def test_each_piece_has_its_logprobs_here() -> None:
    odds = [token(piece, -0.5) for piece in "abcd"]
    head = {"id": "resp_7", "model": "gpt-5"}
    choices = [
        {"index": 0, "delta": {"content": one["token"]}, "logprobs": {"content": [one]}} for one in odds
    ]
    sent = b"".join(b"data: %b\n\n" % dumps({**head, "choices": [choice]}) for choice in choices)
    told = told_in(translated(sent + chunks(reason="stop"), CHAT, RESPONSES))
    for one in told:
        EVENT.validate_python(one)
    deltas = [one["logprobs"] for one in told if one["type"] == "response.output_text.delta"]
    assert deltas == [[one] for one in odds]
    (whole,) = (one["logprobs"] for one in told if one["type"] == "response.output_text.done")
    (part,) = (one["part"] for one in told if one["type"] == "response.content_part.done")
    (item,) = told[-1]["response"]["output"]
    assert whole == part["logprobs"] == item["content"][0]["logprobs"] == odds


def test_a_token_without_letters_of_its_own_is_kept() -> None:
    odds = [token("\\xf0\\x9f", -0.5), token("\\x98\\x80", -0.1)]
    told = message("msg_resp_7_0", 0, "", "😀")
    for one, of_it in zip((one for one in told if "delta" in one), odds, strict=True):
        one["logprobs"] = [of_it]
    out = translated(stream(told), RESPONSES, CHAT).replace(b"data: [DONE]\n\n", b"")
    found = [choice for one in told_in(out) for choice in one["choices"] if choice["logprobs"]]
    assert [choice["delta"]["content"] for choice in found] == ["", "😀"]
    assert [choice["logprobs"]["content"] for choice in found] == [[odds[0]], [odds[1]]]


# calls by turns


def by_turns() -> bytes:
    """Two calls whose arguments come by turns, and a third that waits for nobody."""
    one = function_call("fc_1", 0, "call_1", '{"a":', "1}")
    two = function_call("fc_2", 1, "call_2", '{"b":', "2}")
    mixed = [one[0], two[0], one[1], two[1], one[2], two[2], *two[3:], *one[3:]]
    return stream(mixed, function_call("fc_3", 2, "call_3", '{"c":3}'))


CALLS = [("call_1", '{"a":1}'), ("call_2", '{"b":2}'), ("call_3", '{"c":3}')]


def test_arguments_that_come_by_turns_are_each_calls_own_in_chat() -> None:
    found: dict[int, list[str]] = {}
    out = translated(by_turns(), RESPONSES, CHAT).replace(b"data: [DONE]\n\n", b"")
    for one in told_in(out):
        for choice in one["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                known = found.setdefault(call["index"], [call.get("id", ""), ""])
                known[1] += call["function"]["arguments"]
    assert [tuple(known) for known in found.values()] == CALLS


def test_arguments_that_come_by_turns_are_one_block_after_the_other_in_anthropics() -> None:
    open_, found = None, []
    for one in told_in(translated(by_turns(), RESPONSES, ANTHROPIC)):
        if one["type"] == "content_block_start":
            assert open_ is None and one["index"] == len(found)
            open_ = one["index"]
            found.append([one["content_block"]["id"], ""])
        elif one["type"] == "content_block_delta":
            assert one["index"] == open_
            found[-1][1] += one["delta"]["partial_json"]
        elif one["type"] == "content_block_stop":
            assert one["index"] == open_
            open_ = None
    assert [tuple(known) for known in found] == CALLS


def test_what_waits_for_a_call_that_never_ends_is_told_at_the_end() -> None:
    one, two = function_call("fc_1", 0, "call_1", "{}"), function_call("fc_2", 1, "call_2", "[]")
    cut_short = [one[0], two[0], two[1], one[1]]
    sent = numbered([{"type": "response.created", "response": response("in_progress")}, *cut_short])
    through = TranslatedStream(RESPONSES.reader(), ANTHROPIC.writer(True))
    assert b"call_2" not in through.feed(sent)
    ended = numbered([{"type": "response.completed", "response": response("completed")}])
    out = through.feed(ended)
    assert out.index(b"call_2") < out.index(b"[]") < out.index(b"message_delta")
    assert out.count(b'"content_block_stop"') == 2


def test_arguments_that_come_by_turns_in_chat_are_whole_when_they_are_done() -> None:
    turns = [
        *(call_delta(0, "call_1"), call_delta(1, "call_2")),
        *(arguments_delta(0, '{"a":'), arguments_delta(1, '{"b":')),
        *(arguments_delta(0, "1}"), arguments_delta(1, "2}")),
    ]
    sent = chunks({"role": "assistant", "content": ""}, *turns, reason="tool_calls")
    told = told_in(translated(sent, CHAT, RESPONSES))
    for one in told:
        EVENT.validate_python(one)
    ended = [one for one in told if one["type"] == "response.function_call_arguments.done"]
    assert [one["arguments"] for one in ended] == ['{"a":1}', '{"b":2}']
    places = [told.index(one) for one in ended]
    last = max(at for at, one in enumerate(told) if one["type"].endswith("arguments.delta"))
    assert min(places) > last


def test_a_call_ends_as_soon_as_the_next_one_begins_if_it_is_whole() -> None:
    turns = [call_delta(0, "call_1"), arguments_delta(0, '{"a":1}'), call_delta(1, "call_2")]
    sent = chunks({"role": "assistant", "content": ""}, *turns, reason="tool_calls")
    kinds = [one["type"].rpartition("response.")[2] for one in told_in(translated(sent, CHAT, RESPONSES))]
    assert kinds.index("function_call_arguments.done") < len(kinds) - 1 - kinds[::-1].index(
        "output_item.added"
    )


def test_a_text_that_goes_on_after_a_call_began_is_two_texts() -> None:
    text, call = message("msg_1", 0, "So", " long."), function_call("fc_1", 1, "call_1", "{}")
    sent = numbered([*text[:3], call[0], *text[3:], *call[1:]])
    found = [block for block in told_in(translated(sent, RESPONSES, ANTHROPIC)) if "content_block" in block]
    assert [block["content_block"]["type"] for block in found] == ["text", "tool_use", "text"]


TURNS = st.lists(st.integers(0, 2), min_size=3, max_size=12)


@settings(max_examples=60, deadline=None)
@given(turns=TURNS, cuts=st.lists(st.integers(0, 4000), max_size=4))
def test_calls_in_any_order_are_the_same_for_every_caller(turns: list[int], cuts: list[int]) -> None:
    """Each turn is a byte of that call's arguments; it ends after its last."""
    begun = [added(function_call(f"fc_{at}", at, f"call_{at}")[0]["item"], at) for at in range(3)]
    arguments = [str(10 ** (turns.count(at) - 1)) if at in turns else "" for at in range(3)]
    told, sent = [*begun], [0, 0, 0]
    for at in turns:
        piece = arguments[at][sent[at]]
        told.append(inside("function_call_arguments.delta", {"id": f"fc_{at}"}, at, delta=piece))
        sent[at] += 1
        if sent[at] == len(arguments[at]):
            told.append(done({**begun[at]["item"], "arguments": arguments[at]}, at))
    stream_ = numbered(
        [
            {"type": "response.created", "response": response("in_progress")},
            *told,
            {"type": "response.completed", "response": response("completed")},
        ]
    )
    for caller in (CHAT, ANTHROPIC):
        found: dict[int, list[str]] = {}
        whole = translated(stream_, RESPONSES, caller)
        through = TranslatedStream(RESPONSES.reader(), caller.writer(True))
        assert b"".join(map(through.feed, cut(stream_, cuts))) + through.finish() == whole
        reader = caller.reader()
        for _, data in events(whole):
            for event in reader.read(data):
                if isinstance(event, Opened) and isinstance(event.part, ToolCall):
                    found[event.index] = [event.part.id, ""]
                elif isinstance(event, Piece):
                    found[event.index][1] += event.text
        assert sorted(map(tuple, found.values())) == [(f"call_{at}", arguments[at]) for at in range(3)]
