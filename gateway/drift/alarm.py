"""An alarm: what changed, from what to what, since when, and what it may come of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

from gateway.drift.verdict import Finding, Moved, decades

Cause = Literal["model", "mixed", "fingerprint", "confirmed"]
"""mixed: what was asked changed at the same time; confirmed: probes say so too; fingerprint: the provider
named another model or build; model: none of these, so the model or what it is run on."""
Kind = Literal["answers", "performance", "creep"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One change, told once. Times are of the day, seconds; `evidence` is a decimal logarithm.

    `strata` are the keys of prompts it was seen in and their evidence, strongest first; `exemplars` keyed
    hashes of answers since.
    """

    id: str
    kind: Kind
    model: str
    target: str
    at_s: float
    since_s: float
    answers: int
    evidence: float
    cause: Cause
    moved: tuple[Moved, ...]
    strata: tuple[tuple[str, float], ...] = ()
    exemplars: tuple[str, ...] = ()
    baseline: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Alarm:
        """From `as_json`."""
        moved = tuple(Moved(**channel) for channel in told["moved"])
        strata = tuple((str(key), float(evidence)) for key, evidence in told["strata"])
        return cls(**{**told, "moved": moved, "strata": strata, "exemplars": tuple(told["exemplars"])})


def alarm_of(
    finding: Finding,
    kind: Kind,
    name: tuple[str, str],
    at_s: float,
    number: int,
    cause: Cause,
    strata: tuple[tuple[str, float], ...],
    exemplars: tuple[str, ...],
    baseline: str = "",
) -> Alarm:
    """The alarm of a finding. Its id follows from the stream and `number`, the answers it had taken by then:
    who finds it again after a restart gives it the same."""
    model, target = name
    told = f"{kind}\0{model}\0{target}\0{number}\0{finding.since_s:.3f}".encode()
    return Alarm(
        id=blake2b(told, digest_size=8).hexdigest(),
        kind=kind,
        model=model,
        target=target,
        at_s=at_s,
        since_s=finding.since_s,
        answers=finding.answers,
        evidence=decades(finding.evidence),
        cause=cause,
        moved=finding.moved,
        strata=strata,
        exemplars=exemplars,
        baseline=baseline,
    )
