"""How many tokens a call may put out: the cap that is held, and written into the body that is sent.

A cap that is only assumed is no bound. So a caller who gives none gets the policy's, and the field is one
that the provider is known to heed. Reasoning counts within it (OpenAI, DeepSeek, xAI, Anthropic, Gemini).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.quota.bound import size_of
from gateway.wire.dialects.openai_chat import Call

DEFAULT_OUTPUT_TOKENS = 4_096
"""The cap of a call that gives none, unless the rule says otherwise."""
COMPLETIONS_TOKENS = 16
"""The default of `max_tokens` in legacy completions by OpenAI's reference: a budget must not make a short
answer long."""
FLOOR_TOKENS, REASONING_FLOOR_TOKENS = 256, 4_096
"""Caps do not shrink below this to fit: less is an answer that breaks off, or is all reasoning."""

_REASONS = re.compile(
    r"(^|[/.:_-])(o[134]|gpt-5|gpt-oss|deepseek-(reasoner|r\d)|qwq|magistral|sonar-(deep-research|reasoning)|"
    r"grok-(3-mini|4)|gemini-(2\.5|3))([/.:_-]|$)|[-_.](thinking|reasoning|reasoner)([/.:_-]|$)"
).search


_MORE = frozenset({"n", "best_of", "prompt", "prediction", "reasoning_effort"})


class Asked(NamedTuple):
    """What a call's body says about its output."""

    tokens: int | None
    """The cap the caller gave for each choice; of two the larger. None: none."""
    choices: int
    """Answers that are generated, each up to the cap; 0 for embeddings."""
    extra_tokens: int = 0
    """Output beyond the cap: the rejected part of a `prediction` is billed as output."""
    has_unseen: bool = False
    """True if some of it is charged for and not in the answer: candidates of `best_of`, a `prediction`,
    thoughts."""

    def output_tokens(self, cap: int) -> int:
        """The output of all choices at most."""
        return self.choices * cap + self.extra_tokens


def asked_of(call: Call) -> Asked:
    """What a call asks for. Whole numbers were checked when it was read (`read_call`)."""
    fields = call.fields
    if call.endpoint in ("embeddings", "count_tokens"):
        return Asked(0, 0)
    tokens, newer = fields.get("max_tokens"), fields.get("max_completion_tokens")
    if tokens is None or (newer is not None and newer > tokens):
        tokens = newer
    if not tokens and call.endpoint == "chat":
        # OpenAI refuses 0; elsewhere it may mean without end.
        tokens = None
    if _MORE.isdisjoint(fields):
        return _plain(tokens)
    choices = max(1, fields.get("n") or 1, fields.get("best_of") or 1)
    if call.endpoint == "completions":
        choices *= _prompts(fields.get("prompt"))
    prediction = fields.get("prediction")
    extra = 0 if prediction is None else size_of(prediction, call.size)
    has_unseen = extra > 0 or (fields.get("best_of") or 1) > (fields.get("n") or 1)
    # Claude shows a summary of what it thought, and charges for all of it.
    has_unseen |= fields.get("reasoning_effort") not in (None, "none")
    return Asked(tokens, choices, choices * extra, has_unseen)


@lru_cache(maxsize=1024)
def _plain(tokens: int | None) -> Asked:
    return Asked(tokens, 1)


def cap_of(
    asked: Asked,
    *,
    endpoint: str,
    default_tokens: int = DEFAULT_OUTPUT_TOKENS,
    max_output: int | None = None,
    context: int | None = None,
    input_tokens: int = 0,
    floor: int = FLOOR_TOKENS,
) -> int:
    """The cap of each choice at one target: the caller's or the default, not above the model's ceiling.

    A default also leaves room for the input in the context window, else providers refuse the call
    (`input_tokens`: an estimate; the strict bound is four times too high for that), but at least the floor.
    """
    if not asked.choices:
        return 0
    if asked.tokens is not None:
        tokens = asked.tokens
    else:
        tokens = min(default_tokens, COMPLETIONS_TOKENS) if endpoint == "completions" else default_tokens
        if context is not None:
            tokens = min(tokens, max(floor, context - input_tokens))
    return tokens if max_output is None else min(tokens, max_output)


def fitting_cap(asked: Asked, cap: int, output_tokens: int | None, floor: int = FLOOR_TOKENS) -> int | None:
    """The largest cap, up to `cap`, with which the whole call is within so many output tokens; None if that
    is below the floor (or below `cap`, where that is lower still).

    For money `output_tokens` is `Worst.output_for(money left, input tokens)`; the least of several rules
    counts.
    """
    if output_tokens is None or output_tokens < asked.extra_tokens:
        return None
    if not asked.choices:
        return 0
    fits = min(cap, (output_tokens - asked.extra_tokens) // asked.choices)
    return fits if fits >= min(cap, floor) else None


def written(call: Call, cap: int, provider_field: str) -> tuple[str, int] | None:
    """(field, tokens) to be written into the body for a target; None if the body already says so.

    `provider_field` is the field that the provider heeds for sure. One that heeds `max_completion_tokens`
    heeds `max_tokens` too, so there a caller's own field is kept; one that knows only `max_tokens` (Ollama,
    Mistral) would let the other pass unread.
    """
    if call.endpoint == "embeddings":
        return None
    fields = call.fields
    old, new = fields.get("max_tokens"), fields.get("max_completion_tokens")
    field = "max_tokens" if call.endpoint == "completions" else provider_field
    if new is None and (old is not None or fields.get("prediction") is not None):
        # OpenAI takes no max_completion_tokens beside a prediction.
        field = "max_tokens"
    given, other = (old, new) if field == "max_tokens" else (new, old)
    return None if given == cap and other is None else (field, cap)


def floor_of(*, is_reasoning: bool) -> int:
    """The floor of a target's caps."""
    return REASONING_FLOOR_TOKENS if is_reasoning else FLOOR_TOKENS


def is_reasoning(model: str) -> bool:
    """Whether a model reasons, by its name at the provider; asked when policy is compiled."""
    return _REASONS(model.lower()) is not None


def _prompts(prompt: Any) -> int:
    """How many prompts a legacy completion has: texts, or lists of token ids."""
    if type(prompt) is not list or not prompt:
        return 1
    return 1 if all(type(item) is int for item in prompt) else len(prompt)
