"""Texts of answers, where the policy asks for them (`drift.privacy.exemplars: text`): in memory alone, and
gone after a time.

The latest of each stream are kept, since an alarm names answers that came before it, and what an alarm named;
none of them for longer than the policy says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

LATEST = 32
"""Answers of one stream that are kept for an alarm to come: it names the last of those since the change."""
MOST_HELD = 1_000
TEXT_CHARS = 2_000
"""Of a longer text the beginning."""

Name = tuple[str, str]


class Texts:
    """`keep_s`: how long what an alarm names is kept, in seconds. Not for several threads."""

    def __init__(self, keep_s: float) -> None:
        self.keep_s = keep_s
        self._latest: dict[Name, OrderedDict[str, tuple[str, float]]] = {}
        self._held: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._looked_s = float("-inf")

    def keep(self, name: Name, digest: int, text: str, now_s: float) -> None:
        """An answer that was looked at. `digest` is the keyed hash that an alarm names it by."""
        latest = self._latest.setdefault(name, OrderedDict())
        latest[f"{digest:016x}"] = text[:TEXT_CHARS], now_s + self.keep_s
        if len(latest) > LATEST:
            latest.popitem(last=False)

    def hold(self, name: Name, digests: Iterable[str]) -> None:
        """An alarm names these."""
        latest = self._latest.get(name, OrderedDict())
        for digest in digests:
            known = latest.get(digest)
            if known is not None:
                self._held[digest] = known
        while len(self._held) > MOST_HELD:
            self._held.popitem(last=False)

    def told(self, digests: Iterable[str], now_s: float) -> list[dict[str, str]]:
        """What of these is still kept, as {"hash", "text"}."""
        known = ((digest, self._held.get(digest, ("", now_s))) for digest in digests)
        return [{"hash": digest, "text": text} for digest, (text, until_s) in known if until_s > now_s]

    def expire(self, now_s: float) -> None:
        """Forgets what is older than the policy lets it be. Asked at every answer, it looks once a second."""
        if now_s < self._looked_s + 1.0:
            return
        self._looked_s = now_s
        for kept in (self._held, *self._latest.values()):
            for digest in [digest for digest, (_, until_s) in kept.items() if until_s <= now_s]:
                del kept[digest]
