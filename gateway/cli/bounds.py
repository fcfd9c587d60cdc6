"""The bounds of `headgate diff`: how much more a change may cost, refuse or send elsewhere; and why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gateway.cli.asking import CannotAsk
from gateway.money import NANO_PER_USD, nanousd_of, usd_text
from gateway.policy.retold import NEW, OLD, Retold, Sums, is_refusal

SHOWN_REASONS = 3
CENT = NANO_PER_USD // 100
"""A share of less than that is no increase: of a team that spends nothing, all is infinitely more."""


Move = tuple[str, str, str, str]
"""As in `Retold.moves`."""


class Bound(NamedTuple):
    """A share (0.1 for "10%") or an amount: nano-dollars of money, else calls."""

    text: str
    share: float | None
    amount: int


class Fault(NamedTuple):
    """A bound that is passed: by whom, by how much, and because of which calls."""

    bound: str
    who: str
    message: str
    reasons: list[str]


def bound_of(option: str, text: str, *, is_money: bool) -> Bound | None:
    """The bound that an option gives; None if it is not given. Raises `CannotAsk`."""
    if not text:
        return None
    percent = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) *%", text.strip())
    if percent is not None:
        return Bound(text, float(percent[1]) / 100, 0)
    amount = nanousd_of(text.strip().removeprefix("$"))
    if amount is None or amount < 0 or (not is_money and amount % NANO_PER_USD):
        kind = "dollars like 25" if is_money else "calls like 100"
        raise CannotAsk(f"{option} takes a share like 10%, or {kind}.")
    return Bound(text, None, amount if is_money else amount // NANO_PER_USD)


def faults(retold: Retold, cost: Bound | None, refused: Bound | None, moved: Bound | None) -> list[Fault]:
    """What a change does beyond its bounds, for each team and in all."""
    found: list[Fault] = []
    teams = retold.teams()
    groups = dict(sorted(teams.items()))
    if len(teams) > 1:
        groups["all teams"] = retold.total()
    for who, sums in groups.items():
        name = f"team {who}" if who in teams else who
        team = who if who in teams else ""
        if cost is not None:
            found += _cost(retold, cost, name, team, sums)
        if refused is not None:
            found += _refused(retold, refused, name, team, sums)
        if moved is not None:
            found += _moved(retold, moved, name, team, sums)
    return found


def _cost(retold: Retold, bound: Bound, name: str, team: str, sums: Sums) -> Iterator[Fault]:
    before, after = sums.nanousd
    more = after - before
    allowed = bound.amount if bound.share is None else max(CENT, int(before * bound.share))
    if more > allowed:
        rise = f"{more / before:+.0%}" if before else "from nothing"
        message = f"{name} would spend ${usd_text(after)} instead of ${usd_text(before)} ({rise})"
        reasons = [
            f"{_move(move)}: {sums.calls:,} calls, ${usd_text(sums.nanousd[NEW] - sums.nanousd[OLD])} more"
            for move, sums in _most(retold, team, lambda sums: sums.nanousd[NEW] - sums.nanousd[OLD])
        ]
        yield Fault(f"--max-cost-increase {bound.text}", name, message, reasons)


def _refused(retold: Retold, bound: Bound, name: str, team: str, sums: Sums) -> Iterator[Fault]:
    more = sums.refused[NEW] - sums.refused[OLD]
    allowed = bound.amount if bound.share is None else int(sums.calls * bound.share)
    if more > allowed:
        message = f"{name} would have {more:,} more calls refused, of {sums.calls:,}"
        reasons = [
            f"{_move(move)}: {sums.calls:,} calls"
            for move, sums in _most(retold, team, lambda sums: sums.refused[NEW] - sums.refused[OLD])
        ]
        yield Fault(f"--max-refused {bound.text}", name, message, reasons)


def _moved(retold: Retold, bound: Bound, name: str, team: str, sums: Sums) -> Iterator[Fault]:
    moves = {
        move: sums
        for move, sums in retold.moves.items()
        if (not team or move[0] == team)
        and move[2] != move[3]
        and not (is_refusal(move[2]) or is_refusal(move[3]))
    }
    calls = sum(sums.calls for sums in moves.values())
    allowed = bound.amount if bound.share is None else int(sums.calls * bound.share)
    if calls > allowed:
        message = f"{name} would have {calls:,} calls of {sums.calls:,} answered elsewhere"
        largest = sorted(moves.items(), key=lambda each: -each[1].calls)[:SHOWN_REASONS]
        reasons = [f"{_move(move)}: {sums.calls:,} calls" for move, sums in largest]
        yield Fault(f"--max-moved {bound.text}", name, message, reasons)


def _most(retold: Retold, team: str, weight: Callable[[Sums], int]) -> list[tuple[Move, Sums]]:
    """The moves of a team that weigh most, the heaviest first."""
    mine = [(move, sums) for move, sums in retold.moves.items() if not team or move[0] == team]
    heavy = [each for each in mine if weight(each[1]) > 0]
    return sorted(heavy, key=lambda each: -weight(each[1]))[:SHOWN_REASONS]


def _move(move: Move) -> str:
    _, asked, before, after = move
    if before == after:
        return f"{asked} at {after}, at another price"
    return (
        f"{asked} goes to {after} instead of {before}"
        if not is_refusal(after)
        else (f"{asked} is refused ({after}) instead of {before}")
    )
