"""What evidence and effect amount to: nothing, a notice, an alarm; and what moved.

The evidence decides how often false alarms come, and it alone; the effect, whether anybody would care.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import log10

import numpy as np

from gateway.drift.detector import Detector
from gateway.drift.effect import Effects, effects
from gateway.drift.layout import Layout
from gateway.drift.start import began

TOLD = 5
"""Channels that are told of: those that moved most, of those that are likely to have moved."""
LIKELY = 100.0
"""The evidence of such a channel."""
EXEMPLARS = 5


class Level(IntEnum):
    """The value of `headgate_drift_state`."""

    OFF = 0
    LEARNING = 1
    OK = 2
    NOTICE = 3
    DRIFT = 4


@dataclass(frozen=True, slots=True)
class Rules:
    """When to speak. An ARL is the mean number of answers between two false ones, at least.

    `min_effect` is on the scale of 0 to 1, `min_rate_change` of a critical rate's share; both are asked of
    `min_post_change` answers since the change, or of fewer if the effect is beyond doubt.
    """

    notice_arl: float = 1e4
    alarm_arl: float = 2e6
    min_effect: float = 0.08
    min_rate_change: float = 0.03
    min_post_change: int = 50


@dataclass(frozen=True, slots=True)
class Moved:
    """One channel, before and since. `before` and `after` are means: of a number in its unit, of a rate its
    share, of a kind the share of `cell`, the kind that moved most."""

    channel: str
    evidence: float
    effect: float
    before: float
    after: float
    cell: str = ""
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands of one stream now. `since` is on the detector's clock, `since_s` a time of day, both of the
    first answer after the change; `answers` have come since. Empty `moved`: nothing worth a look."""

    level: Level
    evidence: float
    since: float = 0.0
    since_s: float = 0.0
    answers: int = 0
    moved: tuple[Moved, ...] = ()
    outputs: tuple[int, ...] = ()
    """What the latest of them are known by."""


def find(detector: Detector, rules: Rules) -> Finding:
    """The level, and from a notice on what moved, largest effect first."""
    if not detector.is_armed:
        return Finding(Level.LEARNING, 0.0)
    evidence = detector.evidence
    if evidence < rules.notice_arl:
        return Finding(Level.OK, evidence)
    roughly = detector.changed_at()
    _, moved = _widest(detector, roughly, rules)
    names = [channel.channel for channel in moved[:TOLD]]
    since = began(detector, roughly, [detector.layout.names.index(name) for name in names])
    measured, moved = _widest(detector, since, rules)
    is_alarm = evidence >= rules.alarm_arl and any(channel.passes for channel in moved)
    recent = detector.recent
    after = recent.after(since)
    return Finding(
        Level.DRIFT if is_alarm else Level.NOTICE,
        evidence,
        since,
        float(recent.at_s[after[0]]) if after.size else 0.0,
        measured.answers,
        moved[:TOLD],
        tuple(int(output) for output in recent.output[after[-EXEMPLARS:]]),
    )


def _widest(detector: Detector, since: float, rules: Rules) -> tuple[Effects, tuple[Moved, ...]]:
    """What moved since then, in all of the traffic or in the stratum where it is largest."""
    measured = effects(detector, since)
    moved = _moved(detector, measured, rules)
    for stratum in _suspects(detector, rules):
        # A change in a tenth of the traffic is a tenth of its size in all of it.
        own = effects(detector, since, stratum=stratum)
        there = _moved(detector, own, rules)
        if _size(there) > _size(moved):
            measured, moved = own, there
    return measured, moved


def decades(evidence: float) -> float:
    """Evidence as its decimal logarithm, 0 for less than 1."""
    return log10(evidence) if evidence > 1 else 0.0


def _suspects(detector: Detector, rules: Rules) -> list[int]:
    """The strata whose own accounts alone would be a notice, if not all of the traffic is in one."""
    own = detector.by_stratum() / 2
    return [int(place) for place in np.flatnonzero(own >= rules.notice_arl)] if len(own) > 1 else []


def _size(moved: tuple[Moved, ...]) -> tuple[bool, float]:
    return any(channel.passes for channel in moved), moved[0].effect if moved else 0.0


def _moved(detector: Detector, measured: Effects, rules: Rules) -> tuple[Moved, ...]:
    by_channel = detector.by_channel()
    likely = [int(channel) for channel in np.flatnonzero(by_channel >= LIKELY)]
    found = [
        describe(detector.layout, measured, channel, float(by_channel[channel]), rules) for channel in likely
    ]
    # What made the evidence may set off an alarm; what is largest of all that moved is named first.
    return tuple(sorted(found, key=lambda moved: (-moved.effect, -moved.evidence)))


def describe(layout: Layout, measured: Effects, channel: int, evidence: float, rules: Rules) -> Moved:
    """One channel's change in numbers."""
    told = layout.channels[channel]
    first, size = int(layout.first[channel]), told.bins
    before, after = measured.before[first : first + size], measured.after[first : first + size]
    cell = ""
    if told.kind == "nominal":
        most = int(np.argmax(np.abs(after - before)))
        cell, from_, to = told.cells[most], float(before[most]), float(after[most])
    else:
        middles = np.array([told.middle(index) for index in range(size)])
        from_, to = float(before @ middles), float(after @ middles)
    sure = float(measured.sure[channel])
    enough = measured.answers >= rules.min_post_change
    passes = float(measured.least[channel]) >= rules.min_effect or (enough and sure >= rules.min_effect)
    if evidence < rules.notice_arl:
        passes = False
    elif told.critical and enough and not passes:
        is_doubled = sure > 0 and not 0.5 < (to + 1e-9) / (from_ + 1e-9) < 2
        passes = sure >= rules.min_rate_change or is_doubled
    return Moved(told.name, evidence, float(measured.size[channel]), from_, to, cell, passes)
