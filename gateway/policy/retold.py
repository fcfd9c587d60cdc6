"""The sums of a replay: calls of a log under two policies, by team, day and what became of them."""

from __future__ import annotations

from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import KEY_EXPIRED
from gateway.policy.replay import EXPIRED, Course, Kind, Side, usage_of
from gateway.policy.snapshot import Snapshot
from gateway.quota.retelling import Retelling
from gateway.quota.rule import Rule
from gateway.wire.dialects.openai_chat import ENDPOINTS

OLD, NEW = 0, 1
_LOT = 1 << 32
_NO_TOKENS = (0, 0, 0, 0)


@dataclass(slots=True)
class Sums:
    """What came of calls on both sides (`OLD`, `NEW`). `unpriced`: served at a price that nobody knows."""

    calls: int = 0
    nanousd: list[int] = field(default_factory=lambda: [0, 0])
    refused: list[int] = field(default_factory=lambda: [0, 0])
    unpriced: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, other: Sums) -> None:
        """Adds another's."""
        self.calls += other.calls
        for mine, more in ((self.nanousd, other.nanousd), (self.refused, other.refused)):
            mine[OLD] += more[OLD]
            mine[NEW] += more[NEW]
        self.unpriced[OLD] += other.unpriced[OLD]
        self.unpriced[NEW] += other.unpriced[NEW]


@dataclass(slots=True)
class _Told:
    """A kind of call: its ways, and the mean of what its answers took."""

    kind: Kind
    team: str
    courses: tuple[Course, Course]
    mean: list[float]
    """Calls, and their four numbers of tokens."""


class Retold:
    """A log under two policies. `take` its lines in order, then read the sums."""

    def __init__(self, old: Snapshot, new: Snapshot) -> None:
        self._sides = Side(old), Side(new)
        self._books = Retelling(), Retelling()
        self._kinds: dict[tuple[str, str, str, bool, str], _Told] = {}
        self._means: dict[tuple[str, str, str], list[float]] = {}
        self._minutes: dict[str, int] = {}
        self.days: dict[tuple[str, str], Sums] = {}
        """By team and day (of UTC)."""
        self.moves: dict[tuple[str, str, str, str], Sums] = {}
        """By team, model asked for, and where calls went: before, now. A refusal is `policy_…`, with the rule
        that is to blame: `policy_budget_spent by NAME`."""
        self.undecided = 0
        """Lines that no policy decided: no valid key, an unknown name, what is passed through."""
        self.logged_nanousd = 0
        """What the log itself says that calls cost."""

    @property
    def unseen(self) -> set[str]:
        """Limits and budgets that cannot be followed by a log."""
        return self._sides[OLD].unseen | self._sides[NEW].unseen

    @property
    def over(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Rules that only watch → calls that they would have refused, on both sides."""
        return self._books[OLD].over, self._books[NEW].over

    def take(self, line: Mapping[str, Any]) -> None:
        """One line of a log. Raises `KeyError`, `TypeError` or `ValueError` if it is none."""
        key, asked = line["key"], line.get("asked") or line["model"]
        endpoint = line.get("endpoint", "chat")
        if key is None or asked is None or asked[:1] == "_" or endpoint not in ENDPOINTS:
            self.undecided += 1
            return
        target, time = line["target"] or "", line["time"]
        index = (key, asked, endpoint, line["stream"], target)
        told = self._kinds.get(index)
        if told is None:
            told = self._kinds[index] = self._told(Kind(*index), line["team"])
        tokens = self._tokens(line, told)
        at_ms = self._ms(time)
        draw = int(line["request_id"][:8], 16) / _LOT if told.courses[NEW].upto else 0.0
        first, first_cost = self._go(OLD, told, draw, at_ms, tokens)
        second, second_cost = self._go(NEW, told, draw, at_ms, tokens)
        self.logged_nanousd += line["cost_nanousd"] or 0
        day = (told.team, time[:10])
        sums = self.days.get(day)
        if sums is None:
            sums = self.days[day] = Sums()
        _count(sums, first_cost, second_cost)
        if first != second or first_cost != second_cost:
            move = (told.team, asked, first, second)
            sums = self.moves.get(move)
            if sums is None:
                sums = self.moves[move] = Sums()
            _count(sums, first_cost, second_cost)

    def teams(self) -> dict[str, Sums]:
        """The sums of each team over all days."""
        found: dict[str, Sums] = {}
        for (team, _), sums in self.days.items():
            found.setdefault(team, Sums()).add(sums)
        return found

    def total(self) -> Sums:
        """All in one."""
        found = Sums()
        for sums in self.days.values():
            found.add(sums)
        return found

    def _told(self, kind: Kind, team: str) -> _Told:
        old, new = self._sides
        mean = self._means.setdefault((kind.key, kind.asked, kind.endpoint), [0.0] * 5)
        return _Told(kind, team, (old.course(kind), new.course(kind, old)), mean)

    def _go(
        self, side: int, told: _Told, draw: float, at_ms: int, tokens: tuple[int, int, int, int]
    ) -> tuple[str, int | str | None]:
        """Where a call goes, and what it costs: None if nobody knows, the refusal if it is refused."""
        course = told.courses[side]
        way = course.ways[0] if len(course.ways) == 1 else course.way(draw)
        if at_ms >= course.expires_ms:
            way = EXPIRED
        spent: tuple[Rule, ...] = ()
        while way.target is not None:
            cost = None
            if way.target.price is not None:
                cost = way.target.price.cost_nanousd(usage_of(*tokens)) if tokens is not _NO_TOKENS else 0
            if not way.rules:
                return way.target.name, cost
            total_input, total_output = tokens[0], tokens[1]
            amounts = (1, total_input + total_output, total_input, total_output, cost or 0)
            blamed = self._books[side].take(way.rules, amounts, at_ms)
            if blamed is None:
                return way.target.name, cost
            instead = self._sides[side].instead(way, blamed, told.kind)
            if instead is None or blamed in spent:
                words = "policy_budget_spent" if blamed.is_money else "policy_rate_limited"
                refused = f"{words} by {blamed.policy_name}"
                return refused, refused
            spent += (blamed,)
            way = instead
        return way.refusal, way.refusal

    def _tokens(self, line: Mapping[str, Any], told: _Told) -> tuple[int, int, int, int]:
        """Input, output, cached and reasoning tokens of an answer; of a call that was refused those of the
        mean of its kind so far, of one that failed none."""
        mean = told.mean
        if line["input_tokens"] is None:
            if line["outcome"] != "refused" or not mean[0]:
                return _NO_TOKENS
            count = mean[0]
            return (
                round(mean[1] / count),
                round(mean[2] / count),
                round(mean[3] / count),
                round(mean[4] / count),
            )
        found = (
            line["input_tokens"],
            line["output_tokens"],
            line["cached_input_tokens"] or 0,
            line["reasoning_tokens"] or 0,
        )
        mean[0] += 1
        mean[1] += found[0]
        mean[2] += found[1]
        mean[3] += found[2]
        mean[4] += found[3]
        return found

    def _ms(self, time: str) -> int:
        """Milliseconds of "2026-11-20T12:00:00.123Z"."""
        minute = self._minutes.get(time[:16])
        if minute is None:
            year, month, day, hour, past = (
                int(time[at:to]) for at, to in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16))
            )
            minute = self._minutes[time[:16]] = timegm((year, month, day, hour, past, 0)) * 1000
        return minute + int(time[17:19]) * 1000 + int(time[20:23])


def is_refusal(name: str) -> bool:
    """Whether where a call went is nowhere."""
    return name.startswith(("policy_", KEY_EXPIRED.error_type, "caller_"))


def _count(sums: Sums, first: int | str | None, second: int | str | None) -> None:
    sums.calls += 1
    for side, cost in ((OLD, first), (NEW, second)):
        if cost is None:
            sums.unpriced[side] += 1
        elif cost.__class__ is str:
            sums.refused[side] += 1
        else:
            sums.nanousd[side] += cost  # type: ignore[operator]
