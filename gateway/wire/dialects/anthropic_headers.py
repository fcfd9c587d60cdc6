"""Anthropic's headers about a call: what is left of its rates, and the id of the request.

Between dialects they have OpenAI's names (`x-ratelimit-limit-requests` …), which are Headgate's own too.
Facts: Anthropic's API reference (rate limits): a reset is a time of day (RFC 3339), OpenAI's is a duration
(`120ms`, `6m0s`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_KINDS = (b"requests", b"tokens", b"input-tokens", b"output-tokens")
_PARTS = (b"limit", b"remaining", b"reset")
NAMES = frozenset(b"anthropic-ratelimit-%b-%b" % (kind, part) for kind in _KINDS for part in _PARTS)
"""Of its headers, those about rates."""
_IN_CHAT = tuple(
    (
        b"x-ratelimit-%b-%b" % (part, kind),
        tuple(b"anthropic-ratelimit-%b-%b" % (one, part) for one in given),
        part == b"reset",
    )
    for kind, given in ((b"requests", (b"requests",)), (b"tokens", (b"tokens", b"input-tokens")))
    for part in _PARTS
)
"""OpenAI's name; Anthropic's, of which the first that is there counts; whether it is a time."""
_DURATION = re.compile(rb"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?").fullmatch


def in_chat(headers: dict[bytes, bytes], now_s: float) -> dict[bytes, bytes]:
    """A provider's headers with its rates under OpenAI's names. Where it tells input and output apart, the
    tokens are the input's: those run out first. `now_s` is the time of day."""
    if NAMES.isdisjoint(headers):
        return headers
    found = {name: value for name, value in headers.items() if name not in NAMES}
    for name, given, is_reset in _IN_CHAT:
        for one in given:
            if one in headers:
                value = headers[one]
                found[name] = _duration(value, now_s) if is_reset else value
                break
    return found


def lines_for_caller(lines: bytes, now_s: float) -> bytes:
    """The lines of a head for a caller that speaks Anthropic's: rates under its names, and the request's id
    where its SDK looks for it, beside `x-request-id`."""
    found = []
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name == b"x-request-id":
            found += [line, b"request-id: " + value]
        elif name.startswith(b"x-ratelimit-"):
            _, _, part, kind = name.split(b"-", 3)
            told = _time(value, now_s) if part == b"reset" else value
            found.append(b"anthropic-ratelimit-%b-%b: %b" % (kind, part, told))
        else:
            found.append(line)
    return b"\r\n".join(found)


def _duration(time: bytes, now_s: float) -> bytes:
    """A time of day as seconds from now, in OpenAI's words; "0s" for what is none, or has passed."""
    try:
        at = datetime.fromisoformat(time.decode("latin-1"))
    except ValueError:
        return b"0s"
    left_s = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() - now_s
    return b"%ds" % max(0, -int(-left_s // 1))


def _time(duration: bytes, now_s: float) -> bytes:
    """A duration in OpenAI's words as a time of day, in whole seconds, rounded up."""
    match = _DURATION(duration)
    hours, minutes, seconds, milliseconds = (
        (float(part or 0) for part in match.groups()) if match else [0.0] * 4
    )
    at_s = now_s + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    return datetime.fromtimestamp(-(-at_s // 1), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
