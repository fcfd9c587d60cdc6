"""A row of the usage ledger: one attempt at a provider, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One attempt. Travels as a list in this order (`Exchange.rows`)."""

    time_ms: int
    """Since the epoch, at the attempt's end."""
    request_id: str
    attempt: int
    """From 1, within the request."""
    key: str
    team: str
    model: str
    """The policy's model, as the caller named it."""
    target: str
    """`PROVIDER/MODEL`."""
    status: int
    """The provider's; 0: unknown."""
    outcome: str
    """ok, refused, failed, caller_gone, crash, …"""
    input: int
    """Tokens, like the six that follow; `usage.Usage` says what each one includes."""
    cached_input: int
    cache_write: int
    audio_input: int
    output: int
    reasoning: int
    audio_output: int
    nanousd: int | None
    """None: there is no price."""
    estimated: int
    """1: the provider said nothing, so this is assumed."""
    charges: Mapping[str, int]
    """Account → nano-dollars (`quota.contract`): the budgets that this attempt is posted to."""


TOKENS = ("input", "cached_input", "cache_write", "audio_input", "output", "reasoning", "audio_output")
"""The columns that count tokens."""
