"""The command itself: help, version, and nothing imported that a subcommand does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gateway.policy.providers import PRESETS

ROOT = Path(__file__).parents[2]


def headgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def test_help_names_every_command() -> None:
    done = headgate("--help")
    assert done.returncode == 0
    for command in ("serve", "check", "keys", "budget", "spend", "ledger", "schema", "simulate", "version"):
        assert f"\n  {command} " in done.stdout


def test_mistyped_command_exits_2_with_a_hint() -> None:
    done = headgate("chek")
    assert done.returncode == 2
    assert "'check'" in done.stderr


def test_schema_prints_the_committed_file() -> None:
    assert headgate("schema").stdout == (ROOT / "policies" / "schema.json").read_text()


def test_providers_are_listed_with_what_they_take() -> None:
    told = json.loads(headgate("providers", "--json").stdout)
    assert told.keys() == PRESETS.keys()
    assert told["anthropic"] == {
        "dialect": "anthropic",
        "base_url": "https://api.anthropic.com/v1",
        "api_key_env": "ANTHROPIC_API_KEY",
        "auth": "x-api-key",
        "headers": {"anthropic-version": "2023-06-01"},
        "calls": ["chat", "completions", "count_tokens"],
        "has_prices": True,
    }
    lines = headgate("providers").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *PRESETS]


def test_version_is_one_line() -> None:
    done = headgate("version")
    assert done.returncode == 0
    assert done.stdout.startswith("headgate ")
    assert done.stdout.count("\n") == 1


def test_making_a_key_imports_no_heavy_library() -> None:
    program = (
        "import sys\nfrom gateway.cli import main\nsys.argv = ['headgate', 'keys', 'new']\n"
        "try:\n    main.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'yaml', 'genai_prices', 'aiohttp', 'prometheus_client'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("key     hg-")
