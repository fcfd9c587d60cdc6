"""What a call costs besides its tokens."""

from __future__ import annotations

from typing import NamedTuple


class Fees(NamedTuple):
    """Nano-dollars per call, and per web search that a call makes."""

    per_call_nanousd: int = 0
    per_search_nanousd: int = 0
