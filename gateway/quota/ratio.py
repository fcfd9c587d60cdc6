"""Bytes per token of one model's calls, learned from what its provider reports: for budgets and limits that
hold an estimate. It may be too low; what is held by it is settled exactly.

A ratio learned from use beats a tokenizer that is not the model's own, and costs no time on the line
(tiktoken: 20 to 90 µs per KiB). Until there is use it starts from what `control.vocabulary` counted.
"""

from __future__ import annotations

from gateway.quota.bound import Bound
from gateway.usage import Usage

START = 3.0
"""Bytes per token of a model whose vocabulary is not known. In OpenAI's two, English text has 4.7, JSON and
code 3.5 to 4.1, Chinese 2.5 to 3.9, a log 2.3: less than this start holds for, until it has learned."""
MARGIN = 1.1
"""Tokens held are so many times what the ratio says."""
IMAGE_TOKENS = 1_600
"""Held for an image: the most at Anthropic, 765 to 1,105 for a usual one at OpenAI's gpt-4o."""
AUDIO_BYTES = 512
"""Bytes of base64 per token of audio: 64 kbit/s, 20 tokens a second."""

_DECAY = 0.95
_WEIGHT_TOKENS = 1_000.0
"""The start weighs as much as a call of so many tokens; after twenty like it 3 % of the ratio is its."""
_LEAST, _MOST = 1.0, 16.0


class Ratio:
    """Exponentially decaying sums of bytes and tokens: long calls, which cost most, weigh most."""

    __slots__ = ("_bytes", "_per_byte", "_tokens", "is_learned")

    def __init__(self, start: float = START) -> None:
        self._bytes = start * _WEIGHT_TOKENS
        self._tokens = _WEIGHT_TOKENS
        self._per_byte = MARGIN / self.bytes_per_token
        """Tokens that are held for a byte of text."""
        self.is_learned = False
        """True once a provider has reported something: before that it is a guess about the model."""

    @property
    def bytes_per_token(self) -> float:
        """The ratio as it stands, between 1 (no byte-level token has less) and 16."""
        return min(_MOST, max(_LEAST, self._bytes / self._tokens))

    def learn(self, bound: Bound, usage: Usage) -> None:
        """What a provider reported for a call. Calls with media tell nothing about text, nor do estimates."""
        if not usage.estimated and bound.is_plain:
            self.heed(bound.text_bytes, usage.total_input)

    def heed(self, text_bytes: int, tokens: int) -> None:
        """So many bytes of text were so many tokens."""
        if tokens <= 0:
            return
        self._bytes = total_bytes = self._bytes * _DECAY + text_bytes
        self._tokens = total_tokens = self._tokens * _DECAY + tokens
        found = total_bytes / total_tokens
        self._per_byte = MARGIN / (_LEAST if found < _LEAST else found if found < _MOST else _MOST)
        self.is_learned = True

    def likely_tokens(self, bound: Bound) -> int:
        """Input tokens as they are to be expected, without a margin."""
        tokens = -int(-bound.text_bytes // self.bytes_per_token)
        return min(tokens + bound.images * IMAGE_TOKENS + bound.audio_bytes // AUDIO_BYTES, bound.tokens)

    def input_tokens(self, bound: Bound, image_tokens: int = IMAGE_TOKENS) -> int:
        """Input tokens to hold for a call, never more than its bound."""
        tokens = int(bound.text_bytes * self._per_byte) + 1
        if bound.images or bound.audio_bytes:
            tokens += bound.images * image_tokens + bound.audio_bytes // AUDIO_BYTES
        return tokens if tokens < bound.tokens else bound.tokens
