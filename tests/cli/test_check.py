"""`headgate check` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app

ROOT = Path(__file__).parents[2]
GOOD = """
providers: {local: {base_url: 'http://h:8000/v1'}, groq: {api_key: {env: GROQ_API_KEY}}}
models: {fast: {targets: [local/a, groq/llama-3.1-8b-instant]}}
teams: {t: {models: [fast]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(GOOD)
    return tmp_path


def check(*arguments: str | Path, key: str | None = None) -> Result:
    """Runs the command with GROQ_API_KEY as given; None: without it."""
    return CliRunner().invoke(app, ["check", *map(str, arguments)], env={"GROQ_API_KEY": key})


def test_good_policy_is_summed_up(folder: Path) -> None:
    done = check(folder, key="gsk-1")
    assert done.exit_code == 0
    assert "2 providers, 1 model, 1 team, 0 keys, 0 routes; a price for 1 of 2 targets" in done.stdout
    assert "without a price: local/a" in done.stdout
    assert f"{folder}/a.yaml:1" not in done.stdout
    assert "warning: keys: no key is defined" in done.stdout
    assert done.stderr == ""


def test_mistakes_are_printed_as_editors_read_them_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("teams:\n  a: {modles: []}\n")
    done = check(tmp_path)
    assert done.exit_code == 1
    assert (
        f"{tmp_path}/a.yaml:2:7: error: teams.a.modles: unknown key (did you mean 'models'?)\n" in done.stdout
    )
    assert "2 errors: this policy cannot be used" in done.stdout


def test_json_says_the_same(folder: Path) -> None:
    good, bad = check(folder, "--json", key="gsk-1"), check(folder, "--json")
    answer = json.loads(good.stdout)
    assert answer["ok"] is True
    assert answer["summary"]["unpriced"] == ["local/a"]
    assert answer["warnings"][0]["path"] == "keys"
    (problem,) = json.loads(bad.stdout)["problems"]
    assert bad.exit_code == 1
    assert (problem["line"], problem["path"]) == (2, "providers.groq.api_key")


def test_warnings_count_if_they_are_to(folder: Path) -> None:
    assert check(folder, "--strict", key="gsk-1").exit_code == 1
    assert check(ROOT / "policies", "--no-secrets", "--strict").exit_code == 0


def test_secrets_need_not_be_there(folder: Path) -> None:
    assert check(folder).exit_code == 1
    assert check(folder, "--no-secrets").exit_code == 0


def test_urls_that_are_secrets_need_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "providers: {p: {base_url: 'http://h', proxy: {env: NO_SUCH_PROXY}}}\n"
        "store: {redis: {env: NO_SUCH_REDIS}}\n"
        "alerts: {webhook: {env: NO_SUCH_HOOK}}\n"
    )
    assert check(tmp_path).exit_code == 1
    done = check(tmp_path, "--no-secrets")
    assert done.exit_code == 0, done.stdout


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_and_only_if_wanted(tmp_path: Path, no_color: str, coloured: bool) -> None:
    (tmp_path / "a.yaml").write_text("zzz: 1\n")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "gateway.cli.main", "check", str(tmp_path)]
    environ = {**os.environ, "NO_COLOR": no_color}
    subprocess.run(command, stdout=theirs, timeout=60, cwd=ROOT, env=environ, check=False)
    shown = os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert b"unknown key" in shown
    assert (b"\x1b[31merror\x1b[0m" in shown) is coloured
    assert "\x1b" not in check(tmp_path).stdout


def test_example_policies_pass_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "gateway.cli.main", "check", "policies"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["a", "b"]])
def test_wrong_use_exits_2(arguments: list[str]) -> None:
    done = check(*arguments)
    assert done.exit_code == 2
    assert "Usage: headgate check" in done.stderr
