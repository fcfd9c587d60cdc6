# ruff: noqa: RUF012 (pydantic copies defaults)
"""What a policy file may say of traces, and of what calls say in them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from gateway.policy.parts import Spec
from gateway.policy.values import Interval, Share, Truth, no_bool


def _pattern(value: str) -> str:
    try:
        found = re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error.msg} at {error.pos}") from None
    if found.search(""):
        raise ValueError("matches nothing at all, so everywhere")
    return value


Pattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    AfterValidator(_pattern),
    WithJsonSchema({"type": "string", "examples": ["\\b[0-9]{16}\\b"]}),
]


class TracesSpec(Spec):
    """Which calls become traces. Without an OTLP endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) none do."""

    sample: Annotated[
        Share | None,
        Field(description="Share of calls; by OTEL_TRACES_SAMPLER if not given, and without that 10%."),
    ] = None
    parent_based: Annotated[
        Truth | None,
        Field(
            description="true: a caller that sends traceparent decides for its calls; false: it has no say. "
            "By OTEL_TRACES_SAMPLER if not given, and without that true."
        ),
    ] = None
    slow: Annotated[
        Interval,
        Field(description="Calls that take longer are traces whatever the share; off: they are not."),
    ] = 10.0
    errors: Annotated[
        Truth, Field(description="true: calls that were refused or failed are traces whatever the share.")
    ] = True


class ContentSpec(Spec):
    """Whose calls are in their traces with what was asked and answered. Nobody's unless named here."""

    keys: Annotated[
        list[str], Field(max_length=1000, description="Names of callers' keys; of their sampled calls only.")
    ] = []
    redact: Annotated[
        list[Pattern],
        Field(
            max_length=100,
            description="Regular expressions (Python's re); what they match becomes [redacted].",
        ),
    ] = []
    max_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=1 << 20,
            description="A request or an answer that is longer is left out and marked as such.",
        ),
        BeforeValidator(no_bool),
    ] = 65_536


class TelemetrySpec(Spec):
    """What is told about calls besides metrics and the log."""

    traces: Annotated[TracesSpec, Field(description="Which calls become traces.")] = TracesSpec()
    content: Annotated[ContentSpec, Field(description="Whose questions and answers stand in them.")] = (
        ContentSpec()
    )
