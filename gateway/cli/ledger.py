"""`headgate ledger`: whether the books agree."""

from __future__ import annotations

import json
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
from gateway.cli.columns import RED, coloured, shown
from gateway.cli.main import new_app
from gateway.stores import ledger as books

app = new_app("Check the usage ledger.")


@app.callback()
def ledger() -> None:
    """Check the usage ledger."""


@app.command()
def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Prove that usage rows, holds and balances agree.

    For every budget, what was posted must be the sum of what its calls were charged and of what was booked
    for crashes. The running gateway is asked; if none runs, the ledger in the state folder is read.

    Exit codes: 0 if all agrees; 1 if something does not, one line for each; 2 if it cannot be told.
    """
    with telling():
        gateway = Admin(admin) if admin else running(state)
        if gateway is None:
            with ledger_of(state) as connection:
                problems = books.verify(connection)
        else:
            problems = _asked(gateway)
    if as_json:
        print(json.dumps({"ok": not problems, "problems": problems}, indent=2, ensure_ascii=False))
    elif problems:
        for problem in problems:
            print(coloured(shown(problem), RED))
    else:
        print("The books agree.")
    raise typer.Exit(1 if problems else 0)


def _asked(gateway: Admin) -> list[str]:
    try:
        answer: Any = json.loads(gateway.get("/admin/ledger/verify"))
        return [str(problem) for problem in answer["problems"]]
    except (ValueError, KeyError, TypeError):
        raise CannotAsk("What answers there is no gateway.") from None
