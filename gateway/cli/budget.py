"""`headgate budget`: how limits and budgets stand, and more money for one."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from gateway.cli.asking import (
    DEFAULT_STATE,
    Admin,
    AdminOption,
    CannotAsk,
    StateOption,
    gateway,
    path_of,
    telling,
)
from gateway.cli.columns import RED, YELLOW, shown, table
from gateway.cli.main import new_app
from gateway.money import nanousd_of

app = new_app("See limits and budgets; top a budget up.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The budget's name in the policy.")]
SubjectOption = Annotated[
    str, typer.Option(metavar="S", help="Whose: as `budget list` shows it, like team=search, or search.")
]
NoteOption = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the ledger.")]
PAGE = "1000"


@app.callback()
def budget() -> None:
    """See limits and budgets; top a budget up."""


@app.command("list")
def list_(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Only this budget or limit; * is a wildcard.")
    ] = "",
    subject: SubjectOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Show how limits and budgets stand, a line for each subject.

    Held is the most that calls under way may still take; free is what nobody has. Between them may lie what
    workers keep in store, which any call can have. Money is exact, in US dollars.

    Exit codes: 0; 2 if it cannot be told.
    """
    with telling():
        rows = _all(gateway(admin, state), {"name": name, "subject": subject, "limit": PAGE})
    if as_json:
        print(json.dumps({"budgets": rows}, indent=2, ensure_ascii=False))
        return
    print(_table(rows) if rows else "There are none.")


@app.command("top-up")
def top_up(
    name: NameArgument,
    usd: Annotated[
        str,
        typer.Option(metavar="X", help="US dollars, like 25 or 0.50; with --usd=-25 they are taken away."),
    ],
    subject: SubjectOption = "",
    note: NoteOption = "",
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Add to a budget until its window ends; the next one begins as the policy says.

    The ledger keeps who did it and the note. Not done twice if it fails: see `budget list` what happened.

    Exit codes: 0; 2 if it could not be done.
    """
    if not nanousd_of(usd):
        raise typer.BadParameter("takes US dollars with at most nine decimals.", param_hint="--usd")
    with telling():
        body = {"usd": usd, "subject": subject, "note": note, "by": _me()}
        print(_table([gateway(admin, state).post(path_of("budgets", name, "top-up"), body)["budget"]]))


@app.command()
def reset(
    name: NameArgument,
    subject: SubjectOption = "",
    note: NoteOption = "",
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Make the whole limit of a budget available again, for one subject or for all.

    What was spent stays in the books: the window's limit becomes what was spent and the whole limit again.
    The ledger keeps who did it and the note.

    Exit codes: 0; 2 if it could not be done.
    """
    with telling():
        body = {"subject": subject, "note": note, "by": _me()}
        print(_table(gateway(admin, state).post(path_of("budgets", name, "reset"), body)["budgets"]))


def _all(asked: Admin, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """All pages."""
    rows: list[dict[str, Any]] = []
    after = ""
    while True:
        try:
            page = json.loads(asked.get("/admin/budgets", {**query, "after": after}))
            rows += page["budgets"]
            after = page["next"]
        except (ValueError, KeyError, TypeError):
            raise CannotAsk("What answers there is no gateway.") from None
        if not after:
            return rows


def _me() -> str:
    """Who says to be at the keyboard."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return ""


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("name", "counts", "subject", "window", "limit", "spent", "held", "free", "used")
    colours = [RED if row["used_share"] >= 1 else YELLOW if row["used_share"] >= 0.8 else "" for row in rows]
    return table(head, [_cells(row) for row in rows], left=4, colours=colours)


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = row["name"] + (" (shadow)" if row["mode"] == "shadow" else "")
    first = [name, row["measure"], row["subject"]]
    used = f"{100 * row['used_share']:.1f} %"
    if row["kind"] == "limit":
        window = f"per {row['per_s']:g} s" if "per_s" in row else "at once"
        amounts = [shown(row["limit"]), "", shown(row["held"]), shown(row["free"])]
        return [shown(cell) for cell in (*first, window)] + [*amounts, used]
    window = row["window"]["name"] + (" (ended)" if row["window"].get("ended") else "")
    topped_up = row["topped_up_usd"]
    limit = row["limit_usd"]
    if nanousd_of(topped_up):
        limit += topped_up if topped_up.startswith("-") else f"+{topped_up}"
    amounts = [limit, row["spent_usd"], row["held_usd"], row["free_usd"]]
    return [shown(cell) for cell in (*first, window, *amounts)] + [used]
