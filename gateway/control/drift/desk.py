"""Where answers are judged: at home (`alone`), or with the other gateways of one Redis (`shared`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.drift.features import Read
from gateway.drift.identity import Change

Name = tuple[str, str]
"""(model, target) of a stream."""


class Outcomes(Protocol):
    """Who wants to know what comes of it. Called by the desk's thread."""

    def skipped(self, reason: str, answers: int = 1) -> None:
        """Answers that are not judged."""

    def analyzed(self, name: Name) -> None:
        """An answer that is."""

    def identity_changed(self, name: Name, change: Change) -> None:
        """A target's answers name somebody else."""

    def counts(self, alarms: Mapping[tuple[str, ...], int]) -> None:
        """(model, target, kind, cause) → alarms ever."""

    def standing(self, streams: list[dict[str, Any]]) -> None:
        """All streams (`Judge.told`)."""

    def tell(self, alarm: dict[str, Any]) -> None:
        """An alarm that is written down, to be told; `Desk.set_told` is called once it was."""


class Desk(Protocol):
    """One thread's. `pause_s` is how long it may be left alone."""

    pause_s: float

    def key(self) -> bytes | None:
        """The key of hashes, if the policy has none; None: not known yet."""

    def use(self, models: Mapping[str, Any]) -> None:
        """Goes by a policy."""

    def take(self, name: Name, read: Read) -> None:
        """One answer."""

    def look(self, now_s: float, *, last: bool = False) -> None:
        """Does what is due, by a clock that only rises."""

    def alarms(self, most: int) -> Sequence[dict[str, Any]]:
        """The latest, newest first."""

    def distributions(self, name: Name) -> list[dict[str, Any]]:
        """`Judge.distributions`."""

    def change(self, what: str, name: Name, *, label: str, config: str, at_s: float) -> str:
        """`Judge.change`."""

    def set_told(self, id_: str) -> None:
        """Everybody who is to know of an alarm does."""

    def close(self) -> None:
        """Nothing is asked of it any more."""


Order = Callable[[Desk], Any]
