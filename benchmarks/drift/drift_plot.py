"""The table as a picture: how soon each method finds a change against how often it finds one that is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from drift_bench import Row

_NEVER = 2_000.0
_MARKS = ("o", "s", "^", "D", "v")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Writes a PNG: one mark per change and method, false alarms of a million answers across."""
    alarms: dict[str, list[int]] = {}
    for row in rows:
        if row.answers:
            known = alarms.setdefault(row.method, [0, 0])
            known[0] += row.false_alarms
            known[1] += row.answers
    figure, axes = plt.subplots(figsize=(8, 5), dpi=120)
    random = np.random.default_rng(0)
    for mark, method in zip(_MARKS, dict.fromkeys(row.method for row in rows), strict=False):
        false, answers = alarms.get(method, [0, 1])
        across = max(false / answers * 1e6, 1.0)
        delays = [
            min(row.median, _NEVER) if row.found else _NEVER
            for row in rows
            if not row.answers and row.method == method
        ]
        spread = across * np.exp(random.normal(0, 0.06, len(delays)))
        axes.scatter(spread, delays, marker=mark, label=method, alpha=0.75)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("false alarms in a million answers (1 or fewer at the left edge)")
    axes.set_ylabel("answers from the change to the alarm, median")
    axes.axhline(_NEVER, color="grey", linewidth=0.6)
    axes.text(1.1, _NEVER * 1.05, "not found", color="grey", fontsize=8)
    axes.set_title("Finding changed answers: each mark is a real change")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
