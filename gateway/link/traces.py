"""A call that becomes a trace, on its way from the worker to control: a line of JSON without names.

What all calls of one key, model, target and endpoint have in common is written once (`Same`) and copied; the
rest is a tuple that is dumped as it is: 0.4 µs, where a dict with the same names took 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Same = orjson.Fragment
"""An object that is written already: the members of a record that many calls share."""
Times = tuple[float, float, float, float, float]
"""When the call began, dialled last, had a connection and sent last, had its first token (0.0: never), and
ended; on one clock."""
Origin = tuple[str, str, str]
"""The caller's trace id, span id and tracestate ("" if it sent none, or one that is too long)."""
Call = tuple[bool, Mapping[str, object]]
"""Whether a call is streamed, and what it asked for besides its content."""
Spent = tuple[bool, Sequence[int], str]
"""Whether a usage is estimated, its tokens by kind, and its service tier ("": not told)."""
Answered = tuple[str, Sequence[str]]
"""The model that answered ("": not told), and why it stopped."""
Packed = tuple[
    Same,
    str,
    float,
    Times,
    str,
    str,
    str,
    int,
    int,
    int | None,
    Origin | None,
    Call | None,
    Spent | None,
    Answered,
    Mapping[str, Any] | None,
]
"""What is shared; the request id; the time of day at the end; times; outcome, error type, what the last
attempt failed of; status, attempts, cost; what there is of the rest; and members that few records have."""


def same(members: Mapping[str, Any]) -> Same:
    """Writes what many records share; also part of such, for another to hold."""
    return orjson.Fragment(orjson.dumps(members))


def pack(record: Packed) -> bytes:
    """A line, with its end."""
    return orjson.dumps(record, None, orjson.OPT_APPEND_NEWLINE)


def last_began_s(
    started_s: float, dialled_s: float, sent_s: float, story: Sequence[Mapping[str, Any]]
) -> float:
    """When the last attempt began, after those that failed: it dialled, or had a connection and sent."""
    after_s = started_s
    if story:
        after_s += story[-1]["end"]
    if dialled_s >= after_s:
        return dialled_s
    return sent_s if sent_s >= after_s else after_s


def unpack(line: bytes) -> dict[str, Any]:
    """The record of a call. Times are seconds since its start, but for `ended`, which is the time of day.
    ValueError: it is none."""
    (
        shared, request_id, ended, times, outcome, error, last, status, attempts, cost,
        origin, call, spent, (model, reasons), more,
    ) = orjson.loads(line)  # fmt: skip
    started_s, dialled_s, sent_s, first_token_s, ended_s = times
    more = more or {}
    record: dict[str, Any] = {
        "trace": request_id,
        "span": request_id[16:],
        "first": request_id[:16],
        "ended": ended,
        "took": ended_s - started_s,
        "outcome": outcome,
        "error": error,
        "status": status,
        "attempts": attempts,
        "cost_nanousd": cost,
        **shared,
    }
    if origin is not None:
        record["request_id"] = request_id
        record["trace"], record["parent"], state = origin
        if state:
            record["state"] = state
    if call is not None:
        record["stream"], record["asked"] = call
    if "to" in shared:
        began_s = last_began_s(started_s, dialled_s, sent_s, more.get("story", ()))
        record["start"], record["last"] = began_s - started_s, last
    if first_token_s:
        record["first_token"] = first_token_s - started_s
    if spent is not None:
        record["estimated"], record["usage"], tier = spent
        if tier:
            record["tier"] = tier
    if model:
        record["answered_by"] = model
    if reasons:
        record["reasons"] = reasons
    return record | more
