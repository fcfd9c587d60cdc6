"""What other dialects said, in chat's words: never raises, whatever it is given."""

from __future__ import annotations

import json

import pytest

from gateway.wire.in_chat import answer_in_chat, request_in_chat

MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "model": "m",
    "content": [{"type": "text", "text": "At home."}],
    "stop_reason": "max_tokens",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


@pytest.mark.parametrize("dialect", ["", "openai_chat", "no such"])
def test_chat_stays_as_it_is(dialect: str) -> None:
    assert request_in_chat(dialect, b"{ }") == b"{ }"
    assert answer_in_chat(dialect, b"data: x", streamed=True) == b"data: x"


def test_a_request_and_an_answer() -> None:
    asked = json.dumps({"model": "m", "system": "s", "messages": [{"role": "user", "content": "Where?"}]})
    assert json.loads(request_in_chat("anthropic", asked.encode()))["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "Where?"},
    ]
    told = json.loads(answer_in_chat("anthropic", json.dumps(MESSAGE).encode(), streamed=False))
    (choice,) = told["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("At home.", "length")


def test_a_part_that_has_no_word_in_chat_shows_that_it_is_there() -> None:
    content = [{"type": "text", "text": "Look:"}, {"type": "hologram"}]
    asked = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]})
    (message,) = json.loads(request_in_chat("anthropic", asked.encode()))["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "messages[].content[].hologram"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": 1}', b'{"messages": [1]}', b"data: x\n\n"])
def test_what_cannot_be_read_gives_nothing_or_itself(body: bytes) -> None:
    assert request_in_chat("anthropic", body) in (b"", body)
    assert answer_in_chat("anthropic", body, streamed=False) == b""
    assert b"choices" not in answer_in_chat("anthropic", body, streamed=True)
    assert answer_in_chat("anthropic", b"data: \xff\n\n", streamed=True) == b""
