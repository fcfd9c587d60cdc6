"""W3C Trace Context: what a caller's `traceparent` says, and the one that goes on to a provider.

https://www.w3.org/TR/trace-context/ — a header that is not as it says counts as none, and never fails a call.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
KEPT_STATE_BYTES = 512
"""What everybody must pass on of a tracestate (3.3.1.5); a longer one goes on to the provider, but not into
a span."""


class Parent(NamedTuple):
    """The span of a caller's that a call belongs to. Ids in lower-case hexadecimal digits."""

    trace_id: bytes
    span_id: bytes
    sampled: bool
    state: bytes
    """The caller's tracestate; b"" if it sent none."""


def read_parent(traceparent: bytes, state: bytes = b"") -> Parent | None:
    """What a `traceparent` says, None if it is not one. Versions to come may have more after the flags."""
    found = _FORM.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Parent(trace_id, span_id, int(flags, 16) & 1 == 1, state)


def context_lines(trace_id: bytes, span_id: bytes, state: bytes, *, sampled: bool) -> bytes:
    """The header lines for the next in the row."""
    lines = b"traceparent: 00-%b-%b-%b\r\n" % (trace_id, span_id, b"01" if sampled else b"00")
    return b"%btracestate: %b\r\n" % (lines, state) if state else lines


def threshold(ratio: float) -> bytes:
    """What the last 16 hexadecimal digits of a trace id are less than if it is one of `ratio` of all. It is
    the rule of OpenTelemetry's TraceIdRatioBased, so that all who see a trace decide alike."""
    bound = round(ratio * 2**64)
    # Text compares like the number it spells: 0.05 µs. "g" is more than any digit.
    return b"g" if bound >= 2**64 else b"%016x" % bound
