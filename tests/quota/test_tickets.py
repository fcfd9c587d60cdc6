"""Tickets: what is kept for whom, until when, and who gets none."""

from __future__ import annotations

from gateway.quota.tickets import HORIZON_MS, Tickets

MINUTE = 60_000


def test_a_due_ticket_keeps_its_need_from_all_others_for_a_second() -> None:
    tickets = Tickets(600, MINUTE)
    assert tickets.issue("a", 3, free=1, now_ms=0) == 200
    assert tickets.kept("b", 200) == tickets.kept("b", 1_200) == 3
    assert tickets.kept("a", 200) == 0
    # Before it is due, what is refilled until then need not be there yet.
    assert tickets.kept("b", 100) == 2
    tickets.refresh(1_200)
    assert tickets.queue
    tickets.refresh(1_201)
    assert tickets.kept("b", 1_201) == 0


def test_tickets_come_one_after_the_other() -> None:
    tickets = Tickets(600, MINUTE)
    assert [tickets.issue(who, 2, free=0, now_ms=0) for who in "abc"] == [200, 400, 600]
    tickets.claim("a", 199)
    assert len(tickets.queue) == 3
    tickets.claim("a", 200)
    assert [ticket.who for ticket in tickets.queue] == ["b", "c"]


def test_nobody_gets_one_beyond_the_horizon_or_after_letting_one_lapse() -> None:
    tickets = Tickets(1, MINUTE)
    assert tickets.issue("a", 1, free=0, now_ms=0) == HORIZON_MS
    assert tickets.issue("b", 1, free=0, now_ms=0) is None
    tickets.refresh(HORIZON_MS + 1_001)
    later = HORIZON_MS + 1_001
    assert tickets.issue("a", 1, free=1, now_ms=later) is None
    tickets.refresh(later + HORIZON_MS)
    assert tickets.issue("a", 1, free=1, now_ms=later + HORIZON_MS) is not None
