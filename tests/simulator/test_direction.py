"""Who decides about a call: its body, its headers, the script, its model, the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway.simulator.faults import Fault
from gateway.simulator.server import Simulator
from gateway.simulator.settings import Scripts, Settings, asked_for, direct

Start = Callable[..., Awaitable[Simulator]]


ERROR_500, ERROR_429 = Fault("status_500"), Fault("status_429", retry_after="1")


async def status(
    http: aiohttp.ClientSession, simulator: Simulator, model: str = "m", headers: Any = None, **simulate: Any
) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Why?"}], "simulate": simulate}
    async with http.post(f"{simulator.url}/chat/completions", json=body, headers=headers) as response:
        await response.read()
        return response.status


async def test_script_is_used_up_one_entry_per_call(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate(script=[ERROR_500, ERROR_429, None])
    assert [await status(http, simulator) for _ in range(5)] == [500, 429, 200, 200, 200]


async def test_script_of_a_model_goes_before_the_common_one(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(script=[ERROR_429])
    simulator.script(["status_503"], model="a")
    assert [await status(http, simulator, model) for model in "aab"] == [503, 429, 200]


async def test_script_is_set_at_run_time_over_http(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate()
    url = simulator.url.removesuffix("/v1") + "/_simulator/script"
    script = [{"fault": "status_429", "retry_after": 1}, None, "status_502"]
    async with http.post(url, json={"script": script, "model": "m"}) as response:
        assert (response.status, await response.json()) == (200, {"entries": 3})
    assert [await status(http, simulator) for _ in range(4)] == [429, 200, 502, 200]
    bads: list[Any] = [{}, {"script": "status_500"}, {"script": ["nonsense"]}, [], {"script": [{"fault": 3}]}]
    bads += [
        {"script": [{"fault": "cut", "after": 1}]},
        {"script": [{"fault": "cut", "after_chunks": -1}]},
        "x",
    ]
    for bad in bads:
        async with http.post(url, json=bad) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"]


async def test_fault_of_a_model_stays_until_taken_away(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate(faults={"bad": ERROR_500})
    assert [await status(http, simulator, model) for model in ("bad", "good", "bad")] == [500, 200, 500]
    simulator.settings.faults.clear()
    assert await status(http, simulator, "bad") == 200
    simulator.settings.faults["*"] = ERROR_429
    assert await status(http, simulator, "good") == 429


async def test_body_goes_before_headers_and_both_leave_the_script_alone(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(script=[ERROR_500])
    header = {"x-simulate-fault": "status_403"}
    assert await status(http, simulator, headers=header) == 403
    assert await status(http, simulator, headers=header, fault="status_404") == 404
    assert await status(http, simulator, fault="none") == 200
    assert await status(http, simulator) == 500


async def test_one_call_fares_differently_with_different_models(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate()
    by_model = {"a": {"fault": "status_503"}}
    assert await status(http, simulator, "a", by_model=by_model) == 503
    assert await status(http, simulator, "b", by_model=by_model) == 200


async def test_wrong_direction_is_refused_with_what_is_right(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate()
    for simulate_field in (
        {"fautl": "x"},
        {"fault": "x"},
        {"style": "x"},
        {"output_tokens": 0},
        {"by_model": 3},
        7,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "simulate": simulate_field}
        async with http.post(f"{simulator.url}/chat/completions", json=body) as response:
            error = (await response.json())["error"]
            assert (response.status, error["param"]) == (400, "simulate")
    assert simulator.bill.total().attempts == 0


async def test_style_changes_at_the_given_call(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate(output_tokens=100, change_at=3, change_style="terse")
    for _ in range(4):
        await status(http, simulator)
    assert [entry.output_tokens for entry in simulator.bill.entries] == [100, 100, 40, 40]


async def test_context_window_refuses_longer_prompts(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate(context_window_tokens=1)
    assert await status(http, simulator) == 200
    body = {"model": "m", "messages": [{"role": "user", "content": "longer than that"}]}
    async with http.post(f"{simulator.url}/chat/completions", json=body) as response:
        assert (await response.json())["error"]["code"] == "context_length_exceeded"


def test_headers_are_read_as_numbers_and_words() -> None:
    headers = {
        "X-Simulate-First-Token-Ms": "2.5",
        "x-simulate-output-tokens": "7",
        "x-simulate-style": "terse",
    }
    assert asked_for(headers, {}, "m") == {"first_token_ms": 2.5, "output_tokens": 7, "style": "terse"}
    for name, value in (
        ("output-tokens", "2.5"),
        ("tokens-per-s", "-1"),
        ("nonsense", "1"),
        ("split", "nan"),
    ):
        with pytest.raises(ValueError, match="simulate"):
            asked_for({f"x-simulate-{name}": value}, {}, "m")


def test_call_may_move_a_scripted_fault() -> None:
    directions = direct(Settings(), {"fault_after_chunks": 9}, number=1, scripted=Fault("cut", 2), model="m")
    assert directions.fault == Fault("cut", 9)


def test_asked_length_is_exact_whatever_the_style() -> None:
    settings = Settings(style="verbose", output_tokens=10)
    assert direct(settings, {}, number=1, scripted=None, model="m").output_tokens == 25
    assert direct(settings, {"output_tokens": 7}, number=1, scripted=None, model="m").output_tokens == 7


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="plain"):
        Settings(style="rude")


def test_finished_script_of_a_model_gives_way_to_the_common_one() -> None:
    scripts = Scripts([ERROR_500])
    scripts.replace([None], "m")
    assert [scripts.take("m"), scripts.take("m"), scripts.take("m")] == [None, ERROR_500, None]
