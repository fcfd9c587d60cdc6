"""The hub between dialects: what callers and providers send is translated, or refused in a word."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from itertools import product

from gateway.errors import FALLBACK_REASONS, GatewayError
from gateway.usage import Usage
from gateway.wire.conversation import Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.dialects.openai_chat import Call, read_call
from gateway.wire.json import dumps, try_object
from gateway.wire.speech import read_own, speech_of
from gateway.wire.sse import BadStream, events
from gateway.wire.translated import TranslatedStream
from tests.fuzz.target import pieces

DIALECTS = (CHAT, ANTHROPIC, RESPONSES)
PAIRS = tuple(pair for pair in product(DIALECTS, DIALECTS) if pair[0] is not pair[1])
"""(what is read, what is written)."""
MODELS = ("gpt-4o", "claude-sonnet-4-5", "claude-opus-4-8", "claude-opus-4-20250514")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
DEEP = b"[" * 300 + b"]" * 300
"""More levels than can be written, fewer than are read."""
RESULT = b'{"type":"tool_result","content":['
"""As in a result that holds results."""

CHAT_ASKED = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "You know rivers."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Where?"}, {"type": "image_url", "image_url": {}}],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "there"},
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,YQ=="}}],
        },
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA}},
    "reasoning_effort": "low",
    "max_completion_tokens": 2000,
    "stop": ["x"],
    "temperature": 0.5,
    "n": 1,
    "seed": 1,
}
ANTHROPIC_ASKED = {
    "model": "m",
    "max_tokens": 2000,
    "system": [{"type": "text", "text": "You know rivers.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Where?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "YQ=="}},
                {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"name": "Elbe"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "no"}]},
                {"type": "text", "text": "And?"},
            ],
        },
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
    "top_k": 3,
}
RESPONSES_ASKED = {
    "model": "m",
    "instructions": "You know rivers.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Where?"},
                {"type": "input_image", "image_url": "data:image/png;base64,YQ==", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,YQ=="},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "s"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "there"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "There."}]},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "parallel_tool_calls": False,
    "text": {"format": {"type": "json_schema", "name": "r", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    "max_output_tokens": 2000,
    "store": False,
}
CHAT_ANSWERED = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "a river",
                "reasoning_content": "Hm.",
                "refusal": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            "logprobs": {"content": []},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
}
ANTHROPIC_ANSWERED = {
    "id": "msg_c",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "a river"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"name": "Elbe"}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 5,
        "cache_read_input_tokens": 4,
        "output_tokens": 3,
        "service_tier": "standard",
    },
}
NOTE = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 1}
ODDS = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
SAID = {"type": "output_text", "text": "a river", "annotations": [NOTE], "logprobs": [ODDS]}
ITEMS = (
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "message", "id": "msg_1", "role": "assistant", "content": [SAID]},
    {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call", "id": "fc_2", "call_id": "d", "name": "f", "arguments": "{}"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed"},
)
RESPONSES_ANSWERED = {
    "id": "resp_c",
    "object": "response",
    "model": "m",
    "status": "completed",
    "output": ITEMS,
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    },
}
ERROR = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'


def stream(*told: Mapping[str, object] | bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % (each if isinstance(each, bytes) else dumps(each)) for each in told)


def delta(fields: Mapping[str, object], reason: str | None = None) -> Mapping[str, object]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def block(
    index: int, fields: Mapping[str, object], *deltas: Mapping[str, object]
) -> list[Mapping[str, object]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": fields},
        *({"type": "content_block_delta", "index": index, "delta": each} for each in deltas),
        {"type": "content_block_stop", "index": index},
    ]


CALLED = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
CHAT_STREAM = stream(
    delta({"role": "assistant", "content": ""}),
    delta({"reasoning_content": "Hm."}),
    delta({"content": "a river"}),
    delta({"tool_calls": [CALLED]}),
    delta({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
    delta({}, "tool_calls"),
    {"choices": [], "usage": CHAT_ANSWERED["usage"]},
    b"[DONE]",
)
BEGAN: Mapping[str, object] = {
    "type": "message_start",
    "message": {"id": "msg_c", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}},
}
ENDED: Mapping[str, object] = {
    "type": "message_delta",
    "delta": {"stop_reason": "tool_use", "stop_sequence": None},
    "usage": {"output_tokens": 3},
}
ANTHROPIC_STREAM = stream(
    BEGAN,
    b'{"type": "ping"}',
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "signature_delta", "signature": "s"},
    ),
    *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a river"}),
    *block(2, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
    *block(
        3,
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"name":'},
        {"type": "input_json_delta", "partial_json": '"Elbe"}'},
    ),
    ENDED,
    b'{"type":"message_stop"}',
)


def inside(kind: str, at: int, fields: Mapping[str, object]) -> Mapping[str, object]:
    return {"type": f"response.{kind}", "output_index": at, "content_index": 0, **fields}


CREATED = {"type": "response.created", "response": {"id": "resp_c", "model": "m", "output": []}}
TURNS = [inside("function_call_arguments.delta", at, {"delta": part}) for part in "{}" for at in (2, 3)]
RESPONSES_EVENTS: tuple[Mapping[str, object], ...] = (
    inside("output_item.added", 0, {"item": {**ITEMS[0], "summary": []}}),
    inside("reasoning_summary_text.delta", 0, {"summary_index": 0, "delta": "Hm."}),
    inside("output_item.done", 0, {"item": ITEMS[0]}),
    inside("output_item.added", 1, {"item": {**ITEMS[1], "content": []}}),
    inside("content_part.added", 1, {"part": {"type": "output_text", "text": ""}}),
    inside("output_text.delta", 1, {"delta": "a riv", "logprobs": [ODDS]}),
    inside("output_text.delta", 1, {"delta": "er", "logprobs": []}),
    inside("output_text.annotation.added", 1, {"annotation_index": 0, "annotation": NOTE}),
    inside("output_text.done", 1, {"text": "a river"}),
    inside("content_part.done", 1, {"part": SAID}),
    inside("output_item.done", 1, {"item": ITEMS[1]}),
    *(inside("output_item.added", at, {"item": {**ITEMS[at], "arguments": ""}}) for at in (2, 3)),
    *TURNS,
    *(inside("output_item.done", at, {"item": ITEMS[at]}) for at in (2, 3)),
    inside("output_item.added", 4, {"item": ITEMS[4]}),
)
FINISHED = {"type": "response.completed", "response": RESPONSES_ANSWERED}
RESPONSES_STREAM = stream(CREATED, *RESPONSES_EVENTS, FINISHED)


class Hub:
    """Requests raise `GatewayError` and streams `BadStream`, nothing else; what is read can be written, and
    a stream means the same in any split."""

    name = "hub"
    corpus = (
        dumps(CHAT_ASKED),
        dumps(ANTHROPIC_ASKED),
        dumps(CHAT_ANSWERED),
        dumps(ANTHROPIC_ANSWERED),
        CHAT_STREAM,
        ANTHROPIC_STREAM,
        dumps(RESPONSES_ASKED),
        dumps(RESPONSES_ANSWERED),
        RESPONSES_STREAM,
        stream(CREATED, {"type": "response.failed", "response": {"error": {"code": "slow_down"}}}),
        stream(BEGAN, ERROR),
        stream({"error": {"message": "no", "code": 503}}),
        ERROR,
        b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","input":%b}]}]}'
        % DEEP,
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[%b%b]}]}'
        % (RESULT * 500, b"]}" * 500),
        b'{"type":"message","content":[{"type":"tool_use","input":%b}]}' % DEEP,
        b'{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"%b"}}]},"logprobs":%b}]}'
        % (b'{\\"a\\":' * 300 + b"1" + b"}" * 300, DEEP),
        b'{"error":%b}' % (b"[" * 1000 + b"]" * 1000),
        stream(b'{"type":"content_block_start","content_block":{"type":"tool_use","input":%b}}' % DEEP),
    )
    tokens = (
        *(b"null", b"true", b"{}", b"[]", b'""', b'"x"', b"-1", b"0.5", b'{"type":"x"}', DEEP, RESULT),
        *(b'"type":"tool_result",', b'"type":"tool_use",', b'"type":"text",', b'"role":"tool",'),
        *(b'"role":"system",', b'"cache_control":{"type":"ephemeral"},', b'"input_tokens":', b'"index":1,'),
        *(b"\n\n", b"data: ", b"data: [DONE]\n\n", b",", b"\xc3", b"\\ud800"),
        *(stream(each) for each in (BEGAN, ENDED, ERROR, *block(0, {"type": "text", "text": "b"}))),
        stream(delta({"content": "b"})),
        *(stream(each) for each in (CREATED, FINISHED, *RESPONSES_EVENTS)),
    )

    def check(self, data: bytes, draw: random.Random) -> None:
        toward = Toward(
            draw.choice(MODELS),
            max_output=draw.choice((None, 1, 8192)),
            reasons=draw.randrange(2) == 0,
            drops=draw.randrange(2) == 0,
        )
        cap = draw.choice((None, 0, 1, 1500))
        for read, write in PAIRS:
            check_request(data, read, write, toward, cap)
            check_answer(data, read, write)
            check_stream(data, read, write, pieces(draw, data))
        for dialect in DIALECTS:
            error = dialect.read_error(draw.choice((400, 429, 529)), {}, data, 0.0)
            assert error.reason in ("", *FALLBACK_REASONS)

    def close(self) -> None: ...


ANSWERS: Mapping[Dialect, tuple[dict[str, object], bytes]] = {
    CHAT: (CHAT_ANSWERED, dumps(CHAT_ANSWERED)),
    ANTHROPIC: (ANTHROPIC_ANSWERED, dumps(ANTHROPIC_ANSWERED)),
    RESPONSES: (try_object(dumps(RESPONSES_ANSWERED)) or {}, dumps(RESPONSES_ANSWERED)),
}
"""What is answered to a request that could be read: callers may be told again what they asked."""


def check_request(data: bytes, caller: Dialect, target: Dialect, toward: Toward, cap: int | None) -> None:
    try:
        call: Call = read_call("chat", data) if caller is CHAT else read_own(caller, data)
        written_cap = None if cap is None else (target.cap_field, cap)
        speech = speech_of(caller, target).at("t", "", "team")
        body, dropped = speech.body(call, toward, written_cap)
    except GatewayError as error:
        assert error.kind.status == 400
        return
    fields = try_object(body)
    assert fields is not None and fields["model"] == toward.model
    assert type(fields["input" if target is RESPONSES else "messages"]) is list
    assert fields.get(target.cap_field, target.least_cap) >= target.least_cap
    assert all(dropped) and len(set(dropped)) == len(dropped)
    target.read_request(fields)
    told = speech.told(*ANSWERS[target], 1.0)
    assert told is not None and caller.read_answer(try_object(told.body) or {}) is not None


def check_answer(data: bytes, provider: Dialect, caller: Dialect) -> None:
    fields = try_object(data)
    if fields is None:
        return
    provider.error_in_answer(fields)
    answer = provider.read_answer(fields)
    told = speech_of(caller, provider).told(fields, data, 1.0)
    if told is not None:
        assert answer is not None
        assert caller.read_answer(try_object(told.body) or {}) is not None
        check_usage(told.usage)


def check_stream(data: bytes, provider: Dialect, caller: Dialect, parts: list[bytes]) -> None:
    whole = translated([data] if data else [], provider, caller)
    assert whole == translated(parts, provider, caller)
    for _, told in events(whole or b""):
        assert told == b"[DONE]" or try_object(told) is not None


def translated(parts: Iterable[bytes], provider: Dialect, caller: Dialect) -> bytes | None:
    """What goes on of a stream; None for one that is refused."""
    passing = TranslatedStream(provider.reader(), caller.writer(True))
    try:
        out = b"".join([*(passing.feed(part) for part in parts), passing.finish()])
    except BadStream:
        return None
    check_usage(passing.usage)
    assert all(count > 0 for count in passing.unknown.values())
    return out


def check_usage(usage: Usage | None) -> None:
    assert usage is None or min(usage.by_kind()) >= 0


TARGETS = (Hub,)
