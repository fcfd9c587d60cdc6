"""Prices that a policy gives, as a table in whole numbers (`pricing.price.Price.from_table`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gateway.money import NANO_PER_USD
from gateway.policy.spec import PriceSpec
from gateway.pricing.catalogue import PriceTable, pico_per_token
from gateway.pricing.price import FEES, HOUR_WRITE, STANDARD


def price_table(spec: PriceSpec) -> PriceTable:
    """The price table of an own price: what is not given costs what it is a part of."""
    dollars: Mapping[str, Any] = {
        "input": spec.input,
        "cached_input": spec.input if spec.cached_input is None else spec.cached_input,
        "cache_write": spec.input if spec.cache_write is None else spec.cache_write,
        HOUR_WRITE: spec.hour_cache_write if spec.hour_cache_write is not None else spec.cache_write,
        "audio_input": spec.input if spec.audio_input is None else spec.audio_input,
        "output": spec.output,
        "reasoning": spec.output if spec.reasoning is None else spec.reasoning,
        "audio_output": spec.output if spec.audio_output is None else spec.audio_output,
    }
    prices = {kind: pico_per_token(amount) for kind, amount in dollars.items() if amount is not None}
    table: PriceTable = {STANDARD: [(0, prices)]}
    if fees := _fees(spec):
        table[FEES] = fees
    return table


def _fees(spec: PriceSpec) -> dict[str, int]:
    """Nano-dollars per call and per search, rounded up; those that are charged."""
    return {
        name: math.ceil(usd * NANO_PER_USD)
        for name, usd in (("call", spec.per_call), ("search", spec.per_search))
        if usd
    }
