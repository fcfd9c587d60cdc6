"""`headgate spend`, `ledger` and `budget`: against a running gateway, and on what it leaves."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.clock import now_ms
from gateway.quota.moment import iso
from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.control.keeping.desk import USD, Spender, tables_of
from tests.control.keeping.purse import Purse
from tests.running import ROOT, Gateway, eventually, policy_for

RULES = """
budgets:
  - {name: day, per: team, usd: 1, every: day, alert_at: 50%}
alerts: {webhook: {env: HOOK}, secret: {env: HOOK_SECRET}}
"""


def headgate(*arguments: str) -> tuple[int, str]:
    """Exit code, and what was printed to stdout and stderr."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return done.exit_code, done.output


def told(*arguments: str) -> Any:
    """The JSON that it printed."""
    code, text = headgate(*arguments, "--json")
    assert code == 0, text
    return json.loads(text)


async def spend(gateway: Gateway, bucket: str) -> None:
    """Two calls of a worker more: 0.6 dollars."""
    purse = await Purse(gateway.state / "keeper.sock", "worker-9").up()
    spender = Spender(purse, tables_of(RULES, HOOK="http://h", HOOK_SECRET="s")["rules"], now_ms)
    await spender.spend(USD // 2 + 1, bucket)
    await spender.spend(USD // 10 - 1, bucket, model="slow")
    await purse.close()


async def test_operator_sees_spending_tops_up_and_is_told(serve: StartGateway, simulator: Simulator) -> None:
    got: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response()

    receiver = web.Application()
    receiver.router.add_post("/hook", take)
    runner = web.AppRunner(receiver)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    gateway = await serve(policy_for(simulator.url, rest=RULES), environ={"HOOK": hook, "HOOK_SECRET": "s"})
    state = ["--state", str(gateway.state)]
    today = iso(now_ms())[:10]
    bucket = f"day|team=search|{today}"
    await spend(gateway, bucket)
    await eventually(lambda: got)
    assert (got[0]["budget"], got[0]["subject"], got[0]["threshold"]) == ("day", "team=search", 0.5)

    answer = told("spend", "--by", "team,model,day", "--since", "today", "--until", "2099-01-01", *state)
    assert [(row["team"], row["model"], row["day"], row["usd"]) for row in answer["rows"]] == [
        ("search", "fast", today, "0.500000001"),
        ("search", "slow", today, "0.099999999"),
    ]
    assert answer["total"]["usd"] == "0.60"
    code, text = headgate("spend", "--since", "today", "--until", "2099-01-01", "--admin", gateway.admin)
    lines = [line.split() for line in text.splitlines()]
    assert code == 0
    assert lines[0] == ["team", "model", "calls", "input", "output", "usd"]
    assert lines[1] == ["search", "fast", "1", "100", "20", "0.500000001"]
    assert lines[3] == ["total", "2", "200", "40", "0.60"]
    assert headgate("ledger", "verify", *state) == (0, "The books agree.\n")

    (row,) = told("budget", "list", *state)["budgets"]
    assert (row["id"], row["spent_usd"], row["free_usd"]) == (bucket, "0.60", "0.40")
    code, text = headgate("budget", "top-up", "day", "--usd", "0.25", "--note", "launch", *state)
    assert (code, text.splitlines()[1].split()) == (
        0,
        ["day", "usd", "team=search", today, "1.00+0.25", "0.60", "0.00", "0.65", "48.0", "%"],
    )
    code, text = headgate("budget", "reset", "day", "--subject", "search", *state)
    assert (code, text.splitlines()[1].split()[4:8]) == (0, ["1.00+0.60", "0.60", "0.00", "1.00"])
    code, text = headgate("budget", "top-up", "night", "--usd", "1", *state)
    assert (code, text) == (2, "headgate: The policy has no budget 'night'.\n")

    async def are_shown() -> bool:
        return await gateway.metric("headgate_budget_limit_usd", budget="day", subject="search") == 1.6

    await eventually(are_shown)
    assert await gateway.metric("headgate_budget_spent_usd", subject="search") == 0.6
    assert await gateway.metric("headgate_store_up") == 1
    assert await gateway.metric("headgate_store_round_trips_total") > 3

    assert gateway.stop() == 0
    await runner.cleanup()
    by_file = told("spend", "--by", "team,model,day", "--since", "today", "--until", "2099-01-01", *state)
    assert by_file == answer
    _, text = headgate("spend", "--by", "model", "--since", "1d", "--until", "2099-01-01", "--csv", *state)
    assert [row["usd"] for row in csv.DictReader(text.splitlines())] == ["0.500000001", "0.099999999"]
    assert headgate("ledger", "verify", *state)[0] == 0
    code, text = headgate("budget", "list", *state)
    assert code == 2 and text.startswith("headgate: No gateway runs on the state folder")
    tampered = sqlite3.connect(gateway.state / "ledger.db")
    with tampered:
        tampered.execute("UPDATE accounts SET posted = posted + 1")
    tampered.close()
    code, text = headgate("ledger", "verify", *state)
    assert code == 1 and text.startswith(f"{bucket}: ")
    kept = json.loads(headgate("ledger", "verify", "--json", *state)[1])
    assert (kept["ok"], len(kept["problems"])) == (False, len(text.splitlines()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["spend", "--by", "team,who"], "'who' is none of"),
        (["spend", "--since", "soon"], "must be a date"),
        (["spend", "--csv", "--json"], "exclude each other"),
        (["spend", "--state", "/none"], "No gateway runs on the state folder /none"),
        (["spend", "--admin", "http://127.0.0.1:1"], "No gateway answers at http://127.0.0.1:1"),
        (["spend", "--admin", "nonsense:1"], "No gateway answers at http://nonsense:1"),
        (["spend", "--admin", "file:///etc/passwd"], "takes a URL like"),
        (["ledger", "verify", "--state", "/none"], "holds no ledger"),
        (["budget", "top-up", "x", "--usd", "much"], "takes US dollars"),
        (["budget", "reset", "x", "--state", "/none"], "give --admin URL"),
    ],
)
def test_what_cannot_be_told_exits_2_and_says_why(arguments: list[str], says: str) -> None:
    code, text = headgate(*arguments)
    assert code == 2
    assert says in " ".join(text.replace("│", "").split())


def test_help_says_what_is_asked_and_how() -> None:
    command = [sys.executable, "-m", "gateway.cli.main", "spend", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    for expected in ("--since", "this-month", "headgate spend --by team,model,day", "Exit codes:"):
        assert expected in done.stdout
    assert "\x1b" not in done.stdout
