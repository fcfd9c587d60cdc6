"""Every failure is the exception that the official client has for it, with OpenAI's fields."""

from __future__ import annotations

import hashlib
from typing import Any

import openai
import pytest

from gateway.simulator.faults import REFUSALS, Fault
from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import policy_for
from tests.sdk.asking import Sdk
from tests.sdk.conftest import MakeSdk

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "Tell me about rivers."}]
NARROW = "hg-" + "n" * 43
EXPIRED = "hg-" + "e" * 43
_BAD = "invalid_request_error"


def policy_without_retries(url: str) -> str:
    """Every failure reaches the caller; two more keys: one for one model only, one of the past."""
    rest = f"""\
  narrow: {{team: search, sha256: {hashlib.sha256(NARROW.encode()).hexdigest()}, models: [gpt-4o]}}
  old: {{team: search, sha256: {hashlib.sha256(EXPIRED.encode()).hexdigest()}, expires: 2020-01-01}}"""
    retries = f"[upstream/{MODEL}], retries: {{attempts: 0}}"
    return policy_for(url, rest=rest).replace(f"[upstream/{MODEL}]", retries)


@pytest.fixture
async def relay(start: StartRelay, simulator: Simulator) -> Relay:
    return await start(policy_without_retries(simulator.url))


async def chat(sdk: Sdk, **more: Any) -> Any:
    asked = {"model": MODEL, "messages": MESSAGES, **more}
    if asked.get("stream"):
        return await sdk.chunks(lambda client: client.chat.completions.create(**asked))
    return await sdk.call(lambda client: client.chat.completions.create(**asked))


async def retrieved(sdk: Sdk, name: str) -> Any:
    return await sdk.call(lambda client: client.models.retrieve(name))


def fields_of(error: openai.APIStatusError) -> tuple[str | None, str | None, str | None]:
    return error.type, error.code, error.param


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("key", "model", "exception", "fields"),
    [
        ("hg-nobody", MODEL, openai.AuthenticationError, (_BAD, "invalid_api_key", None)),
        (EXPIRED, MODEL, openai.AuthenticationError, (_BAD, "expired_api_key", None)),
        (NARROW, MODEL, openai.PermissionDeniedError, (_BAD, "model_not_allowed", "model")),
        (NARROW, "gone", openai.NotFoundError, (_BAD, "model_not_found", "model")),
    ],
)
async def test_refusal_by_the_gateway(
    make: MakeSdk,
    relay: Relay,
    simulator: Simulator,
    stream: bool,
    key: str,
    model: str,
    exception: type[openai.APIStatusError],
    fields: tuple[str, str, str | None],
) -> None:
    with pytest.raises(exception) as caught:
        await chat(make(relay.url, key), model=model, stream=stream)
    assert fields_of(caught.value) == fields
    (record,) = await relay.logged()
    assert caught.value.request_id == record["request_id"]
    assert not simulator.requests
    assert (await chat(make(relay.url, NARROW), model="gpt-4o")).model == "gpt-4o"


async def test_wrong_key_of_azure_client(make: MakeSdk, relay: Relay) -> None:
    sdk = make(f"http://{relay.host}:{relay.port}", "hg-nobody", azure=True)
    with pytest.raises(openai.AuthenticationError) as caught:
        await chat(sdk)
    assert caught.value.code == "invalid_api_key"


async def test_models_the_key_may_not_use_are_not_found(make: MakeSdk, relay: Relay) -> None:
    sdk = make(relay.url, NARROW)
    page = await sdk.call(lambda client: client.models.list())
    assert [model.id for model in page.data] == ["gpt-4o"]
    for name in (MODEL, "gone"):
        with pytest.raises(openai.NotFoundError) as caught:
            await retrieved(sdk, name)
        assert fields_of(caught.value) == (_BAD, "model_not_found", "model")


async def test_path_that_is_not_served_is_not_found(sdk: Sdk) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.call(lambda client: client.moderations.create(input="x"))
    assert caught.value.code == "unknown_url"


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"n": "3"}, "n", "invalid_type"),
        ({"model": ""}, "model", None),
    ],
)
async def test_bad_request_names_its_param(
    sdk: Sdk, simulator: Simulator, more: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(sdk, **more)
    assert fields_of(caught.value) == (_BAD, code, param)
    assert f"'{param}' must be" in caught.value.message
    assert not simulator.requests


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    ],
)
async def test_bad_request_in_the_providers_words(
    sdk: Sdk, more: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(sdk, **more)
    assert fields_of(caught.value) == (_BAD, code, param)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "exception"),
    [
        ("status_400", openai.BadRequestError),
        ("context_window", openai.BadRequestError),
        ("content_filter", openai.BadRequestError),
        ("status_404", openai.NotFoundError),
        ("status_409", openai.ConflictError),
        ("status_422", openai.UnprocessableEntityError),
        ("status_429", openai.RateLimitError),
        ("status_429_quota", openai.RateLimitError),
    ],
)
async def test_providers_own_error_comes_with_its_fields(
    sdk: Sdk, simulator: Simulator, stream: bool, fault: str, exception: type[openai.APIStatusError]
) -> None:
    simulator.script([Fault(fault)])
    with pytest.raises(exception) as caught:
        await chat(sdk, stream=stream)
    refusal = REFUSALS[fault]
    assert fields_of(caught.value) == (refusal.type, refusal.code, refusal.param)
    assert refusal.message in caught.value.message
    assert caught.value.response.headers["x-headgate-target"] == f"upstream/{MODEL}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status_500", 502, None),
        ("status_502", 502, None),
        ("status_503", 503, "server_is_overloaded"),
        ("status_504", 504, "upstream_timeout"),
        ("status_401", 502, "upstream_auth"),
        ("status_403", 502, "upstream_auth"),
        ("close", 502, "upstream_disconnected"),
        ("reset", 502, "upstream_disconnected"),
        ("html", 502, "bad_upstream_response"),
    ],
)
async def test_failure_of_the_provider_is_an_internal_server_error(
    sdk: Sdk, simulator: Simulator, stream: bool, fault: str, status: int, code: str | None
) -> None:
    simulator.script([Fault(fault)])
    with pytest.raises(openai.InternalServerError) as caught:
        await chat(sdk, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.type
    assert len(simulator.requests) == 1


async def test_provider_that_cannot_be_reached_is_an_internal_server_error(
    make: MakeSdk, start: StartRelay
) -> None:
    relay = await start(policy_without_retries("http://127.0.0.1:1/v1"))
    with pytest.raises(openai.InternalServerError) as caught:
        await chat(make(relay.url))
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")


@pytest.mark.parametrize("fault", ["status_500", "status_504", "status_401", "status_429_quota", "close"])
async def test_client_does_not_repeat_what_the_gateway_has_given_up(
    make: MakeSdk, relay: Relay, simulator: Simulator, fault: str
) -> None:
    simulator.script([Fault(fault)])
    with pytest.raises(openai.APIStatusError):
        await chat(make(relay.url, max_retries=2))
    assert len(simulator.requests) == 1


async def test_client_waits_as_long_as_a_rate_limited_provider_asks(sdk: Sdk, simulator: Simulator) -> None:
    simulator.script([Fault("status_429", retry_after="7")])
    with pytest.raises(openai.RateLimitError) as caught:
        await chat(sdk)
    assert caught.value.response.headers["retry-after"] == "7"
    assert "x-should-retry" not in caught.value.response.headers


async def test_client_sees_nothing_of_failures_that_were_retried(
    make: MakeSdk, start: StartRelay, simulator: Simulator
) -> None:
    relay = await start(policy_for(simulator.url))
    simulator.script([Fault("status_500"), Fault("status_503")])
    sdk = make(relay.url)
    raw = await sdk.call(
        lambda client: client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    )
    assert raw.headers["x-headgate-attempts"] == "3"
    assert raw.parse().choices[0].message.content


@pytest.mark.parametrize("helper", [False, True])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut", "upstream_disconnected"),
        ("cut_reset", "upstream_disconnected"),
        ("bad_utf8", "bad_upstream_response"),
    ],
)
async def test_stream_that_breaks_is_an_api_error_and_not_an_end(
    make: MakeSdk, start: StartRelay, simulate: StartSimulator, helper: bool, fault: str, code: str
) -> None:
    simulator = await simulate(script=[Fault(fault)], output_tokens=20)
    relay = await start(policy_for(simulator.url))
    sdk = make(relay.url)
    with pytest.raises(openai.APIError) as caught:
        if helper:
            await sdk.helped(model=MODEL, messages=MESSAGES)
        else:
            await chat(sdk, stream=True)
    assert caught.value.code == code
    assert (await chat(sdk)).choices[0].message.content
