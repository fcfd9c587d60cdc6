"""Asking a target a golden prompt, through the gateway's own line, and never for more than a day's budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import aiohttp
import orjson

from gateway.control.drift.probe_file import ProbeFile
from gateway.drift.golden import Golden
from gateway.policy.probe_access import probe_model
from gateway.policy.probe_compile import most_of

DAY_S = 86_400
AT_ONCE = 4
"""Probes under way, of all suites: they are never in a hurry, and callers share the providers' limits."""
SLACK_S = 5.0


class Unasked(Exception):
    """A prompt without an answer: `result` is error, or budget if it was not sent."""

    def __init__(self, result: str, why: str) -> None:
        super().__init__(why)
        self.result = result


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer's text, and what it cost: nano-dollars, tokens."""

    text: str
    nanousd: int
    tokens: int


class DayBudget:
    """What probes may still cost today (UTC). What a call may cost at most is counted before it is sent and
    written down, so that not even a crash makes room for more."""

    def __init__(self, file: ProbeFile, now_s: Callable[[], float]) -> None:
        self._file = file
        self._now_s = now_s

    def hold(self, most: tuple[int, int], budget: Mapping[str, int]) -> int | None:
        """Counts (nano-dollars, tokens) as spent; the day it is of. None: it does not fit."""
        day = int(self._now_s() // DAY_S)
        nanousd, tokens = self._file.spent(day)
        if nanousd + most[0] > budget["nanousd"] or tokens + most[1] > budget["tokens"]:
            return None
        self._file.keep_spent(day, nanousd + most[0], tokens + most[1])
        return day

    def settle(self, day: int, most: tuple[int, int], spent: tuple[int, int]) -> None:
        """What a call did cost, instead of the most it could have."""
        nanousd, tokens = self._file.spent(day)
        self._file.keep_spent(day, nanousd - most[0] + spent[0], tokens - most[1] + spent[1])

    def spent(self) -> tuple[int, int]:
        """Today, (nano-dollars, tokens)."""
        return self._file.spent(int(self._now_s() // DAY_S))


class ProbeCalls:
    """Calls of the gateway at `url` by the key of probes."""

    def __init__(self, url: str, key: str, budget: DayBudget) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._budget = budget
        self._room = asyncio.Semaphore(AT_ONCE)
        self._http: aiohttp.ClientSession | None = None

    async def ask(
        self, prompt: Golden, suite: Mapping[str, Any], subject: Mapping[str, Any], budget: Mapping[str, int]
    ) -> Answered:
        """One prompt to one target. Raises `Unasked`."""
        async with self._room:
            most = most_of(prompt, subject)
            day = self._budget.hold(most, budget)
            if day is None:
                raise Unasked("budget", "the day's budget of probes is spent")
            try:
                answered = await self._call(
                    _body(prompt, suite, subject), subject["timeout_s"] + SLACK_S, most
                )
            except _Refused as error:
                self._budget.settle(day, most, (0, 0))
                raise Unasked("error", str(error)) from None
            # Of a call of which nothing is known, the most it can have cost stays counted.
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise Unasked("error", f"no answer: {type(error).__name__}") from None
            self._budget.settle(day, most, (answered.nanousd, answered.tokens))
            return answered

    async def _call(self, body: bytes, within_s: float, most: tuple[int, int]) -> Answered:
        if self._http is None:
            self._http = aiohttp.ClientSession()
        async with (
            asyncio.timeout(within_s),
            self._http.post(self._url, data=body, headers=self._headers) as answer,
        ):
            told = await answer.read()
            if 400 <= answer.status < 500:
                raise _Refused(_why(answer.status, told))
            if answer.status != 200:
                raise Unasked("error", _why(answer.status, told))
            return _answered(told, answer.headers.get("x-headgate-cost-usd", ""), most)

    async def close(self) -> None:
        """Ends its connections."""
        if self._http is not None:
            await self._http.close()


class _Refused(Exception):
    """Nobody answered, and nobody is paid."""


def _body(prompt: Golden, suite: Mapping[str, Any], subject: Mapping[str, Any]) -> bytes:
    reasons = subject["target"]["reasoning"]
    fields: dict[str, Any] = {
        "model": probe_model(subject["target"]["name"]),
        "messages": prompt.messages,
        "max_completion_tokens" if reasons else "max_tokens": subject["cap"],
        "seed": suite["seed"],
    }
    if not reasons:
        fields["temperature"] = suite["temperature"]
    return orjson.dumps(fields)


def _answered(body: bytes, cost: str, most: tuple[int, int]) -> Answered:
    try:
        told = orjson.loads(body)
        message = told["choices"][0]["message"]
        text = message.get("content") or message.get("refusal") or ""
        tokens = (told.get("usage") or {}).get("total_tokens")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Unasked("error", "what came is no answer") from None
    if not isinstance(text, str):
        raise Unasked("error", "what came is no text")
    try:
        nanousd = int(Decimal(cost) * 10**9)
    except InvalidOperation:
        nanousd = most[0]
    return Answered(text, nanousd, tokens if isinstance(tokens, int) and tokens >= 0 else most[1])


def _why(status: int, body: bytes) -> str:
    try:
        message = orjson.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = ""
    return f"{status} {message}".strip()[:200]
