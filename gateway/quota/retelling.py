"""Limits and budgets over a log: buckets that are used by what answers took, one call after the other."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.quota.bucket import Bucket, Out
from gateway.quota.contract import MONEY, RATE
from gateway.quota.rule import Rule
from gateway.quota.window import window

_MEASURES = {"requests": 0, "tokens": 1, "input_tokens": 2, "output_tokens": 3, "usd": 4}


class Retelling:
    """The buckets of one policy, as the calls of a log use them. Times are milliseconds since the epoch, and
    hardly go back."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, str, str], tuple[Bucket, Out]] = {}
        self._windows: dict[tuple[str, str], tuple[str, int, int]] = {}
        self.over: dict[str, int] = {}
        """Rules that only watch → calls that they would have refused."""

    def take(self, rules: Sequence[tuple[Rule, str]], amounts: Sequence[int], at_ms: int) -> Rule | None:
        """Counts a call that takes so much (calls, tokens, input, output, nano-dollars). The rule that
        refuses it, and then nothing is counted; None: it passes."""
        seats = []
        for rule, subject in rules:
            need = amounts[_MEASURES[rule.measure]]
            bucket, out = self._bucket(rule, subject, at_ms)
            bucket.refill(at_ms)
            if bucket.total < need and need > 0:
                if not rule.is_shadow:
                    return rule
                self.over[rule.policy_name] = self.over.get(rule.policy_name, 0) + 1
                if rule.kind == RATE:
                    continue
            seats.append((bucket, out, need))
        for bucket, out, need in seats:
            bucket.use(out, need, bucket.part_at(at_ms), at_ms)
        return None

    def _bucket(self, rule: Rule, subject: str, at_ms: int) -> tuple[Bucket, Out]:
        index = (rule.index, subject, self._window(rule, at_ms) if rule.kind == MONEY else "")
        found = self._buckets.get(index)
        if found is None:
            terms = rule.terms(0)
            found = self._buckets[index] = (Bucket(subject, terms, terms.most, at_ms), Out())
        return found

    def _window(self, rule: Rule, at_ms: int) -> str:
        known = self._windows.get((rule.every, rule.timezone))
        if known is None or not known[1] <= at_ms < known[2]:
            name, starts_ms, ends_ms = window(rule.every, rule.timezone, at_ms)
            known = self._windows[rule.every, rule.timezone] = (name, starts_ms, ends_ms)
        return known[0]
