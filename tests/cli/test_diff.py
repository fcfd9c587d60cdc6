"""`headgate diff`: what a change means, and the pull request that it stops."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.folder import snapshot
from gateway.cli.main import app
from gateway.policy.retold import Retold
from gateway.wire.json import loads

POLICY: dict[str, Any] = {
    "providers": {"up": {"base_url": "http://h:1/v1", "api_key": {"env": "UP_KEY"}}},
    "models": {
        "fast": {"targets": ["up/small", "up/big"]},
        "deep": {"targets": ["up/big"]},
        "lot": {
            "strategy": "weighted",
            "targets": [
                {"provider": "up", "model": "small", "weight": 3},
                {"provider": "up", "model": "big", "weight": 1},
            ],
        },
    },
    "prices": {"up/small": {"input": 1, "output": 4}, "up/big": {"input": 10, "output": 40}},
    "teams": {"search": {"models": ["*"]}, "sales": {"models": ["fast"]}},
    "keys": {
        "app": {"team": "search", "sha256": "1" * 64},
        "lab": {"team": "search", "sha256": "2" * 64},
        "crm": {"team": "sales", "sha256": "3" * 64},
    },
    "limits": [{"name": "rate", "per": "key", "requests": "600/min", "concurrent": 9}],
}


def written(folder: Path, policy: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "policy.yaml").write_text(json.dumps(policy))
    return folder


def changed(**sections: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(POLICY)), **sections}


def lines(count: int = 400, **more: Any) -> Iterator[dict[str, Any]]:
    """A log of two days, as a gateway with this policy writes it."""
    dice = random.Random(5)
    of_key = {"app": ("search", ("fast", "deep", "lot")), "crm": ("sales", ("fast",))}
    for number in range(count):
        key = dice.choice(["app", "app", "crm"])
        team, names = of_key[key]
        asked = dice.choice(names)
        by_lot = dice.choice(["up/small"] * 3 + ["up/big"])
        target = {"fast": "up/small", "deep": "up/big"}.get(asked, by_lot)
        at = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=number * 172_800 // count)
        yield {
            "time": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "request_id": f"{dice.getrandbits(128):032x}",
            "key": key,
            "team": team,
            "model": asked,
            "asked": asked,
            "endpoint": "chat",
            "target": target,
            "status": 200,
            "outcome": "ok",
            "error_type": None,
            "stream": False,
            "input_tokens": 1000,
            "output_tokens": 100,
            "cached_input_tokens": 0,
            "reasoning_tokens": 0,
            "cost_nanousd": 1_400_000 if target == "up/small" else 14_000_000,
            **more,
        }


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return written(tmp_path / "old", POLICY)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines()))
    return path


def diff(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["diff", *map(str, arguments)])


def told(*arguments: object) -> dict[str, Any]:
    done = diff(*arguments, "--json")
    assert done.exit_code in (0, 1), done.stderr
    return dict(json.loads(done.stdout))


def test_pull_request_that_doubles_a_teams_cost_is_stopped_and_passes_once_it_is_mended(
    tmp_path: Path, old: Path, log: Path
) -> None:
    careless = changed()
    careless["models"]["fast"]["targets"] = ["up/big", "up/small"]
    bounds = ("--replay", log, "--max-cost-increase", "10%", "--max-refused", "0")
    done = diff(old, written(tmp_path / "new", careless), *bounds)
    assert done.exit_code == 1
    assert '(order): ["up/small", "up/big"] → ["up/big", "up/small"]' in done.stdout
    assert "team sales (crm): fast: up/small, then up/big → up/big, then up/small" in done.stdout
    assert (
        "team sales would spend $" in done.stdout
        and "(+900%): more than --max-cost-increase 10%" in done.stdout
    )
    assert "  fast goes to up/big instead of up/small: " in done.stdout
    mended = changed()
    mended["models"]["fast"]["targets"] = ["up/small", "up/big"]
    mended["models"]["fast"]["retries"] = {"attempts": 1}
    done = diff(old, written(tmp_path / "new", mended), *bounds)
    assert done.exit_code == 0, done.stdout
    assert 'models.fast.retries added: {"attempts": 1}' in done.stdout


def test_policy_beside_itself_differs_in_nothing(old: Path, log: Path) -> None:
    answer = told(old, old, "--replay", log, "--max-cost-increase", "0%", "--max-moved", "0")
    assert (answer["changes"], answer["effects"], answer["prices"], answer["faults"]) == ([], [], [], [])
    assert answer["replay"]["moves"] == []
    total = answer["replay"]["total"]
    assert total["old_usd"] == total["new_usd"] == answer["replay"]["logged_usd"]
    assert total["calls"] == 400 and total["old_refused"] == total["new_refused"] == 0
    assert "both say the same" in diff(old, old).stdout


def test_sums_are_by_team_and_day(old: Path, tmp_path: Path, log: Path) -> None:
    dearer = changed()
    dearer["prices"]["up/small"] = {"input": 2, "output": 8}
    answer = told(old, written(tmp_path / "new", dearer), "--replay", log)
    assert answer["prices"] == [
        {"target": "up/small", "before": "1.00 in, 4.00 out", "after": "2.00 in, 8.00 out"}
    ]
    days = answer["replay"]["days"]
    assert [(row["team"], row["day"]) for row in days] == [
        (team, day) for team in ("sales", "search") for day in ("2026-11-20", "2026-11-21")
    ]
    assert all(float(row["new_usd"]) == 2 * float(row["old_usd"]) for row in days[:2])
    assert all(move["before"] == move["after"] == "up/small" for move in answer["replay"]["moves"])


def test_who_may_not_call_any_more_is_refused(old: Path, tmp_path: Path, log: Path) -> None:
    closed = changed(teams={"search": {"models": ["fast"]}, "sales": {"models": ["fast"]}})
    done = diff(old, written(tmp_path / "new", closed), "--replay", log, "--max-refused", "1%")
    assert done.exit_code == 1
    assert "team search (app, lab): deep: up/big → policy_model_forbidden" in done.stdout
    assert "more calls refused" in done.stdout
    assert "deep is refused (policy_model_forbidden) instead of up/big" in done.stdout
    gone = changed()
    del gone["keys"]["crm"]
    (answer,) = [
        move
        for move in told(old, written(tmp_path / "new", gone), "--replay", log)["replay"]["moves"]
        if move["team"] == "sales"
    ]
    assert answer["after"] == "caller_unauthorized"


def test_budget_refuses_what_comes_after_it_is_spent(old: Path, tmp_path: Path, log: Path) -> None:
    budgets = [{"name": "day", "usd": 0.05, "every": "day", "match": {"team": "sales"}}]
    total = told(old, written(tmp_path / "new", changed(budgets=budgets)), "--replay", log)["replay"]
    rows = {row["team"]: row for row in total["teams"]}
    assert rows["search"]["new_refused"] == 0
    assert 0 < float(rows["sales"]["new_usd"]) <= 0.10
    passed = rows["sales"]["calls"] - rows["sales"]["new_refused"]
    assert passed == 2 * (50_000_000 // 1_400_000)
    budgets[0]["mode"] = "shadow"
    watched = told(old, written(tmp_path / "new", changed(budgets=budgets)), "--replay", log)["replay"]
    assert watched["total"]["new_refused"] == 0
    assert watched["would_refuse"]["new"]["day"] == rows["sales"]["new_refused"]


def test_spent_budget_sends_calls_to_the_model_it_names(old: Path, tmp_path: Path, log: Path) -> None:
    budgets = [
        {"name": "day", "usd": 0.1, "every": "day", "match": {"model": "deep"}, "when_spent": {"use": "fast"}}
    ]
    answer = told(old, written(tmp_path / "new", changed(budgets=budgets)), "--replay", log)["replay"]
    assert {(move["asked"], move["before"], move["after"]) for move in answer["moves"]} == {
        ("deep", "up/big", "up/small")
    }
    assert answer["total"]["new_refused"] == 0


def test_rate_refuses_what_comes_too_fast(old: Path, tmp_path: Path) -> None:
    log = tmp_path / "burst.jsonl"
    same = [line for line in lines(60, time="2026-11-20T12:00:00.000Z") if line["key"] == "app"]
    log.write_text("".join(json.dumps(line) + "\n" for line in same))
    limits = [{"name": "rate", "per": "key", "requests": "10/min", "burst": 10}]
    total = told(old, written(tmp_path / "new", changed(limits=limits)), "--replay", log)["replay"]["total"]
    assert (total["old_refused"], total["new_refused"]) == (0, len(same) - 10)


def test_target_that_failed_fails_again(old: Path, tmp_path: Path) -> None:
    log = tmp_path / "failed.jsonl"
    log.write_text(
        "".join(
            json.dumps({**line, "target": "up/big"}) + "\n" for line in lines(50) if line["asked"] == "fast"
        )
    )
    more = changed()
    more["models"]["fast"]["targets"] = ["up/small", "up/third"]
    more["prices"]["up/third"] = {"input": 2, "output": 2}
    moves = told(old, written(tmp_path / "new", more), "--replay", log)["replay"]["moves"]
    assert {(move["before"], move["after"]) for move in moves} == {("up/big", "up/third")}


def test_lot_is_drawn_anew_only_where_it_changed(old: Path, tmp_path: Path, log: Path) -> None:
    even = changed()
    even["models"]["lot"]["targets"][1]["weight"] = 3
    moves = told(old, written(tmp_path / "new", even), "--replay", log, "--max-moved", "50%")
    asked = {move["asked"] for move in moves["replay"]["moves"]}
    assert asked == {"lot"}
    bound = diff(old, tmp_path / "new", "--replay", log, "--max-moved", "1")
    assert bound.exit_code == 1 and "answered elsewhere: more than --max-moved 1" in bound.stdout


def test_refused_calls_of_the_log_have_the_mean_if_they_pass_now(old: Path, tmp_path: Path) -> None:
    found = list(lines(40))
    refused = {
        "target": None,
        "status": 429,
        "outcome": "refused",
        "error_type": "policy_budget_spent",
        "input_tokens": None,
        "output_tokens": None,
        "cached_input_tokens": None,
        "reasoning_tokens": None,
        "cost_nanousd": None,
    }
    mine = [line for line in found if line["key"] == "crm"]
    log = tmp_path / "refused.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in [*mine, {**mine[-1], **refused}]))
    total = told(old, old, "--replay", log)["replay"]["total"]
    assert float(total["new_usd"]) == pytest.approx(0.0014 * (len(mine) + 1))


def test_log_may_be_packed_and_hold_other_lines(old: Path, tmp_path: Path) -> None:
    packed = tmp_path / "calls.jsonl.gz"
    nobody = {**next(lines(1)), "key": None, "team": None, "model": None, "asked": None}
    text = [json.dumps(line) for line in (*lines(20), nobody)]
    packed.write_bytes(gzip.compress("\n".join([*text, "no json", "[]", "{}"]).encode()))
    answer = told(old, old, "--replay", packed)["replay"]
    assert (answer["calls"], answer["undecided"], answer["unreadable"]) == (20, 1, 3)
    assert answer["not_followed"] == ["rate.concurrent"]


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_million_lines_take_a_minute_of_one_core(tmp_path: Path) -> None:
    budgets = [
        {"name": "day", "usd": 500, "every": "day", "per": "team", "timezone": "Europe/Berlin"},
        {"name": "roll", "usd": 9000, "rolling": "30d", "per": "key"},
    ]
    sides = [
        snapshot(written(tmp_path / name, changed(budgets=budgets[:count])))
        for name, count in (("old", 1), ("new", 2))
    ]
    some = [json.dumps(line).encode() for line in lines(10_000)]
    retold, began_s = Retold(*sides), time.process_time()
    for _ in range(100):
        for line in some:
            retold.take(loads(line))
    assert retold.total().calls == 1_000_000
    assert time.process_time() - began_s < 60


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--max-cost-increase", "10%"), "The bounds need a request log"),
        (("--replay", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--replay", "LOG", "--max-cost-increase", "ten"), "takes a share like 10%, or dollars like 25"),
        (("--replay", "LOG", "--max-refused", "0.5"), "takes a share like 10%, or calls like 100"),
    ],
)
def test_what_cannot_be_told_exits_2(old: Path, log: Path, arguments: tuple[str, ...], says: str) -> None:
    done = diff(old, old, *(log if each == "LOG" else each for each in arguments))
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_broken_policy_is_named_with_its_place(old: Path, tmp_path: Path) -> None:
    broken = changed()
    broken["models"]["deep"]["targets"] = ["upp/big"]
    done = diff(old, written(tmp_path / "new", broken))
    assert done.exit_code == 2
    assert "new/policy.yaml:1:" in done.stderr and "did you mean 'up'?" in done.stderr
