"""JSON of callers and of providers: read with nothing but `GatewayError`, written as it was meant."""

from __future__ import annotations

import json
import random

from gateway.errors import BAD_JSON, UPSTREAM_ERROR, GatewayError
from gateway.money import usd
from gateway.wire.dialects.openai_chat import (
    ENDPOINTS,
    error_body,
    error_in_answer,
    read_call,
    read_error,
    read_usage,
    write_body,
)
from gateway.wire.json import try_object

_TOKENS = (
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"true",
        b"-1",
        b"0",
        b"1e400",
        b"NaN",
        b"1.5",
        b'""',
    ),
    *(
        b"\\ud800",
        b"\\u0000",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\x00",
        b"[" * 300,
        b"]" * 300,
        b'{"a":' * 260,
        b"9" * 25,
    ),
    *(
        b'"model":',
        b'"stream":true,',
        b'"stream_options":{"include_usage":true},',
        b'"max_tokens":-1,',
        b'"n":2,',
    ),
)


class Call:
    """`read_call`, `write_body`: a refusal, or a body that says what the caller's said."""

    name = "call"
    corpus = (
        b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Where?"}]}',
        b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":false},"max_tokens":5}',
        '{"model":"ü","input":["漢","😀\\n"],"n":1,"temperature":0.1,"big":18446744073709551615}'.encode(),
        b'{"model":"m","prompt":"x","metadata":{"user":"1"},"stream":null,"seed":-9223372036854775808}',
        b'{"model":"m","model":"n","a":{"b":[{"c":[1,2.5e-7,-0.0,true,null]}]}}',
    )
    tokens = _TOKENS

    def check(self, data: bytes, draw: random.Random) -> None:
        endpoint = draw.choice(list(ENDPOINTS))
        model = "named" if draw.randrange(4) == 0 else None
        try:
            call = read_call(endpoint, data, model)
        except GatewayError as error:
            _is_told(error)
            return
        said = json.loads(data)
        assert call.model == (model or said["model"])
        assert call.metadata is not None
        # The first target may not want usage asked for; what the second gets is the same as if alone.
        for asks_usage in draw.choice(((True,), (False, True), (True, False))):
            try:
                written = write_body(call, "target", asks_usage=asks_usage)
            except GatewayError as error:
                assert error.kind is BAD_JSON
                return
            wanted = {**said, "model": "target"}
            if call.stream and not asks_usage:
                wanted.pop("stream_options", None)
            elif call.stream and not call.wants_usage:
                wanted["stream_options"] = {**(said.get("stream_options") or {}), "include_usage": True}
            assert _exact(json.loads(written)) == _exact(wanted)

    def close(self) -> None: ...


def _exact(fields: object) -> str:
    """Equality would take 1 for True and -0.0 for 0."""
    return json.dumps(fields, sort_keys=True)


def _is_told(error: GatewayError) -> None:
    told = json.loads(error_body(error))["error"]
    assert {"message", "type", "param", "code"} <= told.keys()
    assert told["message"] == error.message and 400 <= error.kind.status < 500


class Reply:
    """`read_usage`, `read_error`, `error_in_answer`: whatever a provider sends has a meaning, or none."""

    name = "reply"
    corpus = (
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,'
        b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}',
        b'{"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":1}},"service_tier":"flex"}',
        b'{"usage":{"prompt_tokens":5,"prompt_cache_hit_tokens":3,"completion_tokens":0,"num_cached_tokens":1}}',
        b'{"error":{"message":"no","type":"insufficient_quota","param":"n","code":"rate_limit_exceeded","more":[1]}}',
        b'{"error":{"status_code":429,"code":503,"status":400,"type":"tokens","message":null}}',
        b'{"object":"error","message":"too long","type":"BadRequestError","code":400}',
        b'{"detail":[{"loc":["body"],"msg":"field required"}]}',
        b'{"error":"plain text","status":500}',
        b"<html></html>",
    )
    tokens = (
        *_TOKENS,
        *(
            b'"error":',
            b'"usage":',
            b'"code":',
            b'"prompt_tokens":',
            b"100000001",
            b'"message":',
            b'"detail":',
        ),
    )

    def check(self, data: bytes, draw: random.Random) -> None:
        status = draw.choice((400, 401, 402, 403, 404, 408, 418, 422, 429, 500, 503, 504, 529, 599))
        waits = draw.choice(
            (b"1", b"-1", b"nan", b"inf", b"1e999", b"Wed, 21 Oct 2026 07:28:00 GMT", b"\xff", b" 2 ")
        )
        found = read_error(
            status, {b"retry-after": waits, b"retry-after-ms": data[:12]}, data, 1_790_000_000.0
        )
        assert found.status == status
        assert found.retry_after_s is None or 0 <= found.retry_after_s < float("inf")
        answer = try_object(data)
        errors = [found]
        if answer is not None and answer.get("error"):
            errors.append(error_in_answer(answer))
            assert 400 <= errors[-1].status <= 599
        for each in errors:
            refusal = GatewayError(UPSTREAM_ERROR, each.message, param=each.param, details=each.details)
            told = json.loads(error_body(refusal))["error"]
            assert told["type"] == UPSTREAM_ERROR.type and told["message"]
        if answer is not None and (usage := read_usage(answer)) is not None:
            assert min(usage.by_kind()) >= 0
            assert usage.total_input + usage.total_output == sum(usage.by_kind())
            assert usd(usage.total_input).count(b".") == 1

    def close(self) -> None: ...


TARGETS = (Call, Reply)
