"""A golden prompt: what is asked on a schedule, and what a good answer to it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

Comparator = Literal["exact", "json_equal", "numeric", "regex", "schema_valid", "refusal", "similar"]
"""similar: there is no right answer, only answers like the earlier ones (prefix-40 and word-3-grams)."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One prompt. `expected` is what its comparator takes: a text, any JSON, a number, a pattern, a JSON
    Schema, whether it is to be refused, or nothing (similar). `tolerance` is of numeric only."""

    id: str
    ask: str
    comparator: Comparator
    expected: Any = None
    system: str = ""
    tolerance: float = 0.0

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Golden:
        """From the compiled policy."""
        return cls(**table)

    @property
    def kind(self) -> str:
        """closed, format, free or refusal."""
        return KINDS[self.comparator]

    @property
    def messages(self) -> list[dict[str, str]]:
        """What is sent."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.ask}]

    def print_with(self, *settings: object) -> str:
        """Names what an answer depends on: an edited prompt has no earlier answers."""
        told = repr((self.ask, self.system, self.comparator, self.expected, self.tolerance, settings))
        return blake2b(told.encode(), digest_size=8).hexdigest()


KINDS: Mapping[Comparator, str] = {
    "exact": "closed",
    "json_equal": "closed",
    "numeric": "closed",
    "regex": "format",
    "schema_valid": "format",
    "refusal": "refusal",
    "similar": "free",
}
_MESSAGE_TOKENS, _CALL_TOKENS = 16, 64
"""What providers put around each message and each call (Llama 3 adds 30 tokens of its own, OpenAI 7)."""


def most_input_tokens(prompt: Golden) -> int:
    """No tokenizer makes more of it: a token is a byte at least."""
    texts = [message["content"] for message in prompt.messages]
    return sum(len(text.encode()) + _MESSAGE_TOKENS for text in texts) + _CALL_TOKENS
