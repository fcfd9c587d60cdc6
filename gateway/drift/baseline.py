"""A reference kept by name: what answers were like on some day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.drift.layout import Counts


@dataclass(frozen=True, slots=True)
class Baseline:
    """Pinned counts: strata × bins, `keys` are the strata's places then. `config` is the hash of the policy
    that was in force. Times of day, seconds."""

    name: str
    created_s: float
    config: str
    answers: int
    keys: tuple[str, ...]
    counts: Counts

    def as_json(self) -> dict[str, Any]:
        """All but the counts."""
        return {
            "name": self.name,
            "created_s": self.created_s,
            "config": self.config,
            "answers": self.answers,
            "keys": list(self.keys),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any], counts: Counts) -> Baseline:
        """From `as_json` and the counts."""
        return cls(
            told["name"], told["created_s"], told["config"], told["answers"], tuple(told["keys"]), counts
        )

    def rows(self, keys: tuple[str, ...]) -> Counts:
        """Its counts in the order of other `keys`; a stratum that it has not is a row of zeros."""
        at = {key: place for place, key in enumerate(self.keys) if key}
        found = np.zeros((len(keys), self.counts.shape[1]), np.int32)
        for place, key in enumerate(keys):
            if key in at:
                found[place] = self.counts[at[key]]
        return found
