"""Whose stored objects a call names: asked of control, which keeps the record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.clock import monotonic_s
from gateway.errors import NO_RECORDS, OBJECT_UNKNOWN, GatewayError
from gateway.line.exchange import SUSPEND, DeadlinePassed, Exchange
from gateway.policy.snapshot import Provider

ASK_S = 5.0
"""How long control may be away when it is asked; it is back within a second."""


async def must_own(exchange: Exchange, provider: Provider, ids: Iterable[str]) -> None:
    """Raises `GatewayError`: 404 unless all these objects are the caller's team's, 503 if that is unknown."""
    asked = sorted(set(ids))
    if asked and len(await owned(exchange, provider, "owned", asked)) < len(asked):
        raise GatewayError(OBJECT_UNKNOWN)


async def owned(exchange: Exchange, provider: Provider, do: str, ids: list[str]) -> frozenset[str]:
    """Those of `ids` that are the caller's team's. Raises `GatewayError` (503) if that cannot be told.

    `do` is "owned", or "record" to first give the team those that are nobody's.
    """
    question = {"do": do, "provider": provider.name, "team": exchange.admission.key.team, "ids": ids}
    leave = exchange.line.ask(question, exchange.wake)
    exchange.caller.deadline.set(monotonic_s() + ASK_S)
    try:
        reply: dict[str, Any] = await SUSPEND
    except DeadlinePassed:
        raise GatewayError(NO_RECORDS) from None
    finally:
        leave()
    if exchange.total_at_s:
        exchange.caller.deadline.set(exchange.total_at_s)
    else:
        exchange.caller.deadline.clear()
    if "owned" not in reply:
        raise GatewayError(NO_RECORDS)
    return frozenset(reply["owned"])
