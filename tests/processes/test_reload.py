"""Policy files that change while the gateway runs: good ones are in force at once, bad ones never."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import aiohttp
import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.relaying import CHAT
from tests.running import KEY, Gateway, eventually, policy_for


async def in_force(gateway: Gateway) -> str:
    return str((await gateway.admin_json("/admin/policy"))["hash"])


async def models(gateway: Gateway) -> set[str]:
    return {row["model"] for row in (await gateway.admin_json("/admin/targets"))["targets"]}


NEW = "  new: {targets: [upstream/new]}"
BAD = {
    "syntax": "models: {a: [}\n",
    "unknown key": "modles: {}\n",
    "unknown provider": "models: {m: {targets: [nobody/x]}}\n",
    "secret that is not set": "providers: {p: {base_url: 'http://x/v1', api_key: {env: NOT_SET_ANYWHERE}}}\n",
    "not text": "\x00\x01",
    "empty list of targets": "models: {m: {targets: []}}\n",
}


async def test_good_file_is_in_force_and_bad_ones_change_nothing(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url), workers=2)
    first = await in_force(gateway)
    await gateway.edit(policy_for(simulator.url, models=NEW))
    second = await in_force(gateway)
    assert second != first
    assert "new" in await models(gateway)
    rejected = await gateway.metric("headgate_policy_reloads_total", result="rejected")
    for name, text in BAD.items():
        gateway.policy_file.write_text(text)
        rejected += 1
        await eventually(lambda count=rejected: rejections(gateway, count), says=lambda name=name: name)
        policy = await gateway.admin_json("/admin/policy")
        assert policy["problems"], name
        assert policy["hash"] == second
        assert {row["policy"] for row in (await gateway.admin_json("/admin/workers"))["workers"]} == {second}
    await gateway.edit(policy_for(simulator.url))
    assert await in_force(gateway) == first
    assert (await gateway.admin_json("/admin/policy"))["problems"] == []
    assert await gateway.metric("headgate_policy_info", hash=first) == 1


async def rejections(gateway: Gateway, count: float) -> bool:
    return await gateway.metric("headgate_policy_reloads_total", result="rejected") >= count


async def test_folder_that_vanishes_and_comes_back(gateway: Gateway) -> None:
    before = await in_force(gateway)
    away = gateway.policy_file.parent.with_name("away")
    gateway.policy_file.parent.rename(away)
    await eventually(lambda: rejections(gateway, 1))
    assert await in_force(gateway) == before
    text = (away / "policy.yaml").read_text()
    (away / "policy.yaml").write_text(text.replace("models:\n", f"models:\n{NEW}\n", 1))
    away.rename(gateway.policy_file.parent)

    async def has_new() -> bool:
        return "new" in await models(gateway)

    await eventually(has_new)


async def test_mounted_config_map_is_followed(
    serve: StartGateway, simulator: Simulator, tmp_path: Path
) -> None:
    """Kubernetes swaps a symlink `..data`; the policy files are links through it."""
    mount = tmp_path / "mount"
    for version, text in (
        ("..v1", policy_for(simulator.url)),
        ("..v2", policy_for(simulator.url, models=NEW)),
    ):
        (mount / version).mkdir(parents=True)
        (mount / version / "policy.yaml").write_text(text)
    (mount / "..data").symlink_to("..v1")
    (mount / "policy.yaml").symlink_to("..data/policy.yaml")
    gateway = await serve(policy_for(simulator.url), "--policies", str(mount))
    assert "new" not in await models(gateway)
    (mount / "..data_tmp").symlink_to("..v2")
    (mount / "..data_tmp").replace(mount / "..data")

    async def has_new() -> bool:
        return "new" in await models(gateway)

    await eventually(has_new)


async def test_start_with_a_bad_folder_uses_the_policy_accepted_last(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url, models=NEW))
    before = await in_force(gateway)
    assert gateway.stop() == 0
    gateway.policy_file.write_text("models: {a: [}\n")
    gateway.start()
    await eventually(lambda: (gateway.state / "run.json").exists())
    await gateway.ready()
    assert await in_force(gateway) == before
    assert "accepted last" in gateway.said()
    assert (await gateway.admin_json("/admin/policy"))["problems"]


async def test_hang_up_reads_secrets_again_and_reopens_the_log(
    serve: StartGateway, simulator: Simulator, tmp_path: Path
) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-one\n")
    policy = policy_for(simulator.url).replace("{env: UPSTREAM_KEY}", f"{{file: {secret}}}")
    gateway = await serve(policy)
    await call(gateway)
    await gateway.log_lines(1)
    rotated = gateway.log.with_suffix(".1")
    gateway.log.rename(rotated)
    secret.write_text("sk-two\n")
    before = await in_force(gateway)
    os.kill(gateway.running()["pid"], signal.SIGHUP)

    async def switched() -> bool:
        await call(gateway)
        return simulator.requests[-1].header("authorization") == "Bearer sk-two"

    await eventually(switched)
    assert await in_force(gateway) == before, "the hash says nothing of secrets"
    await eventually(lambda: gateway.logged())
    assert len(rotated.read_text().splitlines()) >= 1


async def call(gateway: Gateway) -> None:

    headers = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.request(
        "POST", f"{gateway.url}/chat/completions", json=CHAT, headers=headers
    ) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("good", [True, False])
async def test_reload_on_demand_says_what_came_of_it(gateway: Gateway, good: bool) -> None:

    text = gateway.policy_file.read_text()
    gateway.policy_file.write_text(
        text.replace("models:\n", f"models:\n{NEW}\n", 1) if good else "models: [\n"
    )
    async with aiohttp.request("POST", f"{gateway.admin}/admin/reload") as answer:
        body = await answer.json()
    assert (answer.status, bool(body["problems"])) == ((200, False) if good else (409, True))
    assert ("new" in await models(gateway)) == good


async def test_state_folder_that_takes_nothing_stops_no_reload(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url))
    blocked = gateway.state / "accepted.new"
    blocked.mkdir()
    await gateway.edit(policy_for(simulator.url, models=NEW))
    assert "cannot be kept" in gateway.said()
    blocked.rmdir()
    await gateway.edit(policy_for(simulator.url))
    assert "new" not in await models(gateway)
    assert '"new"' not in (gateway.state / "accepted.json").read_text()
