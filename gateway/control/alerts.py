"""Who is told that a budget runs out, once for each threshold, and of what else happened.

What counts is what is *spent*, not what is held besides: holds are the most that calls may cost, and a dozen
long ones would raise alerts of money that comes back within seconds.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from gateway.control.alert_file import AlertFile, Waiting
from gateway.control.standing import Standing, Table
from gateway.control.webhook import Webhook
from gateway.money import usd_text
from gateway.quota.contract import ROLLING
from gateway.quota.moment import DAY_MS, iso
from gateway.quota.window import slice_index
from gateway.telemetry.diagnostics import report, say

KEPT_MS = 30 * DAY_MS
"""How long it is remembered that something was told."""
REARM = 0.9
"""A rolling budget's alert may be raised again once no more than nine tenths of its threshold are spent."""


class Alerts:
    """Watches the standings of budgets that have `alert_at`. `alerts` gives the policy's table of that name:
    None if nobody is to be told."""

    def __init__(self, file: AlertFile, webhook: Webhook, alerts: Callable[[], Table | None]) -> None:
        self._file = file
        self._webhook = webhook
        self._alerts = alerts

    def is_watching(self, rules: Sequence[Table]) -> bool:
        """Whether balances are wanted."""
        return self._alerts() is not None and any(rule["alert_at"] for rule in rules)

    async def see(self, standings: Sequence[Standing], now_ms: int) -> None:
        """Raises what is due; it is kept when this returns."""
        if self._alerts() is None:
            return
        told = self._file.told
        gone = [what for what, until_ms in told.items() if until_ms <= now_ms]
        raised = []
        for each in standings:
            if each.rule["alert_at"] and each.is_current(now_ms):
                gone += [what for what in _calmed(each) if what in told]
                raised += [alert for alert in _passed(each, now_ms) if alert[0] not in told]
        try:
            if gone:
                await self._file.forget(gone)
            if raised:
                dropped = await self._file.raise_alerts(raised)
                if dropped:
                    say(f"{dropped} alerts that nobody took made room for newer ones")
                self._webhook.wake()
        except sqlite3.Error as error:
            # What is not kept is not in `told` either: the next poll raises it again.
            report(error)

    async def tell(self, body: dict[str, Any], now_ms: int) -> None:
        """Has the receiver told of something else that happened, once; it is kept when this returns."""
        waiting = Waiting(body["id"], orjson.dumps(body), now_ms, 0, now_ms)
        if body["id"] not in self._file.told:
            await self._file.raise_alerts([(body["id"], now_ms + KEPT_MS, waiting)])
            self._webhook.wake()


def _passed(standing: Standing, now_ms: int) -> Iterator[tuple[str, int, Waiting]]:
    """The alerts of all thresholds that are passed."""
    for threshold in standing.rule["alert_at"]:
        if standing.most > 0 and standing.spent >= _line(standing, threshold):
            what = _what(standing, threshold)
            # A rolling budget's may come again, as another one. Gateways that share a store give an alert
            # the same id.
            rule = standing.rule
            moment = f"|{slice_index(rule['window_ms'], now_ms)}" if rule["kind"] == ROLLING else ""
            id_ = "alert_" + hashlib.blake2b(f"{what}{moment}".encode(), digest_size=12).hexdigest()
            body = orjson.dumps(_body(id_, standing, threshold, now_ms))
            yield what, _until_ms(standing, now_ms), Waiting(id_, body, now_ms, 0, now_ms)


def _calmed(standing: Standing) -> Iterator[str]:
    """What a rolling budget may tell again."""
    if standing.rule["kind"] == ROLLING:
        for threshold in standing.rule["alert_at"]:
            if standing.spent <= REARM * _line(standing, threshold):
                yield _what(standing, threshold)


def _line(standing: Standing, threshold: float) -> int:
    """Nano-dollars at which a threshold is passed; shares are percents to a hundredth at most."""
    return -(-standing.most * round(threshold * 10_000) // 10_000)


def _what(standing: Standing, threshold: float) -> str:
    return f"{standing.bucket}|{threshold}"


def _until_ms(standing: Standing, now_ms: int) -> int:
    """When nobody can pass it any more: money counts in its window for a while after its end."""
    if standing.window is not None:
        return standing.window.ends_ms + DAY_MS
    return now_ms + 2 * int(standing.rule["window_ms"])


def _body(id_: str, standing: Standing, threshold: float, now_ms: int) -> dict[str, Any]:
    known = standing.as_json(now_ms)
    return {
        "id": id_,
        "type": "budget.threshold",
        "created": iso(now_ms),
        "budget": known["name"],
        "subject": known["subject"],
        "window": {name: value for name, value in known["window"].items() if name != "ended"},
        "mode": known["mode"],
        "threshold": threshold,
        "spent_share": round(standing.spent / standing.most, 4),
        "limit_usd": usd_text(standing.most),
        "spent_usd": known["spent_usd"],
        "held_usd": known["held_usd"],
    }
