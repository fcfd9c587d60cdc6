"""Who refuses by memory: owners that were told that a bucket is dry. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 4096
"""Buckets that are remembered; of more, those whose time is up are forgotten first, then the oldest. An owner
that is not told waits its few milliseconds out."""


class Refusals:
    """Bucket → the owners that refuse calls without asking, and until when (seconds, monotonic)."""

    def __init__(self) -> None:
        self._until: dict[str, dict[str, float]] = {}

    def note(self, owner: str, bucket: str, until_s: float, now_s: float) -> None:
        """An owner was refused; until then it need not ask again for as much."""
        self._until.setdefault(bucket, {})[owner] = until_s
        if len(self._until) > MOST:
            self._shrink(now_s)

    def freed(self, buckets: Iterable[str], now_s: float, by: str = "") -> dict[str, list[str]]:
        """Something came back to `buckets`, from `by`: owner → those of them that it refuses by memory. They
        are told once."""
        told: dict[str, list[str]] = {}
        if not self._until:
            return told
        for bucket in buckets:
            for owner, until_s in self._until.pop(bucket, {}).items():
                if owner != by and until_s > now_s:
                    told.setdefault(owner, []).append(bucket)
        return told

    def everything_freed(self, now_s: float) -> dict[str, list[str]]:
        """As `freed`, of all buckets: who knows what an owner that died had."""
        return self.freed(list(self._until), now_s)

    def _shrink(self, now_s: float) -> None:
        """Down to half of what may be, so that it is seldom."""
        live = {
            bucket: owners
            for bucket, owners in self._until.items()
            if max(owners.values(), default=0) > now_s
        }
        self._until = dict(list(live.items())[-MOST // 2 :])
