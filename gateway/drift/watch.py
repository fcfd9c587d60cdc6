"""One detector and what it has found: learning, watching, or standing at an alarm until told to go on."""

from __future__ import annotations

import numpy as np

from gateway.drift.detector import Detector
from gateway.drift.layout import Counts
from gateway.drift.verdict import Finding, Level, Rules, find

_EACH = 1.05
"""A suspicion is measured again when so many times more answers have come since the change: it costs 1 ms."""


class Watch:
    """After an alarm the reference is what it was before the change, and answers gather in `candidate` until
    `accept` makes them the reference. So what stands beside each other stays before and after."""

    def __init__(self, detector: Detector, rules: Rules) -> None:
        self.detector, self.rules = detector, rules
        self.stands = False
        """True from an alarm until `accept` or `dismiss`."""
        self.candidate: Counts = np.zeros_like(detector.counts)
        """Answers since the change: strata × bins."""
        self.candidates: Counts = np.zeros_like(detector.references)
        self.finding = Finding(Level.LEARNING, 0.0)
        """As measured last."""
        self.next = 0.0

    def take(self, told: bytes, stratum: int, draw: float, at_s: float, output: int) -> Finding | None:
        """One answer, as `Detector.take`. Returns the finding that is an alarm, once."""
        if self.stands:
            self._gather(told, stratum)
            return None
        detector = self.detector
        if not detector.take(told, stratum, draw, at_s, output):
            if detector.is_armed and self.finding.level is Level.LEARNING:
                self.finding = Finding(Level.OK, 0.0)
            return None
        evidence = detector.evidence
        if evidence < self.rules.notice_arl:
            if self.finding.level is not Level.OK:
                self.next = 0.0
            self.finding = Finding(Level.OK, evidence)
            return None
        if detector.judged < self.next:
            return None
        finding = self.finding = find(detector, self.rules)
        self.next = detector.judged + (_EACH - 1) * finding.answers
        if finding.level is not Level.DRIFT:
            return None
        self.stands = True
        self.candidate, self.candidates = detector.take_back(finding.since)
        return finding

    def _gather(self, told: bytes, stratum: int) -> None:
        layout = self.detector.layout
        bins, is_told = layout.bins(told)
        places = layout.first + bins
        self.candidate[stratum, places if is_told is None else places[is_told]] += 1
        self.candidates[stratum] += 1

    @property
    def level(self) -> Level:
        """What stands."""
        return Level.DRIFT if self.stands else self.finding.level

    def forget(self, stratum: int) -> None:
        """A stratum's place went to another."""
        self.detector.forget(stratum)
        self.candidate[stratum] = 0
        self.candidates[stratum] = 0

    def accept(self) -> None:
        """What came since the change is the reference from now on."""
        if self.stands:
            self._go_on(self.candidate.copy(), self.candidates.copy())

    def dismiss(self) -> None:
        """The reference stays what it was before."""
        if self.stands:
            self._go_on(self.detector.counts.copy(), self.detector.references.copy())

    def start_over(self) -> None:
        """Nothing is known: learning begins."""
        self._go_on(np.zeros_like(self.candidate), np.zeros_like(self.candidates))

    def _go_on(self, counts: Counts, answers: Counts) -> None:
        self.detector.start_over(counts, answers)
        self.stands, self.next = False, 0.0
        self.candidate[:], self.candidates[:] = 0, 0
        self.finding = Finding(Level.OK if self.detector.is_armed else Level.LEARNING, 0.0)
