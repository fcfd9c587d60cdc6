"""Soft alerts: each threshold of each window once, signed, again and again until somebody takes it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.control.alert_file import MOST_WAITING, AlertFile, Waiting
from gateway.control.alerts import Alerts
from gateway.control.standing import Standing, standings
from gateway.control.webhook import GIVE_UP_MS, LONGEST_RETRY_MS, Webhook, retry_ms
from gateway.quota.moment import DAY_MS
from tests.control.keeping.desk import NOW_MS, RULES, USD, tables_of
from tests.running import eventually

SECRET = "whsec-1"
RULE_TABLES = {rule["name"]: rule for rule in tables_of(RULES)["rules"]}
MONTH, DAY = "month|team=search|2026-11-01", "users|team=search,user=x|2026-11-25"


def standing(spent: float, bucket: str = MONTH, *, held: int = 0, now_ms: int = NOW_MS) -> list[Standing]:
    """One bucket's standing, in dollars."""
    name = bucket.partition("|")[0]
    rule = RULE_TABLES[name]
    free = rule["limit"] - int(spent * USD) - held * USD
    amounts = {"spent": int(spent * USD), "held": held * USD, "idle": 0, "free": free}
    terms = {"kind": rule["kind"], "limit": rule["limit"]}
    return list(standings([rule], [{"bucket": bucket, "terms": terms, **amounts}], now_ms))


class Receiver:
    """Keeps what is posted; answers with what `statuses` says next, 200 when they are used up."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"location": "/elsewhere"})

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


class Desk:
    """Alerts of a state folder and their receiver; `now_ms` is their time."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.now_ms = NOW_MS
        self.receiver = receiver
        self.table: dict[str, Any] | None = {"webhook": receiver.url, "secret": SECRET}
        self.file = AlertFile(folder / "alerts.db")
        self.webhook = Webhook(self.file, lambda: self.table, lambda: self.now_ms)
        self.alerts = Alerts(self.file, self.webhook, lambda: self.table)

    async def see(self, *standings: list[Standing]) -> None:
        await self.alerts.see([each for some in standings for each in some], self.now_ms)

    async def waiting(self) -> list[Waiting]:
        return await self.file.due(self.now_ms + 10 * DAY_MS, 5_000)

    async def later(self, ms: int) -> None:
        """Time passes, and the sender looks."""
        self.now_ms += ms
        self.webhook.wake()


@asynccontextmanager
async def open_desk(folder: Path, receiver: Receiver, *, sends: bool = True) -> AsyncIterator[Desk]:
    made = Desk(folder, receiver)
    sender = asyncio.get_running_loop().create_task(made.webhook.run()) if sends else None
    try:
        yield made
    finally:
        if sender is not None:
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender
        made.file.close()


Receive = Callable[..., Any]


@pytest.fixture
async def receive() -> AsyncIterator[Receive]:
    """`await receive(500, 500)`: a receiver on a real socket."""
    async with AsyncExitStack() as stack:

        async def start(*statuses: int) -> Receiver:
            receiver = Receiver(*statuses)
            app = web.Application()
            app.router.add_post("/hook", receiver.take)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
            return receiver

        yield start


async def test_alert_is_told_once_for_each_threshold_of_a_window(receive: Receive, tmp_path: Path) -> None:
    receiver = await receive()
    async with open_desk(tmp_path, receiver) as desk:
        await desk.see(standing(249.999))
        assert await desk.waiting() == []
        await desk.see(standing(250))
        await desk.see(standing(260))
        await eventually(lambda: len(receiver.got) == 1)
        await desk.see(standing(500))
        await eventually(lambda: len(receiver.got) == 2)
        await desk.see(standing(500))
        first, second = receiver.bodies()
        assert (first["threshold"], second["threshold"]) == (0.5, 0.8)
        assert first["id"] != second["id"]
        assert first == {
            "id": first["id"],
            "type": "budget.threshold",
            "created": "2026-11-25T13:45:10Z",
            "budget": "month",
            "subject": "team=search",
            "window": {
                "name": "2026-11-01",
                "starts": "2026-10-31T23:00:00Z",
                "ends": "2026-11-30T23:00:00Z",
            },
            "mode": "enforce",
            "threshold": 0.5,
            "spent_share": 0.5,
            "limit_usd": "500.00",
            "spent_usd": "250.00",
            "held_usd": "0.00",
        }
        await eventually(lambda: _none_wait(desk))
    # And not by the control that comes next, either.
    async with open_desk(tmp_path, receiver) as desk:
        await desk.see(standing(500))
        assert await desk.waiting() == []


async def test_next_window_is_told_anew(receive: Receive, tmp_path: Path) -> None:
    async with open_desk(tmp_path, await receive(), sends=False) as desk:
        await desk.see(standing(260))
        desk.now_ms += 7 * DAY_MS
        december = standing(300, "month|team=search|2026-12-01", now_ms=desk.now_ms)
        # What is left of November is not told any more.
        await desk.see(standing(450, now_ms=desk.now_ms), december)
        assert [json.loads(alert.body)["window"]["name"] for alert in await desk.waiting()] == [
            "2026-11-01",
            "2026-12-01",
        ]
        assert list(desk.file.told) == ["month|team=search|2026-12-01|0.5"]


async def test_what_is_only_held_raises_no_alert(receive: Receive, tmp_path: Path) -> None:
    async with open_desk(tmp_path, await receive(), sends=False) as desk:
        await desk.see(standing(100, held=390))
        assert await desk.waiting() == []


async def test_rolling_budget_tells_again_once_it_had_calmed_down(receive: Receive, tmp_path: Path) -> None:
    rolling = "all|all|rolling"
    async with open_desk(tmp_path, await receive(), sends=False) as desk:
        for spent in (9.5, 8.9, 9.5):  # above nine tenths of 9: it swings around the threshold
            await desk.see(standing(spent, rolling))
        assert len(await desk.waiting()) == 1
        desk.now_ms += DAY_MS // 2
        for spent in (8.0, 9.1):
            await desk.see(standing(spent, rolling))
        first, second = await desk.waiting()
        assert first.id != second.id


async def test_signature_is_of_the_time_and_the_body(receive: Receive, tmp_path: Path) -> None:
    receiver = await receive()
    async with open_desk(tmp_path, receiver) as desk:
        await desk.see(standing(250))
        await eventually(lambda: receiver.got)
        ((headers, body),) = receiver.got
    fields = dict(field.split("=") for field in headers["x-headgate-signature"].split(","))
    assert fields["t"] == str(NOW_MS // 1000)
    signed = hmac.new(SECRET.encode(), f"{fields['t']}.".encode() + body, hashlib.sha256).hexdigest()
    assert fields["v1"] == signed
    assert headers["x-headgate-event-id"] == json.loads(body)["id"]


async def test_alert_that_is_not_taken_comes_again_with_the_same_id(receive: Receive, tmp_path: Path) -> None:
    receiver = await receive(500, 302, 429)
    async with open_desk(tmp_path, receiver) as desk:
        await desk.see(standing(250))
        for attempt in range(1, 5):
            await eventually(lambda attempt=attempt: len(receiver.got) == attempt)
            await eventually(lambda attempt=attempt: _failed(desk, attempt))
            await desk.later(LONGEST_RETRY_MS)
        await eventually(lambda: _none_wait(desk))
        assert len(receiver.got) == 4
    assert len({body for _, body in receiver.got}) == 1
    # Each with the time at which it was sent.
    assert len({headers["x-headgate-signature"] for headers, _ in receiver.got}) == 4


async def test_alert_outlives_its_process_and_a_receiver_that_is_away(
    receive: Receive, tmp_path: Path
) -> None:
    nobody = Receiver()
    nobody.url = "http://127.0.0.1:1/hook"
    async with open_desk(tmp_path, nobody) as desk:
        await desk.see(standing(250))
        await eventually(lambda: _failed(desk, 1))
    receiver = await receive()
    async with open_desk(tmp_path, receiver) as desk:
        await desk.later(LONGEST_RETRY_MS)
        await eventually(lambda: len(receiver.got) == 1)
        assert receiver.bodies()[0]["spent_usd"] == "250.00"


async def test_alert_is_given_up_after_a_day(
    receive: Receive, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver = await receive(*[503] * 9)
    async with open_desk(tmp_path, receiver) as desk:
        await desk.see(standing(250))
        await eventually(lambda: _failed(desk, 1))
        await desk.later(GIVE_UP_MS)
        await eventually(lambda: _none_wait(desk))
    said = capfd.readouterr().err
    assert "is given up: the receiver answered 503" in said
    assert "127.0.0.1" not in said and SECRET not in said


async def test_alerts_that_wait_are_bounded_and_the_newest_stay(receive: Receive, tmp_path: Path) -> None:
    async with open_desk(tmp_path, await receive(), sends=False) as desk:
        many = [
            (f"a{n}", NOW_MS + DAY_MS, Waiting(f"{n:05}", b"{}", NOW_MS + n, 0, NOW_MS))
            for n in range(MOST_WAITING + 5)
        ]
        assert await desk.file.raise_alerts(many) == 5
        left = await desk.waiting()
        assert (len(left), left[0].id) == (MOST_WAITING, "00005")


async def test_nobody_is_told_where_the_policy_names_nobody(receive: Receive, tmp_path: Path) -> None:
    async with open_desk(tmp_path, await receive(), sends=False) as desk:
        rules = list(RULE_TABLES.values())
        assert desk.alerts.is_watching(rules)
        assert not desk.alerts.is_watching([RULE_TABLES["users"]])
        desk.table = None
        await desk.see(standing(500))
        assert not desk.alerts.is_watching(rules)
        assert await desk.waiting() == []


async def test_file_that_cannot_be_used_does_not_keep_control_from_starting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alerts.db").write_bytes(b"no database " * 100)
    async with open_desk(tmp_path, Receiver(), sends=False) as desk:
        await desk.see(standing(250))
        assert len(await desk.waiting()) == 1
    assert "alerts do not outlive this process" in capfd.readouterr().err


def test_waits_grow_to_an_hour() -> None:
    waits = [retry_ms(attempts) for attempts in range(40)]
    assert 1_500 <= waits[0] <= 2_000
    assert all(45 * 60_000 <= wait <= LONGEST_RETRY_MS for wait in waits[11:])


async def _none_wait(desk: Desk) -> bool:
    return await desk.waiting() == []


async def _failed(desk: Desk, times: int) -> bool:
    """An attempt failed so often, or it was taken."""
    waiting = await desk.waiting()
    return not waiting or waiting[0].attempts >= times
