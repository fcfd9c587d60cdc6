# ruff: noqa: RUF012 (pydantic copies defaults)
"""What may be asked about a call, and of which moment: in files of expectations, and at the admin port."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.policy.amounts import MOST, Tokens
from gateway.policy.parts import Endpoint, Spec
from gateway.policy.values import Expiry, Line, Lines, Share, Truth, as_list, no_bool

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) *%")
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


def _used(value: Any) -> float | str:
    """A share, as a number from 0 to 1, of "80%"; else the text of an amount."""
    text = str(value).strip()
    percent = _PERCENT.fullmatch(text)
    if percent is not None and float(percent[1]) <= 100:
        return float(percent[1]) / 100
    if isinstance(value, bool) or amount_of(text, 1) is None:
        raise ValueError('must be a share like "80%", or an amount: dollars of a budget, else 90 or 20k')
    return text


def amount_of(text: str, unit: int) -> int | None:
    """A whole number of `unit`s from "12.5" or "20k"; None if it is no amount."""
    match = re.fullmatch(r"\$?([0-9]{1,13})(?:\.([0-9]{1,9}))? *([kKmM]?)", text)
    if match is None:
        return None
    whole, fraction, times = match[1], match[2] or "", _TIMES[match[3].lower()]
    amount = int(whole + fraction) * unit * times // 10 ** len(fraction)
    return amount if amount <= MOST * 1_000_000 else None


Used = Annotated[
    float | str,
    BeforeValidator(_used),
    WithJsonSchema({"type": ["string", "number"], "examples": ["80%", 12.5, "20k"]}),
]


class QuestionSpec(Spec):
    """A call: who makes it, for which model, and what else is known of it. Instead of `input_tokens`,
    `max_tokens`, `stream`, `metadata` and `user` there may be the whole `body`."""

    key: Annotated[Line | None, Field(description="Name of the caller's key.")] = None
    sha256: Annotated[
        str | None, Field(description="Instead of key: the SHA-256 of its text.", pattern="^[0-9a-f]{64}$")
    ] = None
    team: Annotated[Line | None, Field(description="Instead of key: the first key of this team.")] = None
    model: Annotated[Line | None, Field(description="The model that the call names.")] = None
    endpoint: Annotated[Endpoint, Field(description="chat, completions or embeddings.")] = "chat"
    dialect: Annotated[
        str, Field(description="What the caller speaks: openai, anthropic or responses. Needs the body.")
    ] = "openai"
    stream: Annotated[Truth, Field(description="true: a streamed call.")] = False
    tags: Annotated[list[Line], BeforeValidator(as_list), Field(description="As in x-headgate-tags.")] = []
    metadata: Annotated[dict[Line, Any], Field(description="The call's metadata object.")] = {}
    user: Annotated[Line | None, Field(description="The user that the call names.")] = None
    input_tokens: Annotated[
        Tokens | None, Field(description="How long its input is, in tokens; 1,000 if nothing says it.")
    ] = None
    max_tokens: Annotated[Tokens | None, Field(description="The cap of its output.")] = None
    draw: Annotated[Share, Field(description="Of weighted models: where the lot falls, 0% to 100%.")] = 0.0
    turn: Annotated[
        int, Field(ge=0, description="Of round_robin: how many calls came before."), BeforeValidator(no_bool)
    ] = 0
    body: Annotated[dict[str, Any] | None, Field(description="The call's body.")] = None

    @model_validator(mode="after")
    def _one_caller(self) -> QuestionSpec:
        if sum(who is not None for who in (self.key, self.sha256, self.team)) != 1:
            raise ValueError("needs one of key, team and sha256")
        if self.model is None and self.body is None:
            raise ValueError("needs a model (or a body that names one)")
        return self


class StateSpec(Spec):
    """A moment. What is not said: every target is up, nothing is used, and it is now."""

    down: Annotated[Lines | None, Field(description="Targets that are ejected, as 'provider/model'.")] = None
    trial: Annotated[
        Lines | None, Field(description="Targets on their half-open trial, as 'provider/model'.")
    ] = None
    used: Annotated[
        dict[Line, Used],
        Field(
            description="How much of limits and budgets is used, by name, for every subject: a share like "
            '"80%", dollars of a budget, or an amount of a limit like 20k.'
        ),
    ] = {}
    at: Annotated[Expiry | None, Field(description="The time, like 2026-11-20T12:00:00Z.")] = None
