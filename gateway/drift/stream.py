"""One stream: the answers of one target to one model's callers, judged as they come.

Four things are watched apart: the answers, what was asked (so that a change of both is called one), how fast
it was, and who says that it answered. Only the answers raise alarms of drift; speed has its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from gateway.drift.alarm import Alarm, Cause, alarm_of
from gateway.drift.baseline import Baseline
from gateway.drift.channel import NOT_TOLD
from gateway.drift.creep import Creep
from gateway.drift.detector import Detector, Growth
from gateway.drift.effect import effects
from gateway.drift.identity import Change, Identity
from gateway.drift.layout import Layout
from gateway.drift.repeats import Repeats
from gateway.drift.sample import Sample
from gateway.drift.strata import Strata
from gateway.drift.verdict import EXEMPLARS, Finding, Level, Rules, decades, describe
from gateway.drift.watch import Watch

_FEW = 512
"""Answers on which a change of speed, or of what is asked, is measured."""
_SLACK_S = 60.0
_ATTENTION = 1000.0
"""Staked on a change of answers when another model or build is named: as by a thousand answers."""
NEVER_S = float("-inf")


@dataclass(frozen=True, slots=True)
class Tables:
    """The channels of answers, of what was asked, of speed."""

    answers: Layout
    asked: Layout
    performance: Layout


@dataclass(frozen=True, slots=True)
class Settings:
    """What a policy says of a stream. `seed` makes the breaking of ties repeatable; `rebaseline` is after how
    many answers a standing alarm becomes the new reference by itself (0: never)."""

    growth: Growth = field(default_factory=Growth)
    rules: Rules = field(default_factory=Rules)
    strata: int = 16
    dedupe_window: int = 200
    rebaseline: int = 0
    seed: int = 0
    pins_itself: bool = True
    """Whether a full reference is pinned as the baseline `auto`."""
    disabled: frozenset[str] = frozenset()


class Stream:
    """The state of one (model, target). `take` is all that is done per answer."""

    def __init__(self, model: str, target: str, tables: Tables, settings: Settings) -> None:
        self.name = (model, target)
        self.tables, self.settings = tables, settings
        places = settings.strata + 1
        growth, rules = settings.growth, settings.rules
        self.strata = Strata(settings.strata)
        self.repeats = Repeats(places, settings.dedupe_window)
        self.answers = Watch(Detector(tables.answers, places, growth), rules)
        self.performance = Watch(Detector(tables.performance, places, growth, _FEW), rules)
        self.asked = Detector(tables.asked, 1, growth, _FEW)
        self.identity = Identity()
        self.creep = Creep(tables.answers, places, rules.min_effect, rules.alarm_arl)
        self.baselines: dict[str, Baseline] = {}
        """By name; the one pinned last is what `creep` tests against."""
        self.taken = 0
        self.skipped: dict[str, int] = {}
        self.changes: deque[Change] = deque(maxlen=16)
        """Of identity, the latest last."""
        self.asked_at_s: deque[tuple[float, float]] = deque(maxlen=16)
        """When what was asked changed, and when that was seen."""
        self.probed_at_s = NEVER_S
        """When probes last saw a change."""
        self.alarm: Alarm | None = None
        """The alarm that stands."""
        self.slow: Alarm | None = None
        """The same of `performance`."""
        self.alarms: dict[str, int] = {}
        """Cause → how many there were."""
        self._mute = [index for index, name in enumerate(tables.answers.names) if name in settings.disabled]

    def take(self, sample: Sample) -> list[Alarm]:
        """One answer; the alarms that it sets off. ValueError: it was made by other tables of channels."""
        for told, layout in (
            (sample.answer, self.tables.answers),
            (sample.asked, self.tables.asked),
            (sample.performance, self.tables.performance),
        ):
            layout.bins(told)
        place = self._place(sample.stratum)
        reason = self.repeats.reason(place, sample.prompt, sample.output)
        if reason:
            self.skipped[reason] = self.skipped.get(reason, 0) + 1
            return []
        self.taken += 1
        draw = draw_of(self.settings.seed, sample)
        self._ask(sample, draw)
        found = self._answer(self._audible(sample.answer), place, draw, sample)
        paced = self.performance.take(sample.performance, place, draw, sample.at_s, sample.output)
        if paced is not None:
            self.slow = alarm_of(paced, "performance", self.name, sample.at_s, self.taken, "model", (), ())
            found.append(self.slow)
        rebaseline = self.settings.rebaseline
        if rebaseline and self.answers.candidates.sum() >= rebaseline:
            self.answers.accept()
            self.alarm, self.baselines = None, {}
        if rebaseline and self.performance.candidates.sum() >= rebaseline:
            self.performance.accept()
            self.slow = None
        return found

    def _place(self, key: int) -> int:
        place, is_new = self.strata.place(key)
        if is_new:
            self.answers.forget(place)
            self.performance.forget(place)
            self.repeats.forget(place)
        return place

    def _answer(self, told: bytes, place: int, draw: float, sample: Sample) -> list[Alarm]:
        finding = self.answers.take(told, place, draw, sample.at_s, sample.output)
        if finding is not None:
            self.alarm = self._alarm(finding, sample.at_s)
            self.alarms[self.alarm.cause] = self.alarms.get(self.alarm.cause, 0) + 1
            return [self.alarm]
        if self.alarm is not None:
            return []
        if not self.baselines:
            if self.settings.pins_itself and self.answers.detector.reference >= self.settings.growth.grow_to:
                self.pin("auto", "", sample.at_s)
            return []
        crept = self.creep.take(told, place, self.keys(), next(reversed(self.baselines.values())))
        return [] if crept is None else [self._crept(crept, sample.at_s)]

    def _audible(self, told: bytes) -> bytes:
        """An answer without the channels that the policy disables."""
        if not self._mute:
            return told
        heard = bytearray(told)
        for index in self._mute:
            heard[index] = NOT_TOLD
        return bytes(heard)

    def _ask(self, sample: Sample, draw: float) -> None:
        """What was asked, in one stratum: there the mix itself is what is watched."""
        asked = self.asked
        if (
            asked.take(sample.asked, 0, draw, sample.at_s)
            and asked.evidence >= self.settings.rules.notice_arl
        ):
            since = asked.recent.after(asked.changed_at())[:1]
            since_s = float(asked.recent.at_s[since[0]]) if since.size else sample.at_s
            self.asked_at_s.append((since_s, sample.at_s))
            # The new mix is the reference from here on: against the old one it would be found again.
            asked.start_over(*asked.take_back(asked.changed_at()))

    def see(self, field: str, value: str, at_s: float) -> Change | None:
        """Who a response says that it is from; the change, if it is one. It is no alarm, but a change of
        answers that begins with it is seen three decades of evidence sooner."""
        change = self.identity.see(field, value, at_s)
        if change is not None:
            self.changes.append(change)
            if not self.answers.stands:
                self.answers.detector.attend(_ATTENTION)
        return change

    def probed(self, at_s: float) -> None:
        """Probes saw this target change."""
        self.probed_at_s = max(self.probed_at_s, at_s)

    def keys(self) -> tuple[str, ...]:
        """The strata's keys by place, as text; "" for a place that nobody has."""
        held = {place: f"{key:016x}" for key, place in self.strata.places.items()}
        return (*(held.get(place, "") for place in range(self.strata.most)), "other")

    def pin(self, name: str, config: str, at_s: float) -> Baseline:
        """Keeps the reference by a name, as what answers are compared with from now on."""
        detector = self.answers.detector
        self.baselines.pop(name, None)
        self.baselines[name] = pinned = Baseline(
            name, at_s, config, detector.reference, self.keys(), detector.counts.copy()
        )
        self.creep.start_over()
        return pinned

    def accept(self) -> None:
        """The standing alarms are how things are from now on; baselines are of what was."""
        if self.alarm is not None:
            self.baselines = {}
        self.answers.accept()
        self.performance.accept()
        self.alarm = self.slow = None

    def start_over(self) -> None:
        """All references are learnt anew."""
        self.answers.start_over()
        self.performance.start_over()
        self.asked.start_over(self.asked.counts * 0, self.asked.references * 0)
        self.baselines = {}
        self.creep.start_over()
        self.alarm = self.slow = None

    @property
    def level(self) -> Level:
        """Of the answers."""
        return Level.DRIFT if self.alarm is not None else self.answers.level

    def _alarm(self, finding: Finding, at_s: float) -> Alarm:
        detector = self.answers.detector
        held = {place: key for key, place in self.strata.places.items()}
        by_stratum = detector.by_stratum()
        strong = sorted(
            (place for place in range(len(by_stratum)) if by_stratum[place] > 1),
            key=lambda place: -by_stratum[place],
        )
        strata = tuple(
            (f"{held[place]:016x}" if place in held else "other", decades(float(by_stratum[place])))
            for place in strong[:EXEMPLARS]
        )
        return alarm_of(
            finding,
            "answers",
            self.name,
            at_s,
            self.taken,
            self._cause(finding.since_s, at_s),
            strata,
            tuple(f"{output:016x}" for output in finding.outputs),
        )

    def _crept(self, channel: int, at_s: float) -> Alarm:
        """The alarm that answers have left the pinned baseline, slowly."""
        baseline = next(reversed(self.baselines.values()))
        detector, rules = self.answers.detector, self.settings.rules
        measured = effects(detector, 0, baseline=baseline.rows(self.keys()))
        evidence = float(np.exp(self.creep.log_e[channel]))
        moved = describe(self.tables.answers, measured, channel, evidence, rules)
        finding = Finding(Level.DRIFT, evidence, 0.0, baseline.created_s, measured.answers, (moved,))
        cause = self._cause(baseline.created_s, at_s)
        self.creep.start_over()
        self.alarm = alarm_of(finding, "creep", self.name, at_s, self.taken, cause, (), (), baseline.name)
        return self.alarm

    def _cause(self, since_s: float, at_s: float) -> Cause:
        """By what else happened since the change, or as long before it as it is old."""
        early_s = since_s - max(_SLACK_S, at_s - since_s)
        asks = self.asked.evidence >= self.settings.rules.notice_arl
        if asks or any(seen_s >= early_s for _, seen_s in self.asked_at_s):
            return "mixed"
        if self.probed_at_s >= early_s:
            return "confirmed"
        if any(change.at_s >= early_s for change in self.changes):
            return "fingerprint"
        return "model"


def draw_of(seed: int, sample: Sample) -> float:
    """The number that breaks the ties of one answer, from [0, 1): it depends on the answer's hashes and time
    and on nothing before it, so a replay draws the same in any order."""
    told = b"%d %d %d %d" % (seed, sample.prompt, sample.output, int(sample.at_s * 1e6))
    return int.from_bytes(blake2b(told, digest_size=8).digest()) / 2.0**64
