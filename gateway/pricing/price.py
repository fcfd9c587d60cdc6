"""Unit prices of one model, compiled; usage → nano-dollars without a lookup in any library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.money import PICO_PER_NANO
from gateway.usage import IN_US, KINDS, Usage

Tier = tuple[int, tuple[int, ...]]
"""(start, pico-dollars per token in the order of `usage.KINDS`, and of `HOUR_WRITE` if that is another)."""

HOUR_WRITE = "hour_cache_write"
"""The price of what is written to a cache for an hour: no kind of its own, but a part of `cache_write`."""

STANDARD, FEES = "standard", "fees"
"""Entries of a price table that are no service tier an answer names: the prices of every tier that has none
of its own, and what is charged by the call."""

_INPUT, _OUTPUT = KINDS.index("input"), KINDS.index("output")
_WRITE, _HOUR_WRITE = KINDS.index("cache_write"), len(KINDS)
_OF_INPUT = ("input", "cached_input", "cache_write", "audio_input", HOUR_WRITE)
_KEYS = (*KINDS, HOUR_WRITE)
_OF_OUTPUT = ("output", "reasoning", "audio_output")
_SHORT_PICO = PICO_PER_NANO - 1
"""What a line of a bill gains at most when it is rounded up to the next nano-dollar."""


class Worst(NamedTuple):
    """The dearest that a call's tokens may cost: an upper bound of `Price.cost_nanousd`, to be held."""

    input_pico: int
    """Pico-dollars per input token, whatever its kind."""
    output_pico: int
    """Pico-dollars per output token, whatever its kind."""
    fee_nanousd: int = 0
    input_rounding: int = 0
    """Pico-dollars that the lines of its input gain at most by being rounded up; 0 for what costs nothing: a
    free model is free, also when a budget is spent."""
    output_rounding: int = 0

    @classmethod
    def of(cls, input_pico: int, output_pico: int, input_lines: int = len(_OF_INPUT) - 1) -> Worst:
        """With the roundings of these prices. `input_lines`: kinds of input that are lines of a bill."""
        return cls(
            input_pico,
            output_pico,
            0,
            input_lines * _SHORT_PICO if input_pico else 0,
            len(_OF_OUTPUT) * _SHORT_PICO if output_pico else 0,
        )

    def nanousd(self, input_tokens: int, output_tokens: int) -> int:
        """No usage of at most so many tokens costs more.

        n lines that round up are at most (sum + 999 n) // 1000 nano-dollars, since their sum is whole.
        """
        pico = input_tokens * self.input_pico + output_tokens * self.output_pico + self.input_rounding
        if output_tokens:
            pico += self.output_rounding
        return pico // PICO_PER_NANO + self.fee_nanousd

    def output_for(self, nanousd: int, input_tokens: int) -> int | None:
        """The most output tokens with which `nanousd(input_tokens, …)` is within an amount; None if not
        even the input is. Where output costs nothing, `UNLIMITED`."""
        if self.nanousd(input_tokens, 0) > nanousd:
            return None
        if not self.output_pico:
            return UNLIMITED
        room = (nanousd - self.fee_nanousd) * PICO_PER_NANO + _SHORT_PICO
        room -= input_tokens * self.input_pico + self.input_rounding + self.output_rounding
        return max(0, room // self.output_pico)


UNLIMITED = 2**62
"""More tokens than there are; a multiple of it by a price still is a number that Python handles."""


class Price:
    """Prices of one (provider, model) by service tier, and within it by the length of the input."""

    __slots__ = ("_call_nanousd", "_search_nanousd", "_tiers", "_worst", "usual")

    def __init__(
        self, tiers: Mapping[str, Sequence[Tier]], *, call_nano: int = 0, search_nano: int = 0
    ) -> None:
        self._tiers = {
            name: tuple(sorted(((start, _with_hour(prices)) for start, prices in rows), reverse=True))
            for name, rows in tiers.items()
        }
        self._call_nanousd = call_nano
        self._search_nanousd = search_nano
        self._worst: dict[tuple[str, bool], tuple[tuple[int, Worst], ...]] = {}
        for has_audio in (False, True):
            self._worst["", has_audio] = self._dearest(self._tiers, has_audio=has_audio)
            for tier in {"default", *self._tiers} - {STANDARD}:
                # A pinned tier may be answered from the standard one (OpenAI: when a faster one is full).
                may_be = self._tiers.keys() & {tier, "default", STANDARD, IN_US}
                self._worst[tier, has_audio] = self._dearest(may_be, has_audio=has_audio)
        self.usual = self.worst(0, has_audio=False) if len(self._worst["", False]) == 1 else None
        """The dearest prices of a call that has no audio, pins no tier and asks for no search, if its length
        does not matter."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Price:
        """From the compiled policy: {"standard": [[start, {kind: pico-dollars}], …], "flex": …}, and what
        does not go by tokens: "fees": {"call": nano-dollars, "search": nano-dollars}."""
        fees = table.get(FEES) or {}
        return cls(
            {
                name: [
                    (start, tuple(prices[kind] for kind in _KEYS if kind in prices)) for start, prices in rows
                ]
                for name, rows in table.items()
                if name != FEES
            },
            call_nano=fees.get("call", 0),
            search_nano=fees.get("search", 0),
        )

    def has_tier(self, name: str) -> bool:
        """True if there are prices of this tier's own."""
        return name in self._tiers

    def worst(
        self, input_tokens: int, *, has_audio: bool = True, service_tier: object = "", searches: int = 0
    ) -> Worst:
        """The dearest prices that may apply to a call of at most so many input tokens.

        Over all kinds of tokens (of audio only if `has_audio`), all lengths up to `input_tokens`, and all
        service tiers, unless the call pins one (`service_tier`: "default", "flex", …; whatever else stands in
        a body pins none). One lookup.
        """
        pinned = service_tier if type(service_tier) is str else ""
        rows = self._worst.get((pinned, has_audio)) or self._worst["", has_audio]
        prices = rows[-1][1]
        if len(rows) > 1:
            for start, dearest in rows:
                if input_tokens > start:
                    prices = dearest
                    break
        fee = self._call_nanousd + searches * self._search_nanousd
        return prices._replace(fee_nanousd=fee) if fee else prices

    def _dearest(self, names: Iterable[str], *, has_audio: bool) -> tuple[tuple[int, Worst], ...]:
        """[(start, what may apply to inputs longer than it)], longest first; the last holds for all."""
        tiers = [self._tiers[name] for name in names]
        starts = sorted({start for rows in tiers for start, _ in rows[:-1]})
        return tuple((start, _most(tiers, start, has_audio)) for start in reversed([-1, *starts]))

    def cost_nanousd(self, usage: Usage) -> int:
        """Cost of one answer; each kind is a line of the bill and every line rounds up, fees come on top.

        Tiers are cliffs: above a tier's start all tokens cost its rate (genai-prices
        `TieredPrices`: at a start of 200,000 the 200,001st input token reprices the whole call).
        """
        rows = self._tiers.get(usage.service_tier) or self._tiers[STANDARD]
        prices = rows[-1][1]
        if len(rows) > 1:
            total_input = usage.total_input
            for start, tier_prices in rows:
                if total_input > start:
                    prices = tier_prices
                    break
        cost = self._call_nanousd
        if usage.searches:
            cost += usage.searches * self._search_nanousd
        if not usage.has_parts():
            cost -= -usage.input * prices[_INPUT] // PICO_PER_NANO
            return cost - (-usage.output * prices[_OUTPUT] // PICO_PER_NANO)
        lines: tuple[int, ...] = usage.by_kind()
        if usage.hour_cache_write and prices[_HOUR_WRITE] != prices[_WRITE]:
            longer = min(usage.hour_cache_write, usage.cache_write)
            lines = (*lines[:_WRITE], usage.cache_write - longer, *lines[_WRITE + 1 :], longer)
        for tokens, pico in zip(lines, prices, strict=False):
            cost -= -tokens * pico // PICO_PER_NANO
        return cost


def _with_hour(prices: tuple[int, ...]) -> tuple[int, ...]:
    return prices if len(prices) > len(KINDS) else (*prices, prices[_WRITE])


def _most(tiers: Iterable[Sequence[Tier]], start: int, has_audio: bool) -> Worst:
    """The dearest of all rows that begin at or below `start`, and of those that hold from nothing on."""
    input_pico = output_pico = 0
    input_lines = len(_OF_INPUT) - 1
    for rows in tiers:
        for begin, prices in rows:
            if begin <= start or begin == rows[-1][0]:
                by_kind = dict(zip(_KEYS, prices, strict=True))
                if not has_audio:
                    del by_kind["audio_input"], by_kind["audio_output"]
                if by_kind[HOUR_WRITE] != by_kind["cache_write"]:
                    input_lines = len(_OF_INPUT)
                input_pico = max(input_pico, *(by_kind.get(kind, 0) for kind in _OF_INPUT))
                output_pico = max(output_pico, *(by_kind.get(kind, 0) for kind in _OF_OUTPUT))
    return Worst.of(input_pico, output_pico, input_lines)
