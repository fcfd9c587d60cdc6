"""What is told of a prompt, so that other questions are not taken for other answers."""

from __future__ import annotations

from gateway.drift.answer_channels import SCRIPTS
from gateway.drift.channel import nominal, number, rate

_SIZES = [0.5 * step for step in range(1, 41)]
KINDS = 31

ASKED = (
    number("last_chars", "length of the last user's text", "log2(1 + characters)", _SIZES),
    number("all_chars", "length of all texts", "log2(1 + characters)", _SIZES),
    number("messages", "messages", "count", [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]),
    number("last_words", "words of the last user's text", "log2(1 + words)", _SIZES[:30]),
    number("questions", "question marks", "count", [1, 2, 3, 4, 6, 8, 12]),
    nominal("script", "script of most letters", SCRIPTS),
    nominal("kind", "system prompt, tools, length and temperature (hash)", [str(k) for k in range(KINDS)]),
    rate("code", "code fences"),
    rate("tools", "tools offered"),
)
