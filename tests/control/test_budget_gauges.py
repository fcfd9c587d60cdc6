"""Gauges of budgets: names of the policy only, the window under way, and no scrape waits for the keeper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from gateway.clock import monotonic_s
from gateway.control.budgets import Budgets
from gateway.control.standing import MOST_SERIES, Standing, gauges, label_of, standings
from gateway.link.keeper_queries import NoAnswer
from gateway.telemetry import table
from tests.control.keeping.desk import NOW_MS, RULES, USD, tables_of
from tests.running import eventually

TABLES = tables_of(RULES)["rules"]


def balance(bucket: str, spent: int = 0, held: int = 0, *, limit: int = 500 * USD) -> dict[str, Any]:
    kind = "rolling" if bucket.endswith("rolling") else "money"
    terms = {"kind": kind, "limit": limit}
    return {
        "bucket": bucket,
        "terms": terms,
        "spent": spent,
        "held": held,
        "idle": 0,
        "free": limit - spent - held,
    }


def values(*balances: dict[str, Any]) -> dict[tuple[str, str], tuple[float, ...]]:
    """(budget, subject) → limit, held, spent."""
    found: dict[tuple[str, ...], list[float]] = {}
    for metric, labels, value in gauges(standings(TABLES, balances, NOW_MS), NOW_MS):
        assert metric in (table.BUDGET_LIMIT, table.BUDGET_HELD, table.BUDGET_SPENT)
        found.setdefault(labels, []).append(value)
    return {(budget, subject): tuple(of) for (budget, subject), of in found.items()}


def test_gauges_are_of_the_window_under_way() -> None:
    now, before = "month|team=search|2026-11-01", "month|team=search|2026-10-01"
    assert values(balance(now, 125 * USD + 1, 2 * USD), balance(before, 400 * USD)) == {
        ("month", "search"): (500.0, 2.0, 125.000000001),
        ("all", "all"): (10.0, 0.0, 0.0),
    }


def test_users_of_callers_are_summed() -> None:
    found = values(
        balance("users|team=search,user=ann|2026-11-25", 3, limit=USD),
        balance("users|team=search,user=_other|2026-11-25", 4, limit=USD),
        balance("users|team=ads,user=ann|2026-11-25", 5, limit=USD),
    )
    assert found["users", "search,_users"] == (2.0, 0.0, 7e-9)
    assert found["users", "ads,_users"] == (1.0, 0.0, 5e-9)


def test_tags_are_shown_where_the_policy_names_them() -> None:
    free, bound = {"match": {"tag": None}}, {"match": {"tag": ["beta"]}}
    assert label_of(free, "tag=beta") == "_tags"
    assert label_of(bound, "tag=beta") == "beta"
    assert label_of(bound, "key=app,model=fast,target=a/b") == "app,fast,a/b"


def test_series_are_bounded() -> None:
    many = [balance(f"month|team=t{n:05}|2026-11-01", 1) for n in range(MOST_SERIES + 10)]
    found = values(*many)
    # The rest of each budget is one series more.
    assert len(found) == MOST_SERIES + 2
    assert found["month", "_other"] == (5_000.0, 0.0, 10 / USD)


def test_what_the_policy_does_not_have_is_not_shown() -> None:
    gone = balance("gone|team=search|2026-11-01", USD)
    weekly = balance("month|team=search|2026-11-23", USD)  # of a rule that was weekly then
    assert set(values(gone, weekly)) == {("all", "all")}


class Keeper:
    """Answers when `release` is set; counts."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()
        self.asked = 0
        self.spent = 0
        self.is_gone = False
        self.limits: dict[str, list[dict[str, Any]]] = {}
        """Balances by rule."""

    async def ask(self, what: str, *, within_s: float = 5, **details: Any) -> Any:
        assert what == "balances"
        if not details["money"]:
            return self.limits.get(details["rule"], [])
        assert details["rule"] == ""
        self.asked += 1
        await self.release.wait()
        if self.is_gone:
            raise NoAnswer("The keeper does not answer.")
        return [balance("month|team=search|2026-11-01", self.spent)]


class Watch:
    """`Budgets` that run, with a keeper in hand."""

    def __init__(self) -> None:
        self.keeper = Keeper()
        self.is_watching = False
        self.seen: list[int] = []
        self.budgets = Budgets(
            self.keeper, lambda: TABLES, lambda: NOW_MS, self._see, lambda: self.is_watching
        )

    async def _see(self, found: Sequence[Standing]) -> None:
        self.seen += [each.spent for each in found if each.rule["name"] == "month"]

    def spent(self) -> list[float]:
        return [
            value
            for metric, labels, value in self.budgets.samples()
            if metric is table.BUDGET_SPENT and labels == ("month", "search")
        ]


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    watch = Watch()
    running = asyncio.get_running_loop().create_task(watch.budgets.run())
    yield watch
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_keeper_is_asked_only_while_somebody_looks_and_once_a_second(watch: Watch) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert watch.keeper.asked == 0
    watch.keeper.spent = 7 * USD
    began_s = monotonic_s()
    watch.budgets.look()
    await eventually(lambda: watch.spent() == [7.0])
    for _ in range(100):
        watch.budgets.look()
        await asyncio.sleep(0)
    assert watch.keeper.asked == 1
    watch.keeper.spent = 8 * USD
    await eventually(lambda: watch.spent() == [8.0])
    assert monotonic_s() - began_s >= 1.0
    assert watch.keeper.asked == 2


async def test_alerts_are_shown_every_poll_though_nobody_looks(watch: Watch) -> None:
    watch.is_watching = True
    watch.budgets.look()
    await eventually(lambda: watch.seen == [0])


async def test_last_values_are_served_while_the_keeper_does_not_answer(watch: Watch) -> None:
    watch.keeper.spent = 7 * USD
    await watch.budgets.poll()
    watch.keeper.release.clear()
    watch.budgets.look()
    await eventually(lambda: watch.keeper.asked == 2)
    assert watch.spent() == [7.0]
    watch.keeper.is_gone = True
    watch.keeper.release.set()
    await asyncio.sleep(0)
    assert watch.spent() == [7.0]


async def test_fill_of_limits_is_told_but_not_of_those_per_user(watch: Watch) -> None:
    for rule in TABLES:
        if rule["measure"] == "usd":
            continue
        terms = {"kind": rule["kind"], "limit": rule["limit"]}
        most = rule["burst"] if rule["kind"] == "rate" else rule["limit"]
        subject = "user=ann" if "user" in rule["per"] else "all"
        watch.keeper.limits[rule["name"]] = [
            {
                "bucket": f"{rule['name']}|{subject}|",
                "terms": terms,
                "spent": 0,
                "held": 0,
                "idle": most // 4,
                "free": most // 4,
            }
        ]
    assert watch.keeper.limits
    await watch.budgets.poll()
    told = {
        labels[0]: value for metric, labels, value in watch.budgets.samples() if metric is table.LIMIT_USED
    }
    of_all = {
        rule["policy_name"] for rule in TABLES if rule["measure"] != "usd" and "user" not in rule["per"]
    }
    assert set(told) == of_all
    assert all(0.49 < share < 0.52 for share in told.values())


async def test_windows_of_calendar_budgets_are_told(watch: Watch) -> None:
    told = {
        (metric, labels): value
        for metric, labels, value in watch.budgets.samples()
        if metric in (table.BUDGET_STARTS, table.BUDGET_ENDS)
    }
    starts, ends = told[table.BUDGET_STARTS, ("month",)], told[table.BUDGET_ENDS, ("month",)]
    assert starts * 1000 <= NOW_MS < ends * 1000
    assert 28 <= (ends - starts) / 86_400 <= 31
