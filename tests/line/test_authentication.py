"""Who may call what, and what everybody else is told."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import KEY, policy_for


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"x-api-key": KEY},
        {"api-key": KEY},
    ],
)
async def test_key_is_taken_from_each_of_three_headers(relay: Relay, headers: dict[str, str]) -> None:
    answer = await relay.post(key=None, headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer hg-not-a-key"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": "Bearer "},
        {"authorization": "Bearer sk-upstream-secret"},
        {"x-api-key": "hg-not-a-key"},
        {"authorization": "Bearer hg-not-a-key", "x-api-key": KEY},
    ],
)
async def test_no_key_and_a_wrong_key_are_401_and_reach_nobody(
    relay: Relay, simulator: Simulator, headers: dict[str, str]
) -> None:
    answer = await relay.post(key=None, headers=headers)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (
        401,
        "invalid_api_key",
        "invalid_request_error",
    )
    assert b"hg-not-a-key" not in answer.body
    assert answer.headers["www-authenticate"] == "Bearer"
    (record,) = await relay.logged()
    assert (record["outcome"], record["error_type"], record["key"]) == (
        "refused",
        "caller_unauthorized",
        None,
    )
    assert not simulator.requests


async def test_key_is_good_until_it_expires(start: StartRelay, simulator: Simulator) -> None:
    policy = policy_for(simulator.url).replace("sha256:", "expires: 2020-01-01, sha256:")
    answer = await (await start(policy)).post()
    assert (answer.status, answer.error["code"]) == (401, "expired_api_key")
    policy = policy_for(simulator.url).replace("sha256:", "expires: 2999-01-01, sha256:")
    assert (await (await start(policy)).post()).status == 200


async def test_key_that_a_new_policy_lacks_is_refused_on_the_same_connection(
    relay: Relay, simulator: Simulator
) -> None:
    assert (await relay.post()).status == 200
    assert (await relay.post()).status == 200
    other = hashlib.sha256(b"hg-another").hexdigest()
    relay.use(policy_for(simulator.url).replace(hashlib.sha256(KEY.encode()).hexdigest(), other))
    assert (await relay.post()).status == 401
    assert (await relay.post(key="hg-another")).status == 200
    assert len(relay.server.connections) == 1


async def test_team_and_key_decide_which_models_may_be_used(start: StartRelay, simulator: Simulator) -> None:
    policy = policy_for(simulator.url).replace('models: ["*"]', 'models: ["gpt-4*", "text-*"]')
    relay = await start(policy.replace("sha256:", 'models: ["gpt-4o*"], sha256:'))
    assert (await relay.post({**CHAT, "model": "gpt-4o"})).status == 200
    for model in ("text-embedding-3-small", "gpt-3.5-turbo-instruct"):
        answer = await relay.post({**CHAT, "model": model})
        assert (answer.status, answer.error["code"], answer.error["param"]) == (
            403,
            "model_not_allowed",
            "model",
        )
        assert model.encode() not in answer.body
    listed = await models(relay)
    assert [row["id"] for row in listed["data"]] == ["gpt-4o-mini", "gpt-4o"]


async def test_unknown_model_is_404_and_its_name_is_repeated_nowhere(
    relay: Relay, simulator: Simulator
) -> None:
    answer = await relay.post({**CHAT, "model": "invented-by-me"})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    (record,) = await relay.logged()
    assert record["model"] == "_other"
    assert b"invented-by-me" not in answer.body + b"".join(relay.lines)
    assert relay.counted(
        "headgate_requests_total", "search", "app", "_other", "_none", "refused", "policy_model_unknown"
    )
    assert not simulator.requests


async def models(relay: Relay, path: str = "/models", **headers: str) -> Any:
    async with relay.http.get(
        relay.url + path, headers={"authorization": f"Bearer {KEY}", **headers}
    ) as answer:
        return await answer.json()


async def test_model_objects_are_those_the_caller_may_use(relay: Relay) -> None:
    assert (await models(relay, "/models/gpt-4o"))["id"] == "gpt-4o"
    assert (await models(relay, "/models/gpt-5"))["error"]["code"] == "model_not_found"
