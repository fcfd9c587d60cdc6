# ruff: noqa: RUF012 (pydantic copies defaults)
"""What a policy file may say of probes: golden prompts, whom they are sent to, how often and for how much."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from gateway.policy.parts import Spec
from gateway.policy.values import Dollars, Duration, Line, Name, Share, Truth, no_bool

_FILE = re.compile(r"probes/([A-Za-z0-9][A-Za-z0-9._-]*/)*[A-Za-z0-9][A-Za-z0-9._-]*\.ya?ml")
COMPARATORS = ("exact", "numeric", "json_equal", "regex", "schema_valid", "refusal")


def _pattern(value: str) -> str:
    try:
        re.compile(value, re.DOTALL)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error.msg} at {error.pos}") from None
    return value


def is_prompts_file(value: object) -> bool:
    """Whether it names a file below probes/."""
    return isinstance(value, str) and _FILE.fullmatch(value) is not None


def _file(value: str) -> str:
    if not is_prompts_file(value):
        raise ValueError("is a YAML file in the folder probes/ beside the policies, like probes/starter.yaml")
    return value


def _at_least_a_second(value: float) -> float:
    if value < 1.0:
        raise ValueError('must be "1s" at least')
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=8192)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_pattern)]


class PromptSpec(Spec):
    """One golden prompt, and what a good answer to it is: one of the comparators, or none for free text,
    which is compared with earlier answers only."""

    ask: Annotated[Text, Field(description="What the user says.")]
    system: Annotated[Text | None, Field(description="The system prompt.")] = None
    exact: Annotated[
        Text | None,
        Field(description="The whole answer, whatever its case, quotes, asterisks and full stop."),
    ] = None
    numeric: Annotated[
        float | None,
        BeforeValidator(no_bool),
        Field(allow_inf_nan=False, description="The number that the answer ends with."),
    ] = None
    tolerance: Annotated[
        float, BeforeValidator(no_bool), Field(ge=0, le=1e9, description="How far numeric may be off.")
    ] = 0.0
    json_equal: Annotated[
        Any, Field(description="The JSON that the answer is, in a code fence or not, members in any order.")
    ] = None
    regex: Annotated[
        Pattern | None,
        Field(description="A regular expression (Python's re, . is any character) for the whole answer."),
    ] = None
    schema_valid: Annotated[
        dict[str, Any] | None, Field(description="A JSON Schema that the answer fits.")
    ] = None
    refusal: Annotated[
        Truth | None, Field(description="Whether the answer is a refusal; false: it must not be one.")
    ] = None

    @model_validator(mode="after")
    def _one_comparator(self) -> PromptSpec:
        given = [name for name in COMPARATORS if name in self.model_fields_set]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if given and getattr(self, given[0]) is None:
            raise ValueError(f"{given[0]} is empty; leave it out for free text")
        if "tolerance" in self.model_fields_set and self.numeric is None:
            raise ValueError("tolerance is for numeric only")
        return self


class PromptsFile(Spec):
    """A file of golden prompts for Headgate's probes."""

    prompts: Annotated[
        dict[Name, PromptSpec], Field(min_length=1, max_length=1000, description="The prompts, by name.")
    ]


def _form(value: Any) -> str:
    return "ref" if isinstance(value, Mapping) else "text"


Prompts = Annotated[
    Annotated[str, AfterValidator(_file), Tag("text")]
    | Annotated[dict[Name, PromptSpec], Field(min_length=1, max_length=1000), Tag("ref")],
    Discriminator(_form),
]


class SuiteSpec(Spec):
    """Golden prompts that are sent to targets on a schedule."""

    name: Annotated[Name, Field(description="Its name, in metrics.")]
    prompts: Annotated[
        Prompts, Field(description="A file in the folder probes/ beside the policies, or the prompts.")
    ]
    targets: Annotated[
        Literal["all"] | list[Line],
        Field(description="Models of the policy, whose targets are all asked; all: every model that chats."),
    ] = "all"
    every: Annotated[
        Duration,
        AfterValidator(_at_least_a_second),
        Field(description="How often a target is asked the next shard of the prompts."),
    ] = 3600.0
    shards: Annotated[
        int,
        BeforeValidator(no_bool),
        Field(ge=1, le=100, description="In how many parts the prompts are asked, one after the other."),
    ] = 4
    jitter: Annotated[Share, Field(description="By how much of every an hour is early or late.")] = 0.1
    temperature: Annotated[
        float, BeforeValidator(no_bool), Field(ge=0, le=2, description="Not sent to models that reason.")
    ] = 0.0
    seed: Annotated[
        int, BeforeValidator(no_bool), Field(ge=0, le=2**31 - 1, description="Sent along, and breaks ties.")
    ] = 7
    max_tokens: Annotated[
        int,
        BeforeValidator(no_bool),
        Field(ge=1, le=16_384, description="Of an answer; models that reason may have 4,096 at least."),
    ] = 128
    repeats_baseline: Annotated[
        int,
        BeforeValidator(no_bool),
        Field(ge=1, le=50, description="Answers to a prompt before the next one is judged."),
    ] = 5


class ProbeBudget(Spec):
    """What probes may cost, all suites together, in a day (UTC)."""

    usd_per_day: Annotated[Dollars, Field(description="US dollars.")] = Decimal(2)
    max_tokens_per_day: Annotated[
        int, BeforeValidator(no_bool), Field(ge=0, le=10**12, description="Tokens, input and output.")
    ] = 250_000
    on_exceeded: Annotated[
        Literal["skip"], Field(description="skip: prompts that do not fit are left out, and counted.")
    ] = "skip"


class ProbesSpec(Spec):
    """Golden prompts that are sent to targets, to see whether their answers change."""

    suites: Annotated[list[SuiteSpec], Field(max_length=20, description="Sets of prompts.")] = []
    budget: Annotated[ProbeBudget, Field(description="What they may cost.")] = ProbeBudget()
