"""Messages as the GenAI conventions write them, and what the policy redacts."""

from __future__ import annotations

import json
from typing import Any

from gateway.control.contents import Contents

SECRET = "4111-1111"


def told(
    request: dict[str, Any], answer: Any, *, key: str = "app", stream: bool = False, **more: str
) -> dict[str, list[dict[str, Any]]]:
    """The messages of one call, by attribute."""
    contents = Contents({"keys": ["app"], "redact": [r"\d{4}-\d{4}", "(?i)river"]})
    record = {
        **more,
        "key": key,
        "stream": stream,
        "request": json.dumps(request),
        "answer": answer if isinstance(answer, str) else json.dumps(answer),
    }
    return {name: json.loads(text) for name, text in contents.attributes(record).items()}


def test_of_other_keys_and_without_content_there_is_nothing() -> None:
    request = {"messages": [{"role": "user", "content": "x"}]}
    assert told(request, {}, key="other") == {}
    contents = Contents({"keys": ["app"], "redact": []})
    assert contents.attributes({"key": "app", "stream": False}) == {}
    assert contents.attributes({"key": "app", "stream": True, "request": "", "answer": ""}) == {}


def test_everything_that_is_told_is_redacted_however_deep() -> None:
    call = {"id": "c1", "function": {"name": "pay", "arguments": f'{{"card": "{SECRET}"}}'}}
    image = {"type": "image_url", "image_url": {"url": f"data:{SECRET}"}}
    found = told(
        {
            "messages": [
                {"role": "system", "content": "The River bank."},
                {"role": "user", "content": [{"type": "text", "text": f"card {SECRET}"}, image]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": f"paid {SECRET}"},
            ]
        },
        {
            "choices": [
                {"message": {"role": "assistant", "content": f"Yes {SECRET}"}, "finish_reason": "stop"}
            ]
        },
    )
    assert SECRET not in json.dumps(found) and "iver" not in json.dumps(found)
    pays = {"type": "tool_call", "id": "c1", "name": "pay", "arguments": '{"card": "[redacted]"}'}
    paid = {"type": "tool_call_response", "id": "c1", "response": "paid [redacted]"}
    assert found["gen_ai.input.messages"] == [
        {"role": "system", "parts": [{"type": "text", "content": "The [redacted] bank."}]},
        {"role": "user", "parts": [{"type": "text", "content": "card [redacted]"}, {"type": "image_url"}]},
        {"role": "assistant", "parts": [pays]},
        {"role": "tool", "parts": [paid]},
    ]  # fmt: skip
    assert found["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Yes [redacted]"}],
            "finish_reason": "stop",
        }
    ]


def test_a_stream_is_put_together_before_it_is_redacted() -> None:
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "card 4111"}, None),
        ({"content": "-1111."}, None),
        ({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "pay", "arguments": '{"a":'}}]}, None),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}, None),
        ({}, "tool_calls"),
    ]
    events = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas
    ]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ": beat\n\ndata: [DONE]\n\n"
    found = told({"prompt": "x"}, stream, stream=True)
    assert found["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "card [redacted]."},
                {"type": "tool_call", "id": "c1", "name": "pay", "arguments": '{"a":1}'},
            ],
            "finish_reason": "tool_calls",
        }
    ]
    assert found["gen_ai.input.messages"] == [{"role": "user", "parts": [{"type": "text", "content": "x"}]}]


def test_what_is_no_message_is_left_out() -> None:
    strange = {"messages": ["x", None, {"role": ["y"], "content": 5, "tool_calls": [None, {"function": 7}]}]}
    answer = {"choices": [None, {"message": 5, "text": "legacy"}, {"message": {"content": [None]}}]}
    found = told(strange, answer)
    assert len(found["gen_ai.input.messages"]) == 1
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "legacy"}]
    assert told({"input": ["a", 5]}, "data: {", stream=True) == {
        "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "a"}]}]
    }


def test_another_dialect_is_read_as_chat_and_redacted() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": f"paid {SECRET}"}
    request = {
        "system": f"card {SECRET}",
        "messages": [{"role": "user", "content": [result, {"type": "text", "text": "And now?"}]}],
    }
    deltas = ("card 4111", "-1111.")
    events = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "m", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in deltas
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    found = told(request, stream, stream=True, dialect="anthropic")
    assert found["gen_ai.input.messages"] == [
        {"role": "system", "parts": [{"type": "text", "content": "card [redacted]"}]},
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "t1", "response": "paid [redacted]"}],
        },
        {"role": "user", "parts": [{"type": "text", "content": "And now?"}]},
    ]
    assert found["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "card [redacted]."}],
            "finish_reason": "stop",
        }
    ]
