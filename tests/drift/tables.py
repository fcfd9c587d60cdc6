"""Small tables of channels, and answers drawn by known laws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gateway.drift.channel import nominal, number, rate
from gateway.drift.layout import Layout
from gateway.drift.sample import Sample
from gateway.drift.stream import Tables

ANSWERS = Layout(
    [
        *(number(f"size_{index}", "how long", "", range(1, 24)) for index in range(4)),
        nominal("word", "how it begins", [str(index) for index in range(32)]),
        rate("refusal", "says no", critical=True),
        rate("bold", "has bold words"),
    ]
)
ASKED = Layout([number("asked", "how long", "", range(1, 24)), nominal("kind", "which", "0123456789")])
SPEED = Layout([number("first_token_ms", "how soon", "ms", range(1, 24))])
TABLES = Tables(ANSWERS, ASKED, SPEED)


class Law:
    """What a model answers, as numbers: every call draws another answer."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.at_s = 0.0

    def answers(
        self,
        count: int,
        *,
        shift: float = 0.0,
        refusals: float = 0.04,
        kinds: tuple[float, ...] = (1.0,),
        shifted_kind: int | None = None,
        slow: float = 0.0,
    ) -> Iterator[Sample]:
        """`kinds` are the shares of kinds of prompts, whose answers differ by 3 bins from one to the next.
        `shift` moves the sizes by so many bins, of one kind of prompts if `shifted_kind` names it."""
        random = self.random
        for _ in range(count):
            self.at_s += 1.0
            kind = int(random.choice(len(kinds), p=kinds))
            by = shift if shifted_kind in (None, kind) else 0.0
            sizes = np.clip(random.normal(8 + 3 * kind + by, 3, 4), 0, 23).astype(np.uint8)
            word = min(int(random.geometric(0.2)) - 1, 31)
            yield Sample(
                at_s=self.at_s,
                stratum=1000 + kind,
                prompt=int(random.integers(1 << 62)),
                output=int(random.integers(1 << 62)),
                answer=bytes([*sizes, word, random.random() < refusals, random.random() < 0.3]),
                asked=bytes([int(random.integers(4, 20)), kind]),
                performance=bytes([int(np.clip(random.normal(10 + slow, 2), 0, 23))]),
            )
