"""What several sections of a policy file are made of: the base of all, references to secrets, matches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from gateway.policy.values import ONE_OR_MORE, Line, Lines, Truth, as_list, texts

Endpoint = Literal["chat", "completions", "embeddings"]


class Spec(BaseModel):
    """Base of everything in a policy file: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretRef(Spec):
    """Where a secret is read from when the policy is loaded: `{env: NAME}` or `{file: /path}`."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Annotated[str | None, Field(description="Name of an environment variable, in upper case.")] = None
    file: Annotated[str | None, Field(description="Absolute path of a file that holds the secret alone.")] = (
        None
    )

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, value: Any) -> Any:
        # All is checked here, at once: an error of a single field would name the field, and in
        # `{sk-…}` that is the secret.
        fields = value if isinstance(value, Mapping) else None
        if fields is None:
            raise ValueError("a secret never stands in a policy file; write {env: NAME} or {file: /path}")
        env, file = fields.get("env"), fields.get("file")
        if len(fields) != 1 or not isinstance(env if file is None else file, str):
            raise ValueError("must be either {env: NAME} or {file: /path}")
        # Upper case only: a key pasted where a variable's name belongs must not be printed as a name.
        if env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", env):
            raise ValueError("after env comes the name of a variable: upper-case letters, digits and '_'")
        if file is not None and not re.fullmatch(r"/[\x20-\x7e]{1,1000}", file):
            raise ValueError("after file comes an absolute path")
        return fields


def _text_or_ref(value: Any) -> str:
    # Asked for both ways: of what was read, and of what is written again for the policy's hash.
    return "ref" if isinstance(value, Mapping | SecretRef) else "text"


TextOrSecret = Annotated[
    Annotated[Line, Tag("text")] | Annotated[SecretRef, Tag("ref")], Discriminator(_text_or_ref)
]


class MatchSpec(Spec):
    """Which calls a rule is for. All given fields must hold; a list holds if one of its entries does."""

    team: Annotated[Lines | None, Field(description="Names of teams.")] = None
    key: Annotated[Lines | None, Field(description="Names of keys.")] = None
    tag: Annotated[Lines | None, Field(description="Tags the caller gave in x-headgate-tags.")] = None
    model: Annotated[
        Lines | None, Field(description="The model name the caller gave; * and ? are wildcards.")
    ] = None
    endpoint: Annotated[
        list[Endpoint] | None,
        BeforeValidator(as_list),
        Field(min_length=1, description="chat, completions or embeddings."),
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": list(get_args(Endpoint))},
                    {"type": "array", "items": {"enum": list(get_args(Endpoint))}, "minItems": 1},
                ]
            }
        ),
    ] = None
    stream: Annotated[
        Truth | None, Field(description="true: streamed calls only; false: plain ones only.")
    ] = None
    metadata: Annotated[
        dict[Line, Annotated[list[Line], BeforeValidator(texts), Field(min_length=1), ONE_OR_MORE]] | None,
        Field(description="Entries of the call's metadata object and the values they may have."),
    ] = None
