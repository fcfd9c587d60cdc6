"""Nothing that a provider says makes the gateway fail: any value in any place of an answer."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import DONE, GOOD, USAGE
from tests.line.faults.models import two_models
from tests.relaying import CHAT, Relay
from tests.scripted import Scripted, answer, streamed

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1.5, 1e300, 2**63, 10**30, 429, 401, 500])
    | st.sampled_from(["", "x", "stop", "insufficient_quota", "content_filter", "[DONE]", "Grüße", "😀"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["code", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0, "cache_write_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0},
}
PLAIN = {**GOOD, "usage": {**USAGE, **DETAILS}, "service_tier": "default", "x_groq": {"usage": USAGE}}
CHUNKS = [
    {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant"}}], "service_tier": "flex"},
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None, "text": None}]},
    {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None},
    {"id": "c", "choices": [], "usage": {**USAGE, **DETAILS}, "x_groq": {"usage": USAGE}},
]  # fmt: skip
ERROR = {
    "error": {
        "message": "Words.", "type": "x", "code": "x", "param": "x", "status": 400, "status_code": 400,
        "innererror": {"code": "x"}, "metadata": {"flagged_input": "x"},
    },
    "message": "Words.", "detail": [], "type": "x", "code": 1,
}  # fmt: skip


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in `value`."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from places(inner, (*path, step))


@st.composite
def spoiled(draw: st.DrawFn, good: Any) -> Any:
    """`good` with one to three of its values replaced, or taken out of their objects."""
    value = copy.deepcopy(good)
    for path in draw(st.lists(st.sampled_from(list(places(good))), min_size=1, max_size=3)):
        if not path:
            value = draw(VALUES)
            continue
        holder = value
        try:
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = draw(VALUES)
        except (LookupError, TypeError):
            pass  # its place went with an earlier change
        else:
            if isinstance(holder, dict) and draw(st.booleans()) and draw(st.booleans()):
                del holder[path[-1]]
    return value


class Front:
    """One line and one provider for all examples of a test."""

    def __init__(self, relay: Relay, provider: Scripted) -> None:
        self.relay = relay
        self.provider = provider

    async def ask(self, said: bytes, *, stream: bool) -> None:
        """The caller gets an answer or an error of the provider's; the gateway never fails itself."""
        self.provider.steps = (said,)
        self.relay.lines.clear()
        got = await self.relay.post({**CHAT, "model": "alone", "stream": stream})
        (record,) = await self.relay.logged()
        assert record["outcome"] in ("ok", "upstream_failed")
        assert got.status != 500
        assert not got.cut
        if got.status != 200:
            assert {"message", "type", "param", "code"} == got.error.keys() & {
                "message",
                "type",
                "param",
                "code",
            }
            assert (record["outcome"], record["usage_source"]) == ("upstream_failed", "none")
            return
        assert record["usage_source"] in ("provider", "estimated")
        assert 0 <= record["input_tokens"] <= 10**8
        assert 0 <= record["output_tokens"] <= 10**8
        assert record["cost_nanousd"] is None or record["cost_nanousd"] >= 0
        if stream:
            assert ("[DONE]" in got.events) == (record["outcome"] == "ok")


@pytest.fixture
async def front(start: StartRelay, scripted: StartScripted) -> Front:
    provider = await scripted()
    # Fewer retries than failures, and no waiting for them.
    more = "health: {failures: 1000}"
    policy = two_models(provider.url, provider.url, provider.url, more).replace("attempts: 1", "attempts: 0")
    return Front(await start(policy), provider)


EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@EXAMPLES
@given(said=spoiled(PLAIN))
async def test_plain_answer(front: Front, said: Any) -> None:
    await front.ask(answer(json.dumps(said).encode()), stream=False)


@EXAMPLES
@given(said=spoiled(CHUNKS))
async def test_stream(front: Front, said: Any) -> None:
    chunks = said if isinstance(said, list) else [said]
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    await front.ask(streamed(*events, DONE), stream=True)


@EXAMPLES
@given(said=spoiled(ERROR), status=st.sampled_from([200, 400, 401, 403, 404, 408, 422, 429, 500, 503]))
async def test_error(front: Front, said: Any, status: int) -> None:
    await front.ask(answer(json.dumps(said).encode(), status), stream=False)


@EXAMPLES
@given(said=spoiled(ERROR), begun=st.booleans())
async def test_error_event(front: Front, said: Any, begun: bool) -> None:
    events = [
        b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in (*(CHUNKS[:2] if begun else ()), said)
    ]
    await front.ask(streamed(*events), stream=True)


HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "x-request-id", "content-encoding", "x-ratelimit-reset-tokens"]
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
    | st.sampled_from(["identity", "gzip", "1e9", "nan", "-1", "Sun, 06 Nov 1994 08:49:37 GMT"]),
    max_size=4,
)  # fmt: skip


@EXAMPLES
@given(headers=HEADERS, status=st.sampled_from([200, 400, 429, 500, 503]), stream=st.booleans())
async def test_headers(front: Front, headers: dict[str, str], status: int, stream: bool) -> None:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    await front.ask(answer(json.dumps(PLAIN).encode(), status, *lines), stream=stream)
