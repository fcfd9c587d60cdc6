"""What other dialects said, in chat's words: never raises, whatever it is given."""

from __future__ import annotations

import json

import pytest

from gateway.wire.in_chat import answer_in_chat, request_in_chat

ASKED = {
    "anthropic": {"model": "m", "system": "s", "messages": [{"role": "user", "content": "Where?"}]},
    "responses": {"model": "m", "instructions": "s", "input": "Where?"},
}
ANSWERED = {
    "anthropic": {
        "type": "message",
        "id": "msg_1",
        "model": "m",
        "content": [{"type": "text", "text": "At home."}],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    },
    "responses": {
        "object": "response",
        "id": "resp_1",
        "model": "m",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "At home.", "annotations": []}],
            }
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    },
}
HOLOGRAMS = {
    "anthropic": {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
    "responses": {"input": [{"role": "user", "content": [{"type": "hologram"}]}]},
}
EACH = pytest.mark.parametrize("dialect", list(ASKED))


@pytest.mark.parametrize("dialect", ["", "openai_chat", "no such"])
def test_chat_stays_as_it_is(dialect: str) -> None:
    assert request_in_chat(dialect, b"{ }") == b"{ }"
    assert answer_in_chat(dialect, b"data: x", streamed=True) == b"data: x"


@EACH
def test_a_request_and_an_answer(dialect: str) -> None:
    asked = json.dumps(ASKED[dialect])
    assert json.loads(request_in_chat(dialect, asked.encode()))["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "Where?"},
    ]
    told = json.loads(answer_in_chat(dialect, json.dumps(ANSWERED[dialect]).encode(), streamed=False))
    (choice,) = told["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("At home.", "length")
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (1, 2)


@EACH
def test_a_part_that_has_no_word_in_chat_shows_that_it_is_there(dialect: str) -> None:
    asked = json.dumps({"model": "m", **HOLOGRAMS[dialect]})
    (message,) = json.loads(request_in_chat(dialect, asked.encode()))["messages"]
    (part,) = message["content"]
    assert part["type"].endswith("content[].hologram")


@EACH
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b"data: x\n\n", b'{"messages": 1}', b'{"messages": [1]}'),
        *(b'{"input": 1}', b'{"input": [1]}', b'{"output": 1}'),
    ],
)
def test_what_cannot_be_read_gives_nothing_or_no_words(dialect: str, body: bytes) -> None:
    asked = request_in_chat(dialect, body)
    assert asked in (b"", body) or json.loads(asked)["messages"] == []
    assert answer_in_chat(dialect, body, streamed=False) == b""
    assert b"choices" not in answer_in_chat(dialect, body, streamed=True)
    assert answer_in_chat(dialect, b"data: \xff\n\n", streamed=True) == b""
