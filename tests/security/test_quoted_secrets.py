"""A provider that quotes our credentials in an error: the caller reads the error, and not them."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest

from gateway.errors import ProviderError
from gateway.line.provider_words import HIDDEN, MAX_MESSAGE, as_told
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import policy_for
from tests.security.listening import CONTENT, Listening, answer_of, stream_of

KEY = 'sk-"our\\own/key-0123456789'
"""With what JSON escapes."""
HEADER = "hdr-0123456789abcdef"
PASSWORD = "pa55w0rd%2F0123"
BASIC = base64.b64encode(b"me:pa55w0rd/0123").decode()
ENVIRON = {
    "UPSTREAM_KEY": KEY,
    "SECOND_KEY": "sk-second-0123456789",
    "HEADER": f"Token {HEADER}",
}
SECRETS = {
    "key": KEY,
    "another of its keys": ENVIRON["SECOND_KEY"],
    "whole header": ENVIRON["HEADER"],
    "header without its scheme": HEADER,
    "bearer": f"Bearer {KEY}",
    "password as written": PASSWORD,
    "password as meant": "pa55w0rd/0123",
    "proxy-authorization": f"Basic {BASIC}",
}
BARE = [KEY, ENVIRON["SECOND_KEY"], HEADER, PASSWORD, "pa55w0rd/0123", BASIC]

STATUSES = [400, 401, 402, 403, 404, 409, 418, 422, 429, 500, 503]
SHAPES: dict[str, Any] = {
    "message": lambda said: {"error": {"message": said}},
    "type and code": lambda said: {"error": {"message": "no", "type": said, "code": said}},
    "param": lambda said: {"error": {"message": "no", "param": said}},
    "a field of its own": lambda said: {"error": {"message": "no", "metadata": {"raw": [{"sent": said}]}}},
    "the name of a field": lambda said: {"error": {"message": "no", said: {said: 1}}},
    "text for an error": lambda said: {"error": said},
    "top level": lambda said: {"object": "error", "message": said, "code": 40001},
    "detail": lambda said: {"detail": [{"loc": ["header"], "input": said}]},
    "where it is cut": lambda said: {"error": {"message": "x" * (MAX_MESSAGE - 12) + said}},
    "more than once": lambda said: {"error": {"message": f"{said} {said}{said}"}},
}


async def serve(start: StartRelay, provider: Listening) -> Relay:
    """A line whose provider is asked through a proxy: the scripted one is both."""
    relay = await start(policy_for(provider.url))
    keys = "api_keys: [{env: UPSTREAM_KEY}, {env: SECOND_KEY}]"
    policy = policy_for("http://upstream.invalid/v1").replace(
        "api_key: {env: UPSTREAM_KEY}",
        f"{keys}, headers: {{x-token: {{env: HEADER}}}}, proxy: {{env: PROXY}}",
    )
    policy = policy.replace("[upstream/gpt-4o-mini]", "[upstream/gpt-4o-mini], retries: {attempts: 0}")
    relay.use(policy, {**ENVIRON, "PROXY": f"http://me:{PASSWORD}@127.0.0.1:{provider.port}"})
    return relay


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_refusal_tells_a_secret_that_it_quotes(
    start: StartRelay, provider: Listening, shape: str
) -> None:
    relay = await serve(start, provider)
    for status, secret in itertools.product(STATUSES, SECRETS.values()):
        provider.answer = answer_of(SHAPES[shape](f"before {secret} after"), status)
        answer = await relay.post()
        assert answer.status >= 400
        told = json.dumps(answer.error)
        check_hidden(answer.body + str(answer.headers).encode(), secret)
        if status not in (401, 403) and shape != "where it is cut":
            assert HIDDEN in told and "before " in told and " after" in told


def check_hidden(body: bytes, secret: str) -> None:
    for bare in BARE:
        assert json.dumps(bare).encode()[1:-1] not in body and bare.encode() not in body
    # Nor its beginning, where a message was cut.
    assert secret[:10].encode() not in body


@pytest.mark.parametrize("long", [0, 5000], ids=["short", "above 4 KiB"])
@pytest.mark.parametrize("secret", SECRETS)
async def test_no_error_inside_an_answer_tells_one(
    start: StartRelay, provider: Listening, secret: str, long: int
) -> None:
    relay = await serve(start, provider)
    said = {"error": {"message": f"Bad key {SECRETS[secret]}.{'x' * long}", "code": SECRETS[secret]}}
    provider.answer = answer_of(said)
    check_hidden((await relay.post()).body, SECRETS[secret])
    provider.answer = answer_of({**said, "choices": []})
    check_hidden((await relay.post()).body, SECRETS[secret])
    for events in (
        [said],
        [CONTENT, said],
        [CONTENT, said, "[DONE]"],
        [CONTENT, CONTENT, {**said, "choices": []}],
    ):
        provider.answer = stream_of(*events)
        answer = await relay.stream()
        check_hidden(answer.body, SECRETS[secret])
        if events[0] is CONTENT:
            error = json.loads(answer.events[-1])["error"]
            assert error["message"].startswith("Bad key ") and HIDDEN in error["message"]
            assert len(answer.events) == len([event for event in events if event is CONTENT]) + 1


async def test_words_without_a_secret_are_told_as_they_are(relay: Relay) -> None:
    assert relay.line.snapshot is not None
    (upstream,) = relay.line.snapshot.providers
    error = ProviderError(
        400, "", "no", "t", 7, "p", details={"a": [1, None, {"b": "c"}], "d": 1.5, "e": True}, quota=True
    )
    assert as_told(error, upstream) == error


async def test_placeholders_are_no_secrets(start: StartRelay, provider: Listening) -> None:
    relay = await start(policy_for(provider.url))
    relay.use(policy_for(provider.url), {"UPSTREAM_KEY": "ollama"})
    provider.answer = answer_of({"error": {"message": "ollama has no such model"}}, 404)
    assert (await relay.post()).error["message"] == "ollama has no such model"


async def test_secret_of_the_provider_that_failed_last_is_the_one_that_counts(
    start: StartRelay, provider: Listening
) -> None:
    policy = policy_for(
        provider.url, models="  pair: {targets: [upstream/a, other/b], retries: {attempts: 0}}"
    )
    relay = await start(policy_for(provider.url))
    relay.use(
        policy.replace(
            "providers:\n",
            f'providers:\n  other: {{base_url: "{provider.url}", api_key: {{env: OTHER}}}}\n',
            1,
        ),
        {"UPSTREAM_KEY": KEY, "OTHER": "sk-the-other-0123456789"},
    )
    provider.answer = answer_of({"error": {"message": "sk-the-other-0123456789 is busy"}}, 503)
    answer = await relay.post({**CHAT, "model": "pair"})
    assert answer.headers["x-headgate-target"] == "other/b"
    assert answer.error["message"] == f"{HIDDEN} is busy"
