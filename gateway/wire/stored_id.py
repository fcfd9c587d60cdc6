"""Ids of what a provider stores, as callers get them: each carries its target, its account and its team.

An id that a provider made (`resp_…`) leaves as `resp_<tag><seal>_…`: the tag finds the target, the seal shows
that this gateway gave it to this team. Whoever has the policy can read it: no table is kept, so ids outlive
restarts and hold at every replica; they end with the provider's key that made them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

_PREFIX = "resp_"
_TAG, _SEAL = 4, 12
"""Bytes: one target in 4 billion has another one's tag, and a seal is guessed once in 2^96."""
_HANDED = re.compile(rf"{_PREFIX}[0-9a-f]{{{2 * (_TAG + _SEAL)}}}_([A-Za-z0-9_-]{{1,80}})").fullmatch
_MADE = re.compile(rf"{_PREFIX}([A-Za-z0-9_-]{{1,80}})").fullmatch


class Account(NamedTuple):
    """Where something is stored, and for whom."""

    target: str
    secret: str
    """The provider's key that it was made with; "" for a provider that wants none."""
    team: str

    def hand_out(self, id_: str) -> str:
        """The id for the caller; itself if it is of another form than a stored response's."""
        made = _MADE(id_)
        return id_ if made is None else f"{_PREFIX}{self._mark(made[1])}_{made[1]}"

    def made_by_provider(self, handed: str) -> str | None:
        """The provider's id; None if it was not handed out for this account, or to another team."""
        found = _HANDED(handed)
        if found is None or not handed.startswith(_PREFIX + self._mark(found[1])):
            return None
        return _PREFIX + found[1]

    def _mark(self, rest: str) -> str:
        tag, key = _keyed(self.target, self.secret)
        said = b"%b\0%b" % (self.team.encode(), rest.encode())
        return tag + blake2b(said, key=key, digest_size=_SEAL, person=b"headgate-id").hexdigest()


@lru_cache(1024)
def _keyed(target: str, secret: str) -> tuple[str, bytes]:
    """A target's tag and the key of its seals."""
    tag = blake2b(target.encode(), digest_size=_TAG, person=b"headgate-tag").hexdigest()
    key = blake2b(b"%b\0%b" % (target.encode(), secret.encode()), digest_size=32, person=b"headgate-key")
    return tag, key.digest()


class Renaming:
    """Gives callers their own ids in what a provider writes, as it comes in blocks."""

    __slots__ = ("_left", "_names")

    def __init__(self) -> None:
        self._names: list[tuple[bytes, bytes]] = []
        self._left = b""

    def add(self, made: str, handed: str) -> None:
        """From now on `made` leaves as `handed`."""
        pair = made.encode(), handed.encode()
        if pair not in self._names:
            self._names.append(pair)

    def whole(self, text: bytes) -> bytes:
        """A text that is there whole."""
        for made, handed in self._names:
            text = text.replace(made, handed)
        return text

    def feed(self, block: bytes, *, last: bool = False) -> bytes:
        """What may go on of a text, which may be split anywhere; `last`: nothing follows."""
        text = self._left + block
        kept = 0 if last else max((_begun(text, made) for made, _ in self._names), default=0)
        self._left = text[len(text) - kept :]
        return self.whole(text[: len(text) - kept])


def _begun(text: bytes, name: bytes) -> int:
    """How many bytes at the end of a text may be the beginning of a name."""
    for size in range(min(len(name) - 1, len(text)), 0, -1):
        if text.endswith(name[:size]):
            return size
    return 0
