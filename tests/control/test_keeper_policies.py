"""What a new policy means to the keeper: limits that move, stores that do not last, stores that are none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.control.store_choice import CannotOpen, open_store
from gateway.quota.contract import Terms
from tests.control.keeping.house import house, rule
from tests.control.keeping.purse import Purse, want


@pytest.mark.parametrize(("limit", "free"), [(300, 0), (2000, 1600)])
async def test_limit_that_moves_is_in_force_at_once(tmp_path: Path, limit: int, free: int) -> None:
    bucket, loop = "month|all|", asyncio.get_running_loop()
    async with house(tmp_path, open_store) as home:
        await home.policy(rule("month", 1000, kind="money", strict=True))
        worker = await Purse(home.socket, "worker-0").up()
        terms = {bucket: Terms("money", 1000, 1000, stamp=2)}
        reply = await worker.exchange(terms=terms, wishes={bucket: 400})
        assert reply.slices == {bucket: 400}
        worker.answers_recalls = False
        begun_s = loop.time()
        await home.policy(rule("month", limit, kind="money", strict=True))
        assert await worker.hears("recall") == [bucket]
        assert loop.time() - begun_s < 1.0
        await worker.hears("wet")
        reply = await worker.exchange(wants=[want(1, {bucket: 5000})])
        assert reply.refused[0].free == free, "400 are out"
        await worker.close()


async def test_store_that_may_lose_what_it_is_told_gives_no_strict_budgets_and_all_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with house(tmp_path) as home:
        (tmp_path / "unfit").write_text("appendonly is off")
        await home.policy(
            rule("calls", 10),
            rule("strict", 10, kind="money", strict=True),
            rule("guess", 10, kind="money"),
        )
        worker = Purse(home.socket, "worker-0")
        await worker.link.start()
        assert await worker.hears("store") == (True, "appendonly is off")
        wants = [want(at, {f"{name}|all|": 1}) for at, name in enumerate(("calls", "strict", "guess"))]
        reply = await worker.exchange(wants=wants)
        assert reply.granted == [0, 2]
        assert [(refusal.id, refusal.bucket) for refusal in reply.refused] == [(1, "strict|all|")]
        assert "strict budgets are refused" in capfd.readouterr().err
        await home.policy(rule("strict", 10, kind="money", strict=True), accept_lossy=True)
        assert (await worker.exchange(wants=[want(3, {"strict|all|": 1})])).granted == [3]
        await worker.close()


async def test_ledger_that_is_none_is_an_error_and_no_outage(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"something else, and longer than a page of it" * 200)
    with pytest.raises(CannotOpen, match="cannot be opened"):
        await open_store({}, tmp_path)
