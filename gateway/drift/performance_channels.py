"""What is told of a target's speed: judged as answers are, and never mixed with them."""

from __future__ import annotations

from gateway.drift.channel import number

_TIMES = [2 ** (step / 4) for step in range(63)]
"""1 ms to 46 s, a fifth apart."""

PERFORMANCE = (
    number("first_token_ms", "time to the first token", "ms", _TIMES),
    number("token_ms", "time for an output token of a plain answer", "ms", [edge / 16 for edge in _TIMES]),
    number("tokens_per_s", "output tokens a second after the first", "1/s", _TIMES[:56]),
)
