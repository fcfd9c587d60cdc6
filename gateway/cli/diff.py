"""`headgate diff`: what another policy would change, for callers and, with a request log, in money."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.asking import CannotAsk, telling
from gateway.cli.bounds import Fault, bound_of, faults
from gateway.cli.columns import BOLD, RED, YELLOW, coloured, shown, table
from gateway.cli.folder import compiled
from gateway.money import usd_text
from gateway.policy.difference import Change, Effect, Price, changes, effects, prices
from gateway.policy.load import load_folder
from gateway.policy.retold import NEW, OLD, Retold, Sums
from gateway.policy.snapshot import Snapshot
from gateway.wire.json import loads

MOST_ROWS = 60
"""Of a table on a screen; `--json` has all."""


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Folder of the policies as they are.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Folder of the policies as they are to be.")],
    replay: Annotated[
        list[Path] | None,
        typer.Option(
            "--replay", metavar="LOG", help="A request log to try both on (.gz too); may be repeated."
        ),
    ] = None,
    max_cost_increase: Annotated[
        str,
        typer.Option(metavar="X", help="Exit 1 if a team, or all, would spend so much more: 10%, or 25."),
    ] = "",
    max_refused: Annotated[
        str,
        typer.Option(metavar="X", help="Exit 1 if so many more of a team's calls were refused: 1%, or 100."),
    ] = "",
    max_moved: Annotated[
        str,
        typer.Option(metavar="X", help="Exit 1 if so many of a team's calls went elsewhere: 5%, or 100."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what another policy would change: entry by entry, and where each key's calls would go.

    With a request log, which holds numbers and names only, also what would have become of its calls: routes
    changed, calls refused, dollars of each team on each day. So a pull request can be held to bounds:

    \b
    headgate diff main/policies policies
    headgate diff main/policies policies --replay calls.jsonl --max-cost-increase 10% --max-refused 0

    Secrets are not needed. Limits and budgets are counted by what answers took; calls at once, tags, metadata
    and users are not in a log.

    Exit codes: 0; 1 if a bound is passed; 2 if it cannot be told.
    """
    with telling():
        bounds = (
            bound_of("--max-cost-increase", max_cost_increase, is_money=True),
            bound_of("--max-refused", max_refused, is_money=False),
            bound_of("--max-moved", max_moved, is_money=False),
        )
        if any(bounds) and not replay:
            raise CannotAsk("The bounds need a request log: --replay calls.jsonl.")
        sides = [Snapshot.from_tables(compiled(folder).tables) for folder in (old, new)]
        told: dict[str, Any] = {
            "old": sides[OLD].hash,
            "new": sides[NEW].hash,
            "changes": changes(load_folder(old), load_folder(new)),
            "effects": effects(sides[OLD], sides[NEW]),
            "prices": prices(sides[OLD], sides[NEW]),
        }
        retold = None
        wrong: list[Fault] = []
        if replay:
            retold = Retold(sides[OLD], sides[NEW])
            bad = _replay(retold, replay)
            wrong = faults(retold, *bounds)
            told["replay"] = {**_as_json(retold), "unreadable": bad}
            told["faults"] = wrong
    if as_json:
        for name in ("changes", "effects", "prices", "faults"):
            told[name] = [row._asdict() for row in told.get(name, ())]
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_text(told, retold)))
    raise typer.Exit(1 if wrong else 0)


def _replay(retold: Retold, logs: Sequence[Path]) -> int:
    """Takes all lines; how many are none of a request log's."""
    bad = lines = 0
    take = retold.take
    for line in _lines(logs):
        lines += 1
        try:
            take(loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            bad += 1
    if bad == lines:
        raise CannotAsk(f"{logs[0]} holds no line of a request log.")
    return bad


def _lines(logs: Sequence[Path]) -> Iterator[bytes]:
    for log in logs:
        try:
            with gzip.open(log, "rb") if log.suffix == ".gz" else log.open("rb") as file:
                for line in file:
                    if line.strip():
                        yield line
        except OSError as error:
            raise CannotAsk(f"{log} cannot be read: {error.strerror or error}.") from None


def _as_json(retold: Retold) -> dict[str, Any]:
    return {
        "calls": retold.total().calls,
        "undecided": retold.undecided,
        "logged_usd": usd_text(retold.logged_nanousd),
        "not_followed": sorted(retold.unseen),
        "would_refuse": {"old": dict(retold.over[OLD]), "new": dict(retold.over[NEW])},
        "total": _sums(retold.total()),
        "teams": [{"team": team, **_sums(sums)} for team, sums in sorted(retold.teams().items())],
        "days": [
            {"team": team, "day": day, **_sums(sums)} for (team, day), sums in sorted(retold.days.items())
        ],
        "moves": [
            {"team": team, "asked": asked, "before": before, "after": after, **_sums(sums)}
            for (team, asked, before, after), sums in _by_weight(retold)
        ],
    }


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        **{
            f"{side}_{what}": value
            for place, side in ((OLD, "old"), (NEW, "new"))
            for what, value in (
                ("usd", usd_text(sums.nanousd[place])),
                ("refused", sums.refused[place]),
                ("unpriced", sums.unpriced[place]),
            )
        },
    }


def _by_weight(retold: Retold) -> list[tuple[tuple[str, str, str, str], Sums]]:
    return sorted(retold.moves.items(), key=lambda each: (-each[1].calls, each[0]))


def _text(told: dict[str, Any], retold: Retold | None) -> Iterator[str]:
    found: list[Change] = told["changes"]
    if not found and told["old"] == told["new"] and not told["prices"]:
        yield f"policy {told['old']}: both say the same"
    else:
        yield f"policy {told['old']} becomes {told['new']}"
    if found:
        yield from ("", coloured("what is written differently", BOLD))
        yield from map(_change, found)
    effects_: list[Effect] = told["effects"]
    if effects_:
        yield from ("", coloured("where calls go", BOLD))
        for effect in effects_:
            keys = ", ".join(effect.keys[:3]) + (f" and {len(effect.keys) - 3} more" * (len(effect.keys) > 3))
            yield f"  team {effect.team} ({keys}): {effect.asked}: {effect.before} → {effect.after}"
    priced: list[Price] = told["prices"]
    if priced:
        yield from ("", coloured("prices, US dollars per million tokens", BOLD))
        for price in priced:
            yield f"  {price.target}: {price.before or 'not known'} → {price.after or 'not known'}"
    if retold is not None:
        yield ""
        yield from _replayed(told["replay"], retold)
        for fault in told["faults"]:
            yield ""
            yield coloured(f"{fault.message}: more than {fault.bound}", RED)
            yield from (f"  {reason}" for reason in fault.reasons)


def _change(change: Change) -> str:
    if change.what == "changed":
        return f"  {change.path}: {_value(change.before)} → {_value(change.after)}"
    value = change.after if change.before is None else change.before
    return f"  {change.path} {coloured(change.what, YELLOW)}: {_value(value)}"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown(text if len(text) <= 120 else f"{text[:117]}…")


def _replayed(told: dict[str, Any], retold: Retold) -> Iterator[str]:
    days = [row["day"] for row in told["days"]]
    span = f", {min(days)} to {max(days)}" if days else ""
    count = "1 call" if told["calls"] == 1 else f"{told['calls']:,} calls"
    yield coloured(f"{count} of the log{span}", BOLD)
    rows = [(row["team"], row["day"], row) for row in told["days"]]
    if rows:
        head = ("team", "day", "calls", "dollars", "would be", "", "refused", "would be")
        cells = [_cells(team, day, row) for team, day, row in rows[:MOST_ROWS]]
        cells.append(_cells("total", "", told["total"]))
        yield table(head, cells, left=2)
        if len(rows) > MOST_ROWS:
            yield f"and {len(rows) - MOST_ROWS} more rows: --json has them"
    if told["moves"]:
        yield from ("", coloured("what became of them", BOLD))
        yield table(
            ("team", "asked for", "was", "would be", "calls", "dollars", "would be"),
            [
                (
                    *(shown(row[name]) for name in ("team", "asked", "before", "after")),
                    f"{row['calls']:,}",
                    row["old_usd"],
                    row["new_usd"],
                )
                for row in told["moves"][:MOST_ROWS]
            ],
            left=4,
        )
    yield from _notes(told)


def _cells(team: str, day: str, row: dict[str, Any]) -> tuple[str, ...]:
    before, after = float(row["old_usd"]), float(row["new_usd"])
    rise = f"{(after - before) / before:+.1%}" if before else ("" if after == before else "new")
    return (
        shown(team),
        day,
        f"{row['calls']:,}",
        row["old_usd"],
        row["new_usd"],
        rise,
        f"{row['old_refused']:,}",
        f"{row['new_refused']:,}",
    )


def _notes(told: dict[str, Any]) -> Iterator[str]:
    total = told["total"]
    if told["undecided"]:
        yield f"left out: {told['undecided']:,} lines that no policy decided"
    if told["unreadable"]:
        yield f"left out: {told['unreadable']:,} lines that are none of a request log"
    if told["not_followed"]:
        names = ", ".join(told["not_followed"])
        yield f"not followed, since a log does not hold what they look at: {names}"
    if total["new_unpriced"]:
        yield f"{total['new_unpriced']:,} calls would go to targets whose price nobody knows"
    before, logged = float(total["old_usd"]), float(told["logged_usd"])
    if logged and abs(before - logged) > 0.01 * logged:
        yield (
            f"the log itself says ${told['logged_usd']}: another policy was in force, or there were cache "
            "writes, service tiers or audio, which a log does not tell apart"
        )
