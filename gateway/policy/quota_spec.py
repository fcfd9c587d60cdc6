# ruff: noqa: RUF012 (pydantic copies defaults)
"""What a policy file may say of limits, budgets, their store and alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gateway.policy.amounts import AlertShare, Amount, Rate, Rolling, Slots, Timezone, Tokens, Usd
from gateway.policy.parts import MatchSpec, SecretRef, Spec, TextOrSecret
from gateway.policy.values import Lines, ModelName, Name, Truth, as_list, no_bool

RATES = ("requests", "tokens", "input_tokens", "output_tokens")
"""What a limit may count per time, under the names of policy files."""

Per = Literal["key", "team", "model", "target", "tag", "user", "all"]
_PER = ["key", "team", "model", "target", "tag", "user", "all"]


class RuleMatchSpec(MatchSpec):
    """Which calls a limit or budget is for. All given fields must hold; a list holds if an entry does."""

    model: Annotated[
        Lines | None,
        Field(description="The model that is used, after routes; * and ? are wildcards."),
    ] = None
    target: Annotated[
        Lines | None,
        Field(
            description="'provider/model' of the target; * and ? are wildcards. The rule then counts "
            "attempts instead of calls."
        ),
    ] = None


def _burst_forms(schema: dict[str, Any]) -> None:
    """JSON Schema of a burst: an amount, or an object."""
    whole = dict(schema)
    schema.clear()
    amount = {"type": ["string", "integer"], "examples": [60, "1m"]}
    schema.update(title=whole["title"], description=whole["description"], anyOf=[amount, whole])


class BurstSpec(Spec):
    """The most that may come at once. Not given: a tenth of a limit's requests; a minute's tokens, or a tenth
    of a limit's if that is more."""

    model_config = ConfigDict(json_schema_extra=_burst_forms)

    requests: Annotated[Amount | None, Field(description="Calls at once.")] = None
    tokens: Annotated[Amount | None, Field(description="Tokens at once.")] = None
    input_tokens: Annotated[Amount | None, Field(description="Input tokens at once.")] = None
    output_tokens: Annotated[Amount | None, Field(description="Output tokens at once.")] = None

    @model_validator(mode="before")
    @classmethod
    def _by_measure(cls, value: Any) -> Any:
        # `_one_burst` has given an amount alone to the one rate that it is for.
        if not isinstance(value, Mapping):
            raise ValueError("must say whose burst it is, like {requests: 60, tokens: 1m}")
        return value


def _one_burst(limit: Any) -> Any:
    """`burst: 60` of a limit with one rate, as the burst of that rate."""
    if not isinstance(limit, Mapping) or isinstance(limit.get("burst"), Mapping | None):
        return limit
    rates = [rate for rate in RATES if limit.get(rate) is not None]
    return {**limit, "burst": {rates[0]: limit["burst"]}} if len(rates) == 1 else limit


class TargetLimitsSpec(Spec):
    """What a provider allows at a target: attempts beyond it go to the next target instead."""

    requests: Annotated[Rate | None, Field(description="Attempts per time, like 500/min.")] = None
    tokens: Annotated[Rate | None, Field(description="Tokens per time, input and output, like 200k/min.")] = (
        None
    )
    input_tokens: Annotated[Rate | None, Field(description="Input tokens per time.")] = None
    output_tokens: Annotated[Rate | None, Field(description="Output tokens per time.")] = None
    concurrent: Annotated[Slots | None, Field(description="Calls at once; 0 lets none through.")] = None
    burst: Annotated[
        BurstSpec, Field(description="The most that may come at once: an amount, or one for each rate.")
    ] = BurstSpec()

    @model_validator(mode="before")
    @classmethod
    def _short_burst(cls, value: Any) -> Any:
        return _one_burst(value)

    @property
    def rates(self) -> dict[str, tuple[int, int]]:
        """The rates that are given: name → (amount, milliseconds)."""
        return {rate: given for rate in RATES if (given := getattr(self, rate)) is not None}


class RuleSpec(Spec):
    """What limits and budgets have in common."""

    name: Annotated[
        Name, Field(description="Its name, in refusals and metrics. Limits and budgets share names.")
    ]
    match: Annotated[RuleMatchSpec, Field(description="Which calls it is for; all if not given.")] = (
        RuleMatchSpec()
    )
    per: Annotated[
        list[Per],
        BeforeValidator(as_list),
        Field(
            min_length=1,
            description="Each of these has one of its own; several: each combination. all: one for all that "
            "match. Calls without a user (user, safety_identifier) or a tag are not counted per user or tag.",
        ),
        WithJsonSchema(
            {"anyOf": [{"enum": _PER}, {"type": "array", "items": {"enum": _PER}, "minItems": 1}]}
        ),
    ] = ["all"]
    mode: Annotated[
        Literal["enforce", "shadow"],
        Field(description="shadow: refuses nothing, but counts what it would have refused."),
    ] = "enforce"
    when_store_down: Annotated[
        Literal["closed", "open", "share"] | None,
        Field(
            description="When the store cannot be asked. closed: calls are refused; open: they go through, "
            "marked; share: each worker goes on with its part. Budgets: closed unless said; limits: share."
        ),
    ] = None
    max_subjects: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="per user or tag: so many are told apart, all others are one."),
        BeforeValidator(no_bool),
    ] = 10_000

    @model_validator(mode="after")
    def _per_agrees(self) -> RuleSpec:
        if len(set(self.per)) < len(self.per) or ("all" in self.per and len(self.per) > 1):
            raise ValueError("per names something twice, or all beside something else")
        return self


class LimitSpec(RuleSpec, TargetLimitsSpec):
    """A limit: of calls or tokens per time, or of calls at once. With several, a call must pass all."""

    requests: Annotated[Rate | None, Field(description="Calls per time, like 600/min.")] = None
    strict: Annotated[
        Truth,
        Field(
            description="true: the most a call may take is held until it ends, so that its tokens never pass "
            "the limit; false: an estimate is held."
        ),
    ] = False

    @model_validator(mode="after")
    def _limits_something(self) -> LimitSpec:
        if not self.rates and self.concurrent is None:
            raise ValueError(f"limits nothing; give one or more of {', '.join(RATES)} and concurrent")
        return self


def _when_spent_forms(schema: dict[str, Any]) -> None:
    """JSON Schema: the word, or an object."""
    whole = dict(schema)
    schema.clear()
    schema.update(title=whole["title"], description=whole["description"], anyOf=[{"const": "reject"}, whole])


class WhenSpentSpec(Spec):
    """What becomes of calls when nothing is left: reject, or {use: MODEL}."""

    model_config = ConfigDict(json_schema_extra=_when_spent_forms)

    use: Annotated[ModelName | None, Field(description="Name of the model to use instead.")] = None

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if value == "reject":
            return {}
        if not isinstance(value, Mapping) or value.get("use", 0) is None or not value:
            raise ValueError("must be reject or {use: MODEL}")
        return value


class BudgetSpec(RuleSpec):
    """A budget: US dollars per hour, day, week or month, or in a rolling window."""

    usd: Annotated[Usd, Field(description="US dollars in a window, to the nano-dollar.")]
    every: Annotated[
        Literal["hour", "day", "week", "month"] | None,
        Field(description="The window, by the calendar of the time zone; weeks begin on Monday."),
    ] = None
    rolling: Annotated[
        Rolling | None,
        Field(description="Instead of every: what was spent in the last 24h, 30d, … counts."),
    ] = None
    timezone: Annotated[Timezone, Field(description="Whose hours, days, weeks and months.")] = "UTC"
    alert_at: Annotated[
        list[AlertShare],
        BeforeValidator(as_list),
        Field(max_length=16, description="Shares of the budget at which alerts.webhook is told: [50%, 80%]."),
    ] = []
    when_spent: Annotated[
        WhenSpentSpec, Field(description="reject, or {use: MODEL}: that model answers instead.")
    ] = WhenSpentSpec.model_validate("reject")
    exactness: Annotated[
        Literal["strict", "estimate"],
        Field(
            alias="class",
            description="strict: the most a call may cost is held until it ends, so that the budget is never "
            "passed; estimate: what it is likely to cost.",
        ),
    ] = "strict"
    default_output_tokens: Annotated[
        Tokens, Field(description="Written into calls that do not say how long their answer may be.")
    ] = 4_096
    unbounded: Annotated[
        Literal["hold", "refuse"],
        Field(
            description="Input that nothing bounds (an image by URL, a file): hold the model's whole "
            "context, or refuse."
        ),
    ] = "hold"
    unpriced: Annotated[
        Literal["refuse", "allow"],
        Field(description="Calls to a target without a price: refuse them, or let them through for nothing."),
    ] = "refuse"

    @model_validator(mode="after")
    def _one_window(self) -> BudgetSpec:
        if (self.every is None) == (self.rolling is None):
            raise ValueError("must have either every (hour, day, week, month) or rolling, like 30d")
        return self


class StoreSpec(Spec):
    """Where limits and budgets are kept. Without redis: in the state folder, for the workers of this host."""

    redis: Annotated[
        TextOrSecret | None,
        Field(
            description="URL of a Redis (6 or newer) that all gateways share, redis://host:6379/0; with a "
            "password, {env: NAME} or {file: /path}."
        ),
    ] = None
    accept_lossy_store: Annotated[
        Truth,
        Field(
            description="true: strict budgets also on a Redis that may forget (evicts keys, or does not "
            "write each command to its disk)."
        ),
    ] = False


class AlertsSpec(Spec):
    """Who is told when a budget reaches a share of its alert_at."""

    webhook: Annotated[
        TextOrSecret, Field(description="URL that gets a POST of JSON; one with a token as {env: NAME}.")
    ]
    secret: Annotated[
        SecretRef | None, Field(description="Signs what is posted (HMAC-SHA256), so that it can be verified.")
    ] = None
