# ruff: noqa: RUF012 (pydantic copies defaults)
"""What a policy file may say of drift: whose answers are watched, against what, and what follows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.drift.answer_channels import ANSWER
from gateway.policy.parts import Spec, TextOrSecret
from gateway.policy.probe_spec import ProbesSpec
from gateway.policy.problem import did_you_mean
from gateway.policy.values import Duration, Line, Share, Truth, no_bool

_CHANNELS = frozenset(channel.name for channel in ANSWER)


def _channel(value: str) -> str:
    if value not in _CHANNELS:
        raise ValueError(f"{value!r} is no channel{did_you_mean(value, _CHANNELS)}")
    return value


class SampleSpec(Spec):
    """How many answers are looked at. What is not costs nothing."""

    share: Annotated[Share, Field(description="Share of the answers.")] = 1.0
    max_per_second: Annotated[
        float,
        Field(gt=0, le=10_000, description="Of all workers together; others are passed over at random."),
        BeforeValidator(no_bool),
    ] = 100.0
    cpu_share: Annotated[
        Share, Field(description="Of one core, for reading and judging answers; more are passed over.")
    ] = 0.1


class StrataSpec(Spec):
    """Kinds of prompts that are told apart: by system prompt, tools and format, length and temperature."""

    max: Annotated[
        int,
        Field(ge=1, le=64, description="So many of the commonest; all others are one more."),
    ] = 16
    min_reference: Annotated[
        int, Field(ge=2, le=10_000, description="Answers of a kind before its next one is judged.")
    ] = 30


class ReferenceSpec(Spec):
    """What answers are compared with: those before them."""

    arm_at: Annotated[int, Field(ge=50, le=1_000_000, description="Answers before the first is judged.")] = (
        500
    )
    grow_to: Annotated[
        int, Field(ge=50, le=1_000_000, description="Answers after which the reference stays as it is.")
    ] = 20_000
    pin: Annotated[
        Literal["auto", "off"],
        Field(
            description="auto: a full reference is also kept as a baseline, which slow changes are measured "
            "against; off: only by 'headgate drift baseline pin'."
        ),
    ] = "auto"
    rebaseline: Annotated[
        Literal["manual"] | int,
        Field(
            description="What ends an alarm. manual: 'headgate drift reset'; a number: so many answers, "
            "which become the reference."
        ),
        BeforeValidator(no_bool),
    ] = "manual"

    @model_validator(mode="after")
    def _grows(self) -> ReferenceSpec:
        if self.grow_to < self.arm_at:
            raise ValueError("grow_to must be arm_at at least")
        return self


class DetectorSpec(Spec):
    """When something is said. An ARL is the mean number of answers between two false alarms, at least."""

    notice_arl: Annotated[float, Field(ge=100, le=1e12, description="ARL of notices.")] = 1e4
    alarm_arl: Annotated[float, Field(ge=1e4, le=1e12, description="ARL of alarms.")] = 2e6
    min_effect: Annotated[
        float, Field(ge=0.01, le=1, description="The least change that is an alarm, of 1.")
    ] = 0.08
    min_rate_change: Annotated[
        float, Field(ge=0.001, le=1, description="The same of critical rates, such as refusals.")
    ] = 0.03
    min_post_change: Annotated[
        int, Field(ge=1, le=2000, description="Answers since the change, unless it is beyond doubt.")
    ] = 50


class WatchSpec(Spec):
    """How the answers of models are watched; a model's own section changes what it names."""

    enabled: Annotated[Truth, Field(description="false: they are not.")] = True
    strata: Annotated[StrataSpec, Field(description="Kinds of prompts.")] = StrataSpec()
    reference: Annotated[ReferenceSpec, Field(description="What they are compared with.")] = ReferenceSpec()
    detector: Annotated[DetectorSpec, Field(description="When something is said.")] = DetectorSpec()
    disable: Annotated[
        list[Annotated[Line, AfterValidator(_channel)]],
        Field(max_length=64, description="Channels of answers that are not looked at."),
    ] = []
    dedupe_window: Annotated[
        int, Field(ge=0, le=10_000, description="Of one prompt, one answer in so many is judged.")
    ] = 200


class ActionSpec(Spec):
    """What is done while an alarm stands; 'headgate drift reset' ends it."""

    weight: Annotated[
        Share | None,
        Field(description="So much of its weight is left to the target that drifts (strategy: weighted)."),
    ] = None
    pin: Annotated[
        Line | None, Field(description="Calls begin at this target of the model: provider/model.")
    ] = None
    causes: Annotated[
        list[Literal["model", "mixed", "fingerprint", "confirmed"]],
        Field(min_length=1, description="Of which alarms; mixed: what was asked changed as well."),
    ] = ["model", "fingerprint", "confirmed"]

    @model_validator(mode="after")
    def _one(self) -> ActionSpec:
        if (self.weight is None) == (self.pin is None):
            raise ValueError("say either weight or pin")
        return self


class ModelWatchSpec(WatchSpec):
    """How one model's answers are watched, and what follows."""

    on_alarm: Annotated[
        ActionSpec | None,
        Field(description="Where calls go while a target's answers have changed; nothing is done else."),
    ] = None


class IdentitySpec(Spec):
    """What of an answer says who made it, besides its model's name and fingerprint."""

    headers: Annotated[
        list[Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]],
        Field(max_length=8, description="Headers of providers, in lower case."),
    ] = []


class PrivacySpec(Spec):
    """Texts never leave the gateway's memory; what is kept of one is a keyed hash, unless `exemplars` says
    otherwise."""

    key: Annotated[
        TextOrSecret | None,
        Field(description="Key of the hashes, the same for all gateways of a store; made if not given."),
    ] = None
    exemplars: Annotated[
        Literal["hash", "text"],
        Field(
            description="What an alarm shows of some answers since the change. text: what they said, from "
            "the memory of the gateway that saw them, on the admin port, for text_ttl."
        ),
    ] = "hash"
    text_ttl: Annotated[
        Duration, Field(gt=0, le=30 * 86_400, description="How long texts are kept, if they are.")
    ] = 86_400.0


class DriftSpec(WatchSpec):
    """Whether models' answers change."""

    sample: Annotated[SampleSpec, Field(description="How many answers are looked at.")] = SampleSpec()
    identity: Annotated[IdentitySpec, Field(description="Who says that it answered.")] = IdentitySpec()
    privacy: Annotated[PrivacySpec, Field(description="What is kept.")] = PrivacySpec()
    probes: Annotated[ProbesSpec, Field(description="Golden prompts, sent on a schedule.")] = ProbesSpec()
