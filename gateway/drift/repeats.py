"""Which answers say nothing new: bursts of one prompt, and the same answer to the same prompt.

Both break what the test rests on, that answers are exchangeable: sessions that come back to one prompt raised
2,457 to 17,607 false alarms in a million answers, and none with at most one of a prompt in 200 (drift.md
4.4).
"""

from __future__ import annotations

from collections import deque

PAIRS = 4096
"""Pairs of prompt and answer that are remembered."""


class Repeats:
    """What came lately, per stratum the last `window` prompts."""

    def __init__(self, strata: int, window: int) -> None:
        self.window = window
        self.prompts: list[dict[int, int]] = [{} for _ in range(strata)]
        """Prompt → the number of the answer, in its stratum, that it last came with."""
        self.answers = [0] * strata
        self.pairs: deque[int] = deque(maxlen=PAIRS)
        self._known: set[int] = set()

    def reason(self, stratum: int, prompt: int, output: int) -> str:
        """Why the next answer is not to be judged: `burst`, `repeat`, or nothing."""
        number = self.answers[stratum] = self.answers[stratum] + 1
        prompts = self.prompts[stratum]
        last = prompts.get(prompt)
        if last is not None and number - last < self.window:
            return "burst"
        prompts[prompt] = number
        if len(prompts) > 2 * self.window:
            for old in [held for held, at in prompts.items() if number - at >= self.window]:
                del prompts[old]
        # Their order matters: an answer that is somebody's prompt is another pair.
        pair = hash((prompt, output))
        if pair in self._known:
            return "repeat"
        if len(self.pairs) == PAIRS:
            self._known.discard(self.pairs[0])
        self.pairs.append(pair)
        self._known.add(pair)
        return ""

    def forget(self, stratum: int) -> None:
        """A stratum's place went to another."""
        self.prompts[stratum] = {}

    def restore(self, pairs: list[int]) -> None:
        """Takes up the pairs of an earlier life."""
        self.pairs.extend(pairs)
        self._known = set(self.pairs)
