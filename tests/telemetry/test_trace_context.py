"""W3C Trace Context, and who is sampled."""

from __future__ import annotations

import random

import pytest

from gateway.telemetry.trace_context import context_lines, read_parent, threshold

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"ff", True)])
def test_only_the_first_flag_says_whether_it_is_sampled(flags: bytes, sampled: bool) -> None:
    parent = read_parent(b"00-%b-%b-%b" % (TRACE, SPAN, flags), b"a=b")
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.sampled, parent.state) == (TRACE, SPAN, sampled, b"a=b")


def test_what_is_written_is_read_again() -> None:
    lines = context_lines(TRACE, SPAN, b"a=b", sampled=True)
    first, second, rest = lines.split(b"\r\n")
    assert (second, rest) == (b"tracestate: a=b", b"")
    parent = read_parent(first.removeprefix(b"traceparent: "))
    assert parent is not None and parent[:3] == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    ("ratio", "least", "most"), [(0.0, 0, 0), (1.0, 20_000, 20_000), (0.1, 1_800, 2_200)]
)
def test_the_share_of_trace_ids_below_the_threshold_is_the_ratio(ratio: float, least: int, most: int) -> None:
    below, draw = threshold(ratio), random.Random(7)
    ids = [b"%032x" % draw.getrandbits(128) for _ in range(20_000)]
    assert least <= sum(trace[16:] < below for trace in ids) <= most


def test_it_is_the_rule_of_opentelemetry() -> None:
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    sampler, below, draw = TraceIdRatioBased(0.3), threshold(0.3), random.Random(7)
    for _ in range(1000):
        trace = draw.getrandbits(128)
        theirs = sampler.should_sample(None, trace, "x").decision is Decision.RECORD_AND_SAMPLE
        assert (b"%032x" % trace)[16:] < below if theirs else (b"%032x" % trace)[16:] >= below
