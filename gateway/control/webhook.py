"""Delivers alerts: one POST each, signed, until the receiver answers with 2xx or a day has passed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable

import aiohttp

from gateway.control.alert_file import AlertFile, Waiting
from gateway.control.standing import Table
from gateway.quota.moment import DAY_MS
from gateway.telemetry.diagnostics import report, say

ANSWER_S = 10.0
AT_ONCE = 8
FIRST_RETRY_MS = 2_000
LONGEST_RETRY_MS = 3_600_000
GIVE_UP_MS = DAY_MS
LOOK_S = 60.0
"""How often the file is looked at anyway: the clock may be set, or a policy name a receiver at last."""
SIGNATURE = "x-headgate-signature"


class Webhook:
    """Sends what waits in a file. `alerts` gives the policy's table in force {"webhook", "secret"}, None if
    there is no receiver; `now_ms` milliseconds since the epoch; `told` hears how each delivery ended."""

    def __init__(
        self,
        file: AlertFile,
        alerts: Callable[[], Table | None],
        now_ms: Callable[[], int],
        told: Callable[[bool], None] = lambda ok: None,
    ) -> None:
        self._file = file
        self._alerts = alerts
        self._now_ms = now_ms
        self._told = told
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something new in the file."""
        self._woken.set()

    async def run(self) -> None:
        """For ever."""
        timeout, no_cookies = aiohttp.ClientTimeout(total=ANSWER_S), aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=no_cookies) as http:
            while True:
                self._woken.clear()
                wait_s = LOOK_S
                try:
                    wait_s = await self._send_due(http)
                except sqlite3.Error as error:
                    report(error)
                try:
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
                except TimeoutError:
                    pass

    async def _send_due(self, http: aiohttp.ClientSession) -> float:
        """Sends what is due; seconds until something is again."""
        table = self._alerts()
        if table is None:
            return LOOK_S
        while due := await self._file.due(self._now_ms(), AT_ONCE):
            await asyncio.gather(*(self._send(http, table, alert) for alert in due))
        next_ms = await self._file.next_ms()
        return LOOK_S if next_ms is None else min(LOOK_S, max(0, next_ms - self._now_ms()) / 1000)

    async def _send(self, http: aiohttp.ClientSession, table: Table, alert: Waiting) -> None:
        why = await _post(http, table, alert, self._now_ms() // 1000)
        self._told(not why)
        now_ms = self._now_ms()
        if not why:
            await self._file.done(alert)
        elif now_ms - alert.raised_ms >= GIVE_UP_MS:
            say(f"{alert.id} was not taken for a day and is given up: {why}")
            await self._file.done(alert)
        else:
            if not alert.attempts:
                say(f"{alert.id} was not taken and is sent again for a day: {why}")
            await self._file.again(alert, now_ms + retry_ms(alert.attempts))


async def _post(http: aiohttp.ClientSession, table: Table, alert: Waiting, now_s: int) -> str:
    """Why it was not taken; "" if it was. Never says where to: the address may hold a token."""
    headers = {"content-type": "application/json", "user-agent": "headgate", "x-headgate-event-id": alert.id}
    if table["secret"]:
        headers[SIGNATURE] = signature(table["secret"], now_s, alert.body)
    try:
        async with http.post(
            table["webhook"], data=alert.body, headers=headers, allow_redirects=False
        ) as answer:
            return "" if 200 <= answer.status < 300 else f"the receiver answered {answer.status}"
    except TimeoutError:
        return f"no answer within {ANSWER_S:.0f} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f"the receiver cannot be reached ({type(error).__name__})"


def signature(secret: str, now_s: int, body: bytes) -> str:
    """The value of `x-headgate-signature`: HMAC-SHA256, in hexadecimal, of the time, a dot and the body."""
    signed = hmac.new(secret.encode(), b"%d.%b" % (now_s, body), hashlib.sha256).hexdigest()
    return f"t={now_s},v1={signed}"


def retry_ms(attempts: int) -> int:
    """How long to wait after an attempt failed, when `attempts` had failed before: 2 s, twice as long each
    time, an hour at most; a quarter of it by chance, so that many gateways do not come at once."""
    whole = min(LONGEST_RETRY_MS, FIRST_RETRY_MS << min(attempts, 20))
    return whole - secrets.randbelow(whole // 4 + 1)
