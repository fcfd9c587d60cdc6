"""What operators ask of budgets and of the ledger: a keeper with the embedded store, behind an admin port."""

from __future__ import annotations

import csv
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.control.admin import build_app
from gateway.control.admin_port import AdminPort
from gateway.control.budget_routes import BudgetRoutes
from gateway.control.exposition import Exposition
from tests.control.conftest import KEY, Fake, console
from tests.control.keeping.desk import USD, Desk, Spender, desk

SEARCH = "month|team=search|2026-11-01"
ADS = "month|team=ads|2026-11-01"
ALL = "all|all|rolling"
USER = "users|team=search,user=alice|2026-11-25"


class Port:
    """The admin port of a desk."""

    def __init__(self, at: Desk, url: str, http: aiohttp.ClientSession) -> None:
        self.desk, self._url, self._http = at, url, http

    async def get(self, path: str, status: int = 200, **query: str) -> Any:
        async with self._http.get(self._url + path, params=query) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json() if answer.content_type == "application/json" else await answer.text()

    async def post(self, path: str, status: int = 200, *, key: str = "", **body: Any) -> Any:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with self._http.post(self._url + path, json=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def budgets(self, **query: str) -> dict[str, dict[str, Any]]:
        """Rows by their ids."""
        return {row["id"]: row for row in (await self.get("/admin/budgets", **query))["budgets"]}


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(desk(tmp_path))
        routes = BudgetRoutes(at.link, lambda: at.rules, at.now)
        (tmp_path / "none").mkdir()
        exposition = Exposition(tmp_path / "none", lambda: ())
        served = AdminPort(build_app(Fake(), exposition, [routes, console()], loopback=True))
        listener = socket.create_server(("127.0.0.1", 0))
        await served.start(listener)
        stack.push_async_callback(served.close)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Port(at, f"http://127.0.0.1:{listener.getsockname()[1]}", http)


@pytest.fixture
async def spender(port: Port) -> AsyncIterator[Spender]:
    spender = await port.desk.spender()
    yield spender
    await spender.purse.close()


async def test_budgets_are_shown_by_subject_with_exact_money(port: Port, spender: Spender) -> None:
    await spender.spend(125 * USD + 1, SEARCH)
    await spender.hold(2 * USD, SEARCH, ALL)
    await spender.spend(3 * USD, ADS, ALL, team="ads")
    rows = await port.budgets()
    assert rows[SEARCH] == {
        "id": SEARCH,
        "name": "month",
        "rule": "month",
        "kind": "budget",
        "measure": "usd",
        "subject": "team=search",
        "mode": "enforce",
        "limit_usd": "500.00",
        "topped_up_usd": "0.00",
        "spent_usd": "125.000000001",
        "held_usd": "2.00",
        "idle_usd": "0.00",
        "free_usd": "372.999999999",
        "used_share": 0.254,
        "alert_at": [0.5, 0.8],
        "window": {
            "name": "2026-11-01",
            "starts": "2026-10-31T23:00:00Z",
            "ends": "2026-11-30T23:00:00Z",
            "ended": False,
        },
        "timezone": "Europe/Berlin",
    }
    rolling = rows[ALL]
    assert (rolling["spent_usd"], rolling["held_usd"], rolling["free_usd"]) == ("3.00", "2.00", "5.00")
    assert rolling["window"] == {"name": "rolling", "rolling_s": 86_400}
    assert set(rows) == {SEARCH, ADS, ALL}  # nobody has used the others, and they are per key and user


async def test_limits_are_shown_in_their_own_unit(port: Port, spender: Spender) -> None:
    await spender.hold(7, "rate.requests|key=app|")
    (row,) = (await port.budgets(name="rate")).values()
    assert (row["kind"], row["measure"], row["limit"], row["burst"], row["per_s"]) == (
        "limit",
        "requests",
        600,
        60,
        60,
    )
    assert (row["held"], row["free"], row["used_share"]) == (7, 53, round(7 / 60, 4))


async def test_budget_for_all_is_shown_full_before_its_first_call(port: Port) -> None:
    row = (await port.budgets(name="all"))[ALL]
    assert (row["limit_usd"], row["free_usd"], row["used_share"]) == ("10.00", "10.00", 0)


async def test_budgets_are_filtered_and_come_in_bounded_pages(port: Port, spender: Spender) -> None:
    users = [f"users|team=search,user=u{number:02}|2026-11-25" for number in range(25)]
    for user in users:
        await spender.spend(1, user)
    await spender.spend(1, SEARCH)
    page = await port.get("/admin/budgets", name="users", limit="10")
    seen = [row["id"] for row in page["budgets"]]
    while page["next"]:
        page = await port.get("/admin/budgets", name="users", limit="10", after=page["next"])
        assert len(page["budgets"]) <= 10
        seen += [row["id"] for row in page["budgets"]]
    assert seen == users
    assert set(await port.budgets(name="u*", subject="team=search,user=u0*")) == set(users[:10])
    assert set(await port.budgets(subject="search")) == {SEARCH}
    for query in ({"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"all": "1"}):
        await port.get("/admin/budgets", 400, **query)


async def test_top_up_is_of_the_window_and_leaves_a_record_of_who(port: Port, spender: Spender) -> None:
    await spender.spend(100 * USD, SEARCH)
    body = {"usd": "25.000000001", "note": "for the launch", "by": "ann@desk"}
    told = await port.post("/admin/budgets/month/top-up", key=KEY, **body)
    assert (told["budget"]["topped_up_usd"], told["budget"]["free_usd"]) == ("25.000000001", "425.000000001")
    await port.post("/admin/budgets/month/top-up", usd=-5, subject="search")
    row = (await port.budgets())[SEARCH]
    assert (row["limit_usd"], row["topped_up_usd"], row["free_usd"]) == (
        "500.00",
        "20.000000001",
        "420.000000001",
    )
    kept = port.desk.store._connection.execute("SELECT amount, who, note FROM entries ORDER BY rowid")
    (first, second) = kept.fetchall()
    assert first[0] == 25 * USD + 1 and second[0] == -5 * USD
    assert first[1].startswith("admin key ") and first[1].endswith(" (ann@desk)") and KEY not in first[1]
    assert "for the launch" in first[2]
    assert second[1] == "no key, from 127.0.0.1"
    assert await port.get("/admin/ledger/verify") == {"ok": True, "problems": []}


async def test_reset_gives_the_whole_limit_again_and_forgets_nothing(port: Port, spender: Spender) -> None:
    await spender.spend(100 * USD, SEARCH)
    await spender.spend(200 * USD, ADS)
    told = await port.post("/admin/budgets/month/reset", subject="team=search", note="a mistake")
    assert [row["id"] for row in told["budgets"]] == [SEARCH]
    rows = await port.budgets()
    assert (rows[SEARCH]["free_usd"], rows[SEARCH]["spent_usd"]) == ("500.00", "100.00")
    assert rows[ADS]["free_usd"] == "300.00"
    assert len((await port.post("/admin/budgets/month/reset"))["budgets"]) == 2
    assert {row["free_usd"] for row in (await port.budgets(name="month")).values()} == {"500.00"}
    assert (await port.get("/admin/ledger/verify"))["ok"]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("none/top-up", {"usd": "1"}, 404, "no budget 'none'"),
        ("rate/top-up", {"usd": "1"}, 400, "is a limit"),
        ("month/top-up", {}, 400, "usd must be an amount"),
        ("month/top-up", {"usd": "1e3"}, 400, "usd must be an amount"),
        ("month/top-up", {"usd": "0.0000000001"}, 400, "usd must be an amount"),
        ("month/top-up", {"usd": 0}, 400, "usd must be an amount"),
        ("month/top-up", {"usd": True}, 400, "usd must be an amount"),
        ("month/top-up", {"usd": 9_000_001}, 400, "usd must be an amount"),
        ("month/top-up", {"usd": "1"}, 400, "Say which subject: team=ads, team=search"),
        ("month/top-up", {"usd": "1", "subject": "legal"}, 404, "No call of 'legal'"),
        ("month/top-up", {"usd": "1", "subjects": "search"}, 400, "must be a JSON object"),
        ("month/reset", {"note": "two\nlines"}, 400, "note must be a line"),
        ("month/reset", {"note": "x" * 501}, 400, "note must be a line"),
        ("users/reset", {}, 404, "No call has counted"),
    ],
)
async def test_what_cannot_be_done_says_why_and_changes_nothing(
    port: Port, spender: Spender, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    await spender.spend(1, SEARCH, ADS)
    before = await port.budgets()
    assert says in (await port.post(f"/admin/budgets/{path}", status, **body))["error"]["message"]
    assert await port.budgets() == before


async def test_spending_is_summed_by_what_is_asked_for(port: Port, spender: Spender) -> None:
    await spender.spend(1_500_000, SEARCH)
    await spender.spend(2_500_000, SEARCH, output=30)
    await spender.spend(10, ADS, team="ads", model="=slow", cached_input=5)
    answer = await port.get("/admin/spend", by="team,model,day")
    assert (answer["since"], answer["until"]) == ("2026-11-01T00:00:00Z", "2026-11-25T13:45:10Z")
    # Up to now, and what was booked at this very moment is not before it.
    assert answer["rows"] == []
    port.desk.now_ms += 1_000
    answer = await port.get("/admin/spend", by="team,model,day", since="today")
    plain = {"cache_write": 0, "audio_input": 0, "reasoning": 0, "audio_output": 0, "day": "2026-11-25"}
    assert answer["rows"] == [
        {"team": "ads", "model": "=slow", "calls": 1, "input": 100, "cached_input": 5, "output": 20, **plain}
        | {"usd": "0.00000001"},
        {
            "team": "search",
            "model": "fast",
            "calls": 2,
            "input": 200,
            "cached_input": 0,
            "output": 50,
            **plain,
        }
        | {"usd": "0.004"},
    ]
    assert (answer["total"]["calls"], answer["total"]["usd"]) == (3, "0.00400001")
    text = await port.get("/admin/spend", by="model", since="2026-11-25", format="csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["model"], row["calls"], row["usd"]) for row in rows] == [
        ("'=slow", "1", "0.00000001"),
        ("fast", "2", "0.004"),
    ]
    assert (await port.get("/admin/spend", since="2026-12-01"))["total"]["usd"] == "0.00"


@pytest.mark.parametrize(
    "query", [{"by": "who"}, {"by": "request_id"}, {"since": "soon"}, {"format": "xml"}, {"from": "today"}]
)
async def test_spending_asked_for_wrongly_is_the_askers_fault(port: Port, query: dict[str, str]) -> None:
    await port.get("/admin/spend", 400, **query)


async def test_books_that_do_not_agree_are_shown(port: Port, spender: Spender) -> None:
    await spender.spend(USD, SEARCH)
    port.desk.store._connection.execute("UPDATE charges SET amount = amount - 1")
    answer = await port.get("/admin/ledger/verify")
    assert not answer["ok"]
    assert SEARCH in answer["problems"][0]


async def test_without_a_keeper_the_answer_says_so_at_once(port: Port) -> None:
    await port.desk.link.close()
    for path in ("/admin/budgets", "/admin/spend", "/admin/ledger/verify"):
        answer = await port.get(path, 503)
        assert answer["error"]["code"] == "keeper_unavailable"
        assert answer["error"]["message"].startswith("The keeper does not answer")
