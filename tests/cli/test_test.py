"""`headgate test`: expectations of a policy, and failures that say where and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app

ROOT = Path(__file__).parents[2]
POLICY = """
providers:
  up: {base_url: 'http://h:1/v1', api_key: {env: UP_KEY}}
  free: {base_url: 'http://h:2/v1', auth: none}
models:
  small: {targets: [up/s, free/s]}
  big: {targets: [up/b]}
prices: {up/s: {input: 1, output: 4}, up/b: {input: 10, output: 40}}
routes: [{name: beta, match: {tag: beta}, use: big}]
teams: {search: {models: ['*']}, sales: {models: [small]}}
keys:
  app: {team: search, sha256: 'ONE'}
  crm: {team: sales, sha256: 'TWO', expires: 2030-01-01}
limits: [{name: rate, per: key, requests: 60/min, tokens: 100k/min}]
budgets:
  - {name: month, usd: 10, every: month, when_spent: {use: small}, match: {model: big}}
  - {name: sales, usd: 1, every: month, match: {team: sales}, unpriced: allow}
""".replace("ONE", "1" * 64).replace("TWO", "2" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(POLICY)
    (tmp_path / "tests").mkdir()
    return tmp_path


def run(folder: Path, expectations: str, *arguments: str) -> Result:
    (folder / "tests" / "one.yaml").write_text(f"tests:\n{expectations}\n")
    return CliRunner().invoke(app, ["test", str(folder), *arguments])


def one(given: str, expect: str, state: str = "{}") -> str:
    return f"  - name: it\n    given: {given}\n    state: {state}\n    expect: {expect}"


@pytest.mark.parametrize(
    ("given", "state", "expect"),
    [
        ("{key: app, model: small}", "{}", "{refused: no, targets: [up/s, free/s], route: none}"),
        ("{key: app, model: small, tags: beta}", "{}", "{model: big, route: beta, target: up/b}"),
        ("{team: sales, model: big}", "{}", "{refused: policy_model_forbidden, status: 403}"),
        ("{key: app, model: none}", "{}", "{status: 404}"),
        ("{key: crm, model: small}", "{at: 2030-01-02}", "{refused: caller_key_expired, status: 401}"),
        ("{key: app, model: big}", "{used: {month: 9.99}}", "{instead_of: month, model: small}"),
        ("{key: app, model: big}", "{used: {month: 100%}}", "{not_targets: up/b}"),
        ("{key: crm, model: small}", "{used: {sales: 100%}}", "{refused: policy_budget_spent, by: sales}"),
        ("{key: app, model: small}", "{used: {rate: 100%}}", "{by: rate}"),
        ("{key: app, model: small}", "{used: {rate.tokens: 99k}}", "{refused: policy_tokens_limited}"),
        ("{key: app, model: small}", "{down: up/s}", "{targets: free/s}"),
        ("{key: app, model: small}", "{trial: up/s}", "{target: up/s}"),
        ("{key: app, model: big, max_tokens: 100, input_tokens: 100}", "{}", "{costs_at_most: 0.0151}"),
        ("{key: app, model: big, max_tokens: 100, input_tokens: 100}", "{}", "{likely_costs_at_most: 0.005}"),
        ("{key: app, model: big}", "{}", "{max_tokens: 4096}"),
        ("{key: app, body: {model: big, max_tokens: 7, messages: []}}", "{}", "{max_tokens: 7}"),
    ],
)
def test_what_holds_is_as_expected(folder: Path, given: str, state: str, expect: str) -> None:
    done = run(folder, one(given, expect, state))
    assert (done.exit_code, done.stdout) == (0, "1, as expected\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "expect", "says"),
    [
        ("{key: app, model: small}", "{target: up/b}", ":5:22: expect.target: expected up/b, is up/s"),
        ("{key: app, model: small}", "{target: up/ss}", "expected up/ss, is up/s (did you mean 'up/s'?)"),
        ("{key: app, model: small}", "{refused: policy_budget_spent}", "is not refused: it goes to up/s"),
        ("{key: crm, model: big}", "{target: up/b}", "the call is refused: 403 policy_model_forbidden"),
        ("{key: crm, model: big}", "{refused: no}", ":5:23: expect.refused: the call is refused: 403"),
        ("{key: crm, model: big}", "{status: 429}", "expect.status: expected 429, is 403"),
        ("{key: app, model: small}", "{not_targets: [free/s]}", "free/s may be asked: up/s, then free/s"),
        ("{key: app, model: small}", "{targets: [up/s]}", "expected up/s, is up/s, then free/s"),
        ("{key: app, model: big}", "{max_tokens: 9}", "expected 9, is 4096"),
        ("{key: app, model: big}", "{costs_at_most: 0.01}", "expected at most $0.01, is $0."),
        ("{key: app, model: small}", "{max_tokens: as asked}", "expected as asked, is 4096"),
        ("{key: app, model: small}", "{route: beta}", "expected beta, is none"),
        ("{key: app, model: small}", "{instead_of: month}", "expected month, is none"),
        ("{key: ap, model: small}", "{target: up/s}", ":3:18: given.key: there is no key 'ap'"),
        ("{key: app, body: {model: 1}}", "{target: up/s}", "before any policy is asked"),
    ],
)
def test_failure_says_where_what_and_why(folder: Path, given: str, expect: str, says: str) -> None:
    done = run(folder, one(given, expect))
    assert done.exit_code == 1
    assert done.stdout.startswith("failed: it\n") and done.stdout.endswith("1 of 1 not as expected\n")
    assert says in done.stdout
    assert f"{folder}/tests/one.yaml:" in done.stdout


@pytest.mark.parametrize(
    ("expectations", "says"),
    [
        (one("{key: app, model: small}", "{}"), "one.yaml:5:5: tests[0].expect: expects nothing"),
        (one("{key: app, model: small}", "{targt: a}"), "unknown key (did you mean 'target'?)"),
        (one("{key: app, model: small}", "{refused: spent}"), "must be no, or one of caller_"),
        (one("{model: small}", "{target: a}"), "needs one of key, team and sha256"),
        ("  []", "tests/one.yaml"),
    ],
)
def test_file_that_cannot_be_read_exits_2(folder: Path, expectations: str, says: str) -> None:
    done = run(folder, expectations)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_state_that_names_nothing_known_is_a_failure(folder: Path) -> None:
    done = run(folder, one("{key: app, model: small}", "{target: up/s}", "{used: {mont: 1}}"))
    assert done.exit_code == 1
    assert "state.used.mont: there is no limit or budget 'mont' (did you mean 'month'?)" in done.stdout


def test_why_and_json_tell_the_whole_explanation(folder: Path) -> None:
    wrong = one("{key: app, model: small}", "{target: up/b}")
    done = run(folder, wrong, "--why")
    assert "    model small chosen: priority" in done.stdout.replace("      ", "    ")
    answer: dict[str, Any] = json.loads(run(folder, wrong, "--json").stdout)
    (told,) = answer["tests"]
    assert (answer["ok"], told["line"], told["explanation"]["target"]) == (False, 2, "up/s")
    assert told["failures"][0]["path"] == "expect.target"


def test_some_may_be_picked_by_their_names(folder: Path) -> None:
    both = (
        one("{key: app, model: small}", "{target: up/b}")
        + "\n"
        + one("{key: app, model: big}", "{target: up/b}").replace("name: it", "name: big one")
    )
    assert run(folder, both).exit_code == 1
    assert run(folder, both, "-k", "big").exit_code == 0
    assert run(folder, both, "-k", "other").exit_code == 2


def test_folder_without_expectations_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICY)
    done = CliRunner().invoke(app, ["test", str(tmp_path)])
    assert done.exit_code == 2 and "There is no folder" in done.stderr


def test_example_policies_are_as_expected() -> None:
    done = CliRunner().invoke(app, ["test", str(ROOT / "policies")], env={"OPENAI_API_KEY": None})
    assert done.exit_code == 0, done.stdout + done.stderr
