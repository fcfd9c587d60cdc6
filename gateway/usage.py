"""Tokens by kind. The kinds are disjoint and add up to the provider's own totals."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("input", "cached_input", "cache_write", "audio_input", "output", "reasoning", "audio_output")
"""Names of the kinds in metrics and price tables, in the order of `Usage.by_kind`."""

FAST, IN_US = "fast", "us"
"""Tiers that Anthropic does not call so: `speed: fast`, and answers that are made in the US alone
(`inference_geo`), which a workspace may want of every call."""


@dataclass(slots=True)
class Usage:
    """What one answer consumed, in tokens.

    `input` and `output` hold what no other kind holds: a prompt of 100 tokens of which 60 were
    read from a cache is `input=40, cached_input=60`.
    """

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    audio_input: int = 0
    output: int = 0
    reasoning: int = 0
    audio_output: int = 0
    estimated: bool = False
    """True if we counted (a cut stream, a provider that reports nothing), False if the provider did."""
    service_tier: str = ""
    """The tier the answer names (OpenAI's `service_tier`), for prices that depend on it."""
    hour_cache_write: int = 0
    """Of `cache_write`, what is kept for an hour: Anthropic charges 2 times the input's price for it instead
    of 1.25."""
    searches: int = 0
    """Web searches that are charged beside the tokens: as many as the call asked for."""

    @property
    def total_input(self) -> int:
        """All input tokens: the provider's `prompt_tokens`."""
        return self.input + self.cached_input + self.cache_write + self.audio_input

    @property
    def total_output(self) -> int:
        """All output tokens: the provider's `completion_tokens`."""
        return self.output + self.reasoning + self.audio_output

    def has_parts(self) -> bool:
        """True if there is any kind but plain input and output: most answers have no other."""
        return bool(
            self.cached_input or self.reasoning or self.cache_write or self.audio_input or self.audio_output
        )

    def by_kind(self) -> tuple[int, int, int, int, int, int, int]:
        """Tokens in the order of `KINDS`."""
        return (
            self.input,
            self.cached_input,
            self.cache_write,
            self.audio_input,
            self.output,
            self.reasoning,
            self.audio_output,
        )


def split_usage(
    total_input: int,
    total_output: int,
    *,
    cached: int = 0,
    written: int = 0,
    audio_in: int = 0,
    reasoning: int = 0,
    audio_out: int = 0,
) -> Usage:
    """Disjoint kinds from totals and the parts a provider names.

    A part never exceeds what is left of its total, so the sum of the kinds is the total even when a
    provider's parts overlap (cached audio is counted as cached).
    """
    cached = min(cached, total_input)
    written = min(written, total_input - cached)
    audio_in = min(audio_in, total_input - cached - written)
    reasoning = min(reasoning, total_output)
    audio_out = min(audio_out, total_output - reasoning)
    return Usage(
        input=total_input - cached - written - audio_in,
        cached_input=cached,
        cache_write=written,
        audio_input=audio_in,
        output=total_output - reasoning - audio_out,
        reasoning=reasoning,
        audio_output=audio_out,
    )


def estimated_usage(input_bytes: int, output_bytes: int) -> Usage:
    """For an answer whose provider reports nothing: four bytes a token (OpenAI's rule of thumb)."""
    return Usage(input=-(-input_bytes // 4), output=-(-output_bytes // 4), estimated=True)
