"""Published prices, from genai-prices: its only door. Asked when policy is compiled, never during a call.

A published price is dated, may depend on the time of day (DeepSeek), on the length of the input (Gemini, long
context) and on the service tier (OpenAI). What holds at one moment becomes a table of whole pico-dollars.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from gateway.pricing.price import FEES, HOUR_WRITE, STANDARD
from gateway.usage import FAST, IN_US

PriceTable = dict[str, Any]
"""Service tier → [(start, {kind: pico-dollars per token})], and `fees`; see `price.Price.from_table`."""

_PICO_PER_TOKEN = Decimal(1_000_000)
"""US dollars per million tokens × this = pico-dollars per token."""
_NANO_PER_UNIT = Decimal(1_000_000)
"""US dollars per thousand requests or searches × this = nano-dollars for one."""

_KINDS: dict[str, tuple[str, ...]] = {
    "input": ("input_mtok",),
    "cached_input": ("cache_read_mtok", "input_mtok"),
    "cache_write": ("cache_write_mtok", "input_mtok"),
    HOUR_WRITE: ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "audio_input": ("input_audio_mtok", "input_mtok"),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok", "output_mtok"),
    "audio_output": ("output_audio_mtok", "output_mtok"),
}
"""Our kinds of tokens and the package's price keys, the most special first: what has no price of its own
costs what it is a part of, as in the package's `decompose.compute_leaf_values`."""

_TIERS = ("flex", "priority", FAST, "default")
"""Service tiers an answer may name. Those with the standard price get no entry of their own."""


_ALWAYS_SEARCHES = re.compile(r"-search-(preview|api)\b")
"""OpenAI's models that search in every call, asked to or not: what they charge for a search they charge for
every call."""


def pico_per_token(usd_per_million: Decimal) -> int:
    """Pico-dollars per token, rounded up."""
    return int((usd_per_million * _PICO_PER_TOKEN).to_integral_value(ROUND_CEILING))


class Catalogue:
    """Prices by provider and model."""

    def __init__(self, snapshot: DataSnapshot | None = None) -> None:
        self._snapshot = snapshot or get_snapshot()

    def price(
        self, provider_id: str | None, api_url: str | None, model: str, at: datetime
    ) -> PriceTable | None:
        """The price table of a model as it is at a moment; None if it is not known or not by the token.

        `provider_id` is the package's name of the provider; without one it is found by its URL.
        """
        found = self._find(provider_id, api_url, model)
        if found is None:
            return None
        provider, info = found
        standard = _table(info.get_prices(at))
        if standard is None:
            return None
        tables: PriceTable = {STANDARD: standard}
        fees = _fees(info.get_prices(at), model)
        if fees:
            tables[FEES] = fees
        if any(info is own for own in provider.models):
            for tier in _TIERS:
                special = _table(info.get_prices(at, {"service_tier": tier}))
                if special is not None and special != standard:
                    tables[tier] = special
        if provider.id == "anthropic":
            # 1.1 times all prices of tokens, says Anthropic's page of prices; the package does not know it.
            tables[IN_US] = [
                (start, {kind: -(-pico * 11 // 10) for kind, pico in prices.items()})
                for start, prices in standard
            ]
        return tables

    def context_window(self, provider_id: str | None, api_url: str | None, model: str) -> int | None:
        """Tokens that a model takes and gives in one call, as published; None if that is not known."""
        found = self._find(provider_id, api_url, model)
        return None if found is None else found[1].context_window

    def next_change(
        self, provider_id: str | None, api_url: str | None, model: str, at: datetime
    ) -> datetime | None:
        """The first moment after `at` from which the model's price may be another; None if none is known."""
        found = self._find(provider_id, api_url, model)
        if found is None:
            return None
        info = found[1]
        conditional = [] if isinstance(info.prices, ModelPrice) else info.prices
        constraints = [rule.constraint for rule in (*conditional, *(info.price_variants or ()))]
        return min(
            (moment for rule in constraints for moment in _moments(rule, at) if moment > at), default=None
        )

    def _find(
        self, provider_id: str | None, api_url: str | None, model: str
    ) -> tuple[Provider, ModelInfo] | None:
        if provider_id == "huggingface":
            # The router's names end in who serves them ("…:groq"); the package has one list for each.
            model, colon, served_by = model.rpartition(":")
            if not colon:
                return None
            provider_id = f"huggingface_{served_by}"
        if provider_id is None and api_url is None:
            return None
        try:
            return self._snapshot.find_provider_model(
                model, None, provider_id, None if provider_id else api_url
            )
        except LookupError:
            return None


def _fees(price: ModelPrice, model: str) -> dict[str, int]:
    """Nano-dollars for a call and for a search, those that are charged."""
    call, search = (
        int((amount * _NANO_PER_UNIT).to_integral_value(ROUND_CEILING)) if isinstance(amount, Decimal) else 0
        for amount in (price.requests_kcount, price.web_searches_kcount)
    )
    if _ALWAYS_SEARCHES.search(model):
        call, search = call + search, 0
    return {name: fee for name, fee in (("call", call), ("search", search)) if fee}


def _table(price: ModelPrice) -> list[tuple[int, dict[str, int]]] | None:
    """[(start, prices)] of one price, from the start 0 on; None if its input is not priced by the token."""
    values = {kind: _first(price, keys) for kind, keys in _KINDS.items()}
    if values["input"] is None:
        return None
    starts = {0}
    for value in values.values():
        if isinstance(value, TieredPrices):
            starts.update(tier.start for tier in value.tiers)
    return [(start, {kind: _at(value, start) for kind, value in values.items()}) for start in sorted(starts)]


def _first(price: ModelPrice, keys: Iterable[str]) -> Decimal | TieredPrices | None:
    for key in keys:
        value = getattr(price, key)
        if isinstance(value, Decimal | TieredPrices):
            return value
    return None


def _at(value: Decimal | TieredPrices | None, start: int) -> int:
    """Pico-dollars per token for inputs longer than `start`."""
    if isinstance(value, TieredPrices):
        amount = value.base
        for tier in value.tiers:
            # A tier that starts at 0 holds for every call that has any input: it is the base.
            if tier.start <= start:
                amount = tier.price
        return pico_per_token(amount)
    return 0 if value is None else pico_per_token(value)


def _moments(rule: StartDateConstraint | TimeOfDateConstraint | None, at: datetime) -> list[datetime]:
    """When a rule begins or ceases to hold, around the day of `at`."""
    if isinstance(rule, StartDateConstraint):
        return [datetime.combine(rule.start_date, datetime.min.time(), UTC)]
    if isinstance(rule, TimeOfDateConstraint):
        today = at.astimezone(UTC).date()
        return [
            datetime.combine(day, time if time.tzinfo else time.replace(tzinfo=UTC))
            for day in (today - timedelta(days=1), today, today + timedelta(days=1))
            for time in (rule.start_time, rule.end_time)
        ]
    return []
