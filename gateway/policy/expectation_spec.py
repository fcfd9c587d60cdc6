"""What a file in the folder tests/ of a policy folder may say: calls, and what is expected of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.errors import ALL_KINDS
from gateway.policy.amounts import Tokens, Usd
from gateway.policy.parts import Spec
from gateway.policy.question_spec import QuestionSpec, StateSpec
from gateway.policy.values import ONE_OR_MORE, Line, Lines, as_list

REFUSALS = sorted(kind.error_type for kind in ALL_KINDS if kind.error_type.startswith(("policy_", "caller_")))
"""What a call may be refused with."""


def _refusal(value: object) -> object:
    if value not in (*REFUSALS, "no"):
        raise ValueError(f"must be no, or one of {', '.join(REFUSALS)}")
    return value


class ExpectSpec(Spec):
    """What is expected of a call; what is not said is not looked at. Unless a refusal is expected, the call
    must be sent."""

    refused: Annotated[
        str | None,
        BeforeValidator(_refusal),
        WithJsonSchema({"enum": ["no", *REFUSALS]}),
        Field(description="The error it is refused with; no: it is sent."),
    ] = None
    status: Annotated[int | None, Field(ge=200, le=599, description="The HTTP status of the refusal.")] = None
    by: Annotated[Line | None, Field(description="The limit or budget that refuses it.")] = None
    model: Annotated[Line | None, Field(description="The model that is used, after routes.")] = None
    route: Annotated[Line | None, Field(description="The route that matches; none: none does.")] = None
    instead_of: Annotated[
        Line | None, Field(description="The budget that is spent, so that another model answers.")
    ] = None
    target: Annotated[Line | None, Field(description="The target that is asked first.")] = None
    targets: Annotated[Lines | None, Field(description="All targets that may be asked, in order.")] = None
    not_targets: Annotated[
        list[Line] | None,
        BeforeValidator(as_list),
        ONE_OR_MORE,
        Field(description="Targets that must never be asked."),
    ] = None
    max_tokens: Annotated[
        Tokens | Literal["as asked"] | None,
        Field(description="The cap that is written into the call; as asked: none is."),
    ] = None
    costs_at_most: Annotated[
        Usd | None, Field(description="US dollars that the call must never cost more than.")
    ] = None
    likely_costs_at_most: Annotated[
        Usd | None, Field(description="US dollars that the call is likely to cost at most.")
    ] = None

    @model_validator(mode="after")
    def _says_something(self) -> ExpectSpec:
        if not self.model_fields_set:
            raise ValueError("expects nothing")
        return self

    @property
    def is_refusal(self) -> bool:
        """Whether it is expected that the call is refused."""
        refused = self.refused not in (None, "no")
        return refused or self.by is not None or self.status not in (None, 200)


class ExpectationSpec(Spec):
    """A call, the moment it is made at, and what is expected of it."""

    name: Annotated[Line, Field(description="What this shows, in words.")]
    given: Annotated[QuestionSpec, Field(description="The call.")]
    state: Annotated[StateSpec, Field(description="The moment; without it all is up and unused.")] = (
        StateSpec()
    )
    expect: Annotated[ExpectSpec, Field(description="What must come of it.")]


class ExpectationsFile(Spec):
    """Expectations of a policy: a file in the folder tests/ beside the policies."""

    tests: Annotated[
        list[ExpectationSpec], Field(min_length=1, description="Calls, and what is expected of them.")
    ]
