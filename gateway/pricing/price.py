"""Unit prices of one model, compiled; usage → nano-dollars without a lookup in any library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.money import PICO_PER_NANO
from gateway.usage import KINDS, Usage

Tier = tuple[int, tuple[int, ...]]
"""(start, pico-dollars per token in the order of `usage.KINDS`)."""

_INPUT, _OUTPUT = KINDS.index("input"), KINDS.index("output")


class Price:
    """Prices of one (provider, model) by service tier, and within it by the length of the input."""

    __slots__ = ("_tiers",)

    def __init__(self, tiers: Mapping[str, Sequence[Tier]]) -> None:
        self._tiers = {name: tuple(sorted(rows, reverse=True)) for name, rows in tiers.items()}

    @classmethod
    def from_table(cls, table: Mapping[str, Sequence[tuple[int, Mapping[str, int]]]]) -> Price:
        """From the compiled policy: {"standard": [[start, {kind: pico-dollars}], …], "flex": …}."""
        return cls(
            {
                name: [(start, tuple(prices[kind] for kind in KINDS)) for start, prices in rows]
                for name, rows in table.items()
            }
        )

    def cost_nanousd(self, usage: Usage) -> int:
        """Cost of one answer; each kind is a line of the bill and every line rounds up.

        Tiers are cliffs: above a tier's start all tokens cost its rate (genai-prices
        `TieredPrices`: at a start of 200,000 the 200,001st input token reprices the whole call).
        """
        rows = self._tiers.get(usage.service_tier) or self._tiers["standard"]
        prices = rows[-1][1]
        if len(rows) > 1:
            total_input = usage.total_input
            for start, tier_prices in rows:
                if total_input > start:
                    prices = tier_prices
                    break
        if not usage.has_parts():
            return -(-usage.input * prices[_INPUT] // PICO_PER_NANO) - (
                -usage.output * prices[_OUTPUT] // PICO_PER_NANO
            )
        cost = 0
        for tokens, pico in zip(usage.by_kind(), prices, strict=True):
            cost -= -tokens * pico // PICO_PER_NANO
        return cost
