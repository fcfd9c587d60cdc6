"""`headgate explain` as a user runs it: from files, and from a gateway that runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.running import KEY, policy_for

TEXT = "hg-a-key"
POLICY = f"""
providers:
  up: {{base_url: 'http://h:1/v1', api_key: {{env: UP_KEY}}}}
  claude: {{base_url: 'http://h:1/v1', dialect: anthropic, auth: none}}
models:
  small: {{targets: [up/s]}}
  big: {{targets: [claude/b, up/b]}}
  lot: {{strategy: weighted, targets: [{{provider: up, model: s, weight: 3}}, {{provider: up, model: b}}]}}
prices:
  up/s: {{input: 1, output: 4}}
  up/b: {{input: 10, output: 40}}
  claude/b: {{input: 10, output: 50}}
routes: [{{name: beta, match: {{tag: beta}}, use: big}}]
teams: {{search: {{models: ['*']}}}}
keys:
  app: {{team: search, sha256: {hashlib.sha256(TEXT.encode()).hexdigest()}}}
  old: {{team: search, sha256: {"0" * 64}, expires: 2020-01-01}}
limits: [{{name: rate, per: key, requests: 60/min, tokens: 100k/min}}]
budgets: [{{name: month, usd: 10, every: month, when_spent: {{use: small}}, match: {{model: big}}}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.yaml").write_text(POLICY)
    return tmp_path / "p"


def explain(folder: Path, *arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["explain", "--policies", str(folder), *arguments], input=given)


def told(folder: Path, *arguments: str, given: str | None = None) -> dict[str, Any]:
    done = explain(folder, *arguments, "--json", given=given)
    assert done.exit_code in (0, 1), done.stderr
    return dict(json.loads(done.stdout))


def test_text_says_where_why_and_for_how_much(folder: Path) -> None:
    done = explain(folder, "-k", "app", "-m", "big", "--input-tokens", "1000", "--max-tokens", "500")
    assert done.exit_code == 0
    for line in (
        "app asks for big: goes to claude/b, for about $0.035",
        "  route beta passed over: tag",
        "  model big chosen: priority",
        "  1. claude/b is asked",
        "  2. up/b if those before it fail",
        "500 output tokens likely, 500 at most",
        "a cap of 500 is written into the call",
        "month: needs $0.0",
        "rate.requests (key=app): needs 1 of 6 left of 6 requests",
    ):
        assert line in done.stdout
    assert "\x1b" not in done.stdout


def test_refusal_says_who_refuses_and_exits_1(folder: Path) -> None:
    done = explain(folder, "-k", "app", "-m", "small", "--used", "rate.requests=100%")
    assert done.exit_code == 1
    assert "refused by rate: 429 policy_rate_limited" in done.stdout
    assert explain(folder, "-k", "old", "-m", "small").stdout.startswith(
        "old asks for small: refused: 401 caller_key_expired"
    )
    assert told(folder, "-k", "app", "-m", "huge")["refusal"]["error_type"] == "policy_model_unknown"


def test_spent_budget_leads_to_the_model_it_names(folder: Path) -> None:
    answer = told(folder, "-k", "app", "-m", "big", "--used", "month=100%")
    assert (answer["outcome"], answer["target"], answer["model"]) == ("sent", "up/s", "small")
    assert answer["instead"] == [{"budget": "month", "model": "small"}]


def test_states_and_tags_may_be_supposed(folder: Path) -> None:
    assert told(folder, "-k", "app", "-m", "big", "--down", "claude/b")["target"] == "up/b"
    answer = told(folder, "-k", "app", "-m", "small", "--tag", "beta")
    assert (answer["route"], answer["target"]) == ("beta", "claude/b")
    assert told(folder, "-k", "old", "-m", "small", "--at", "2019-12-31")["outcome"] == "sent"
    shares = [target["share"] for target in told(folder, "-k", "app", "-m", "lot")["targets"]]
    assert shares == [0.75, 0.25]


def test_call_is_taken_from_flags_as_for_curl(folder: Path) -> None:
    answer = told(
        folder,
        "http://127.0.0.1:8080/v1/messages",
        *("-H", f"x-api-key: {TEXT}", "-H", "x-headgate-tags: a, beta"),
        *("-d", '{"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'),
    )
    assert (answer["request"]["key"], answer["route"], answer["max_tokens"]) == ("app", "beta", 9)
    assert answer["request"]["assumed"] == []


def test_what_a_provider_cannot_be_told_is_said(folder: Path, tmp_path: Path) -> None:
    body = {"model": "big", "messages": [{"role": "user", "content": "Hi"}], "logprobs": True}
    (tmp_path / "body.json").write_text(json.dumps(body))
    answer = told(folder, str(tmp_path / "body.json"), "-k", "app")
    first, second = answer["targets"]
    assert (first["verdict"], first["reason"]) == ("passed over", "caller_unsupported")
    assert "logprobs" in first["unsupported"]
    assert second["verdict"] == "first"


def test_line_of_the_log_is_asked_about(folder: Path) -> None:
    line = {
        "request_id": "1",
        "key": "app",
        "team": "search",
        "model": "small",
        "outcome": "ok",
        "status": 200,
        "stream": True,
        "input_tokens": 50,
    }
    answer = told(folder, "-", given=f"{json.dumps({**line, 'model': 'huge'})}\n{json.dumps(line)}\n")
    assert (answer["target"], answer["request"]["stream"], answer["request"]["bytes"]) == ("up/s", True, 150)
    assert answer["logged"]["status"] == 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-k", "ap", "-m", "small"), "there is no key 'ap' (did you mean 'app'?)"),
        (("-m", "small"), "needs one of key, team and sha256"),
        (("-k", "app"), "needs a model"),
        (
            ("-k", "app", "-m", "small", "--used", "mont=1"),
            "no limit or budget 'mont' (did you mean 'month'?)",
        ),
        (("-k", "app", "-m", "small", "--used", "month"), "--used takes NAME=SHARE"),
        (("-k", "app", "-m", "small", "--used", "month=x"), "must be a share like"),
        (("-k", "app", "-m", "small", "--down", "up/x"), "there is no target 'up/x'"),
        (("-k", "app", "-d", "{"), "--data holds no JSON"),
        (("nowhere.json",), "nowhere.json cannot be read"),
        (("http://h/v1/files", "-k", "app", "-m", "small"), "/v1/files has no model of the policy's"),
        (("-H", "x-api-key: hg-other", "-m", "small"), "a call with it gets 401"),
        (("-k", "app", "-d", '{"model": "small", "max_tokens": -1}'), "would answer 400"),
        (("-k", "app", "-m", "small", "--admin", "http://127.0.0.1:1"), "No gateway answers"),
    ],
)
def test_what_cannot_be_told_exits_2_with_one_sentence(
    folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = explain(folder, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("headgate: ") and says in done.stderr
    assert "Traceback" not in done.stderr


def test_optional_provider_without_its_key_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        POLICY.replace("providers:", "providers:\n  openai: {optional: true}").replace(
            "{targets: [up/s]}", "{targets: [openai/gpt-4o-mini, up/s]}"
        )
    )
    asked = ["explain", "--policies", str(tmp_path), "-k", "app", "-m", "small", "--json"]
    for key, more, target in (
        ("", [], "up/s"),
        ("sk-1", [], "openai/gpt-4o-mini"),
        ("", ["--no-secrets"], "openai/gpt-4o-mini"),
    ):
        done = CliRunner().invoke(app, [*asked, *more], env={"OPENAI_API_KEY": key})
        assert json.loads(done.stdout)["target"] == target


async def test_running_gateway_answers_by_its_counters(
    serve: StartGateway, simulator: Simulator, tmp_path: Path
) -> None:
    gateway = await serve(
        policy_for(simulator.url, rest="limits: [{name: few, requests: 3/day, burst: 3}]\n")
    )
    command = [sys.executable, "-m", "gateway.cli.main", "explain", "--admin", gateway.admin, "--json"]
    command += ["-k", "app", "-m", "gpt-4o-mini"]

    async def ask() -> tuple[int | None, dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], env=dict(os.environ)
        )
        out, _ = await process.communicate()
        return process.returncode, json.loads(out)

    code, answer = await ask()
    assert (code, answer["outcome"], answer["targets"][0]["limits"][0]["free"]) == (0, "sent", 3)
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http:
        for status in (200, 200, 200, 429):
            async with http.post(f"{gateway.url}/chat/completions", json=body) as reply:
                assert reply.status == status
    code, answer = await ask()
    assert (code, answer["outcome"]) == (1, "refused")
    assert (answer["refusal"]["by"], answer["refusal"]["status"]) == ("few", 429)
    await gateway.log_lines(4)
    command[-4:] = [str(gateway.log)]
    code, answer = await ask()
    assert (code, answer["logged"]["status"], answer["refusal"]["by"]) == (1, 429, "few")


async def test_admin_port_refuses_questions_that_are_none(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(policy_for(simulator.url))
    for body, says in (
        (b"[]", "must be a JSON object"),
        (b"{}", "needs one of key, team and sha256"),
        (b'{"key": "ap", "model": "gpt-4o"}', "did you mean 'app'?"),
        (b'{"key": "app", "model": "gpt-4o", "modle": 1}', "unknown key (did you mean 'model'?)"),
        (b'{"key": "app", "body": {"model": 1}}', "would answer 400"),
    ):
        async with aiohttp.request("POST", f"{gateway.admin}/admin/explain", data=body) as answer:
            assert answer.status == 400
            assert says in (await answer.json())["error"]["message"]
