"""The single values of a policy file: durations, shares, names, hashes. How each is written, what it becomes.

A message never repeats a value: someone may have put a secret where it does not belong.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from gateway.policy import duration
from gateway.wire.dialects.openai_families import FAMILIES

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


def no_bool(value: Any) -> Any:
    if type(value) is bool:
        raise ValueError("must be a number")
    return value


def _truth(value: Any) -> Any:
    words = {"true": True, "false": False}
    value = words.get(value, value) if isinstance(value, str) else value
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _duration(value: Any) -> float:
    """Seconds of "500ms", "5s", "10m", "1h" or a plain number of seconds."""
    seconds = None if isinstance(value, bool) else duration.seconds(str(value))
    if seconds is None or not 0.001 <= seconds <= 86400.0:
        raise ValueError('must be a duration between "1ms" and "24h", like "500ms", "5s" or "10m"')
    return seconds


def _interval(value: Any) -> float:
    """Seconds, 0.0 for "off"."""
    if value == "off":
        return 0.0
    try:
        return _duration(value)
    except ValueError:
        raise ValueError('must be a duration between "1ms" and "24h", like "15s", or off') from None


def _share(value: Any) -> float:
    """A share of 1 from "20%" or 0.2."""
    message = 'must be a percentage like "20%" or a number from 0 to 1'
    match = _PERCENT.fullmatch(str(value).strip())
    try:
        share = float(match[1]) / 100 if match else float(no_bool(value))
    except (TypeError, ValueError):
        raise ValueError(message) from None
    if not 0.0 <= share <= 1.0:
        raise ValueError(message)
    return share


def printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be one line of printable text without spaces around it")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError(
            "a name is 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or digit"
        )
    return value


def _model_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", value):
        raise ValueError(
            "a model name is 1 to 128 letters, digits or '._:/@+-', and begins with a letter or digit"
        )
    return value


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(
            "must be the SHA-256 of the key, 64 hexadecimal digits ('headgate keys new' prints both)"
        )
    return value.lower()


def _expires(value: Any) -> datetime:
    """A moment, from a date (midnight UTC at its beginning) or a date and time (UTC if it names no zone)."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(
            'must be a date like 2027-01-31 or a time like "2027-01-31T12:00:00+01:00"'
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


def texts(value: Any) -> Any:
    """Metadata values are compared as text; a number written without quotes is meant as its text."""
    return (
        [str(item) if type(item) in (int, float) else item for item in as_list(value)]
        if value is not None
        else value
    )


def _family(value: str) -> str:
    if value not in FAMILIES:
        raise ValueError(
            f"is no part of OpenAI's API that can be passed through; these are: {', '.join(FAMILIES)}"
        )
    return value


def _text_schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "number"], "pattern": pattern, "examples": list(examples)})


ONE_OR_MORE = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
)

Name = Annotated[str, AfterValidator(_name)]
ModelName = Annotated[str, AfterValidator(_model_name)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(printable)]
Sha256 = Annotated[
    str, AfterValidator(_sha256), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"})
]
Duration = Annotated[
    float, BeforeValidator(_duration), _text_schema("^[0-9.]+(ms|s|m|h|d)?$", "500ms", "5s", "10m")
]
Interval = Annotated[
    float, BeforeValidator(_interval), _text_schema("^([0-9.]+(ms|s|m|h|d)?|off)$", "15s", "off")
]
"""Seconds, or 0.0: never."""
Share = Annotated[float, BeforeValidator(_share), _text_schema("^[0-9.]+ *%?$", "20%")]
Count = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(no_bool)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Dollars = Annotated[
    Decimal,
    Field(ge=0, le=1_000_000, allow_inf_nan=False),
    BeforeValidator(no_bool),
    WithJsonSchema({"type": "number", "minimum": 0}),
]
Family = Annotated[str, AfterValidator(_family), WithJsonSchema({"enum": list(FAMILIES)})]
Expiry = Annotated[
    datetime,
    BeforeValidator(_expires),
    WithJsonSchema({"type": "string", "examples": ["2027-01-31", "2027-01-31T12:00:00Z"]}),
]
Lines = Annotated[list[Line], Field(min_length=1), BeforeValidator(as_list), ONE_OR_MORE]
