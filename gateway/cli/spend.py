"""`headgate spend`: what was spent, by whom and on what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.asking import (
    DEFAULT_STATE,
    Admin,
    AdminOption,
    CannotAsk,
    StateOption,
    ledger_of,
    running,
    telling,
)
from gateway.cli.columns import shown, table
from gateway.clock import now_ms
from gateway.quota.moment import FORMS, iso, moment_ms
from gateway.quota.row import TOKENS
from gateway.quota.spending import BY, priced, summed, written
from gateway.stores import ledger


def spend(
    by: Annotated[
        str, typer.Option(metavar="COLUMN,…", help=f"A row for each of these: {', '.join(BY)}.")
    ] = "team,model",
    since: Annotated[str, typer.Option(metavar="WHEN", help=f"From then on: {FORMS}.")] = "this-month",
    until: Annotated[
        str, typer.Option(metavar="WHEN", help="To before then, in the same forms; a date is its midnight.")
    ] = "now",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Show what was spent, from the usage ledger.

    Every attempt at a provider counts as a call. Days, hours and dates are of UTC. Money is exact, in US
    dollars. The running gateway is asked; if none runs, the ledger in the state folder is read.

    \b
    headgate spend --by team,model,day --since 2026-11-01
    headgate spend --by key --since 7d --csv > week.csv

    Exit codes: 0; 2 if it cannot be told.
    """
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other.")
    columns = [name.strip() for name in by.split(",") if name.strip()]
    if wrong := [name for name in columns if name not in BY]:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(BY)}.", param_hint="--by")
    moments = _span(since, until)
    with telling():
        gateway = Admin(admin) if admin else running(state)
        if gateway is None:
            answer = _from_file(state, columns, moments)
        else:
            answer = _from(gateway, {"by": ",".join(columns), "since": since, "until": until})
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    elif as_csv:
        print(written(answer["rows"], columns), end="")
    else:
        print(_table(answer["rows"], answer["total"], columns))
        print(f"\nfrom {answer['since']} to before {answer['until']}")


def _span(since: str, until: str) -> tuple[int, int]:
    now = now_ms()
    moments = []
    for name, text in (("--since", since), ("--until", until)):
        try:
            moments.append(moment_ms(text, now))
        except ValueError as wrong:
            raise typer.BadParameter(f"{wrong}.", param_hint=name) from None
    return moments[0], moments[1]


def _from(gateway: Admin, query: Mapping[str, str]) -> dict[str, Any]:
    try:
        return dict(json.loads(gateway.get("/admin/spend", query)))
    except ValueError:
        raise CannotAsk("What answers there is no gateway.") from None


def _from_file(state: Path, by: Sequence[str], moments: tuple[int, int]) -> dict[str, Any]:
    with ledger_of(state) as connection:
        rows = ledger.spend(connection, by, *moments)
    span = {"by": list(by), "since": iso(moments[0]), "until": iso(moments[1])}
    return {**span, "rows": [priced(row) for row in rows], "total": priced(summed(rows))}


def _table(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any], by: Sequence[str]) -> str:
    """Columns of tokens that are 0 everywhere are left out."""
    tokens = [name for name in TOKENS if total[name] or name in ("input", "output")]
    columns = [*by, "calls", *tokens, "usd"]
    cells = [[shown(row[name]) for name in columns] for row in rows]
    if by:
        cells.append(["total", *[""] * (len(by) - 1), *(shown(total[name]) for name in columns[len(by) :])])
    return table(columns, cells, left=len(by))
