"""Which share of calls becomes traces, where a policy does not say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """`ratio` of calls, 0 to 1. `parent_based`: a caller that sends traceparent decides instead."""

    ratio: float = 0.1
    parent_based: bool = True
