"""`headgate test`: whether a folder of policies does what the files in its tests/ expect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.asking import CannotAsk, telling
from gateway.cli.columns import RED, coloured
from gateway.cli.explaining import text_of
from gateway.cli.folder import DEFAULT_POLICIES, snapshot
from gateway.clock import now_ms
from gateway.policy.expectations import Verdict, judge, load_expectations
from gateway.policy.explained import as_json as told_of
from gateway.policy.problem import PolicyError
from gateway.policy.snapshot import Snapshot


def test(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The folder of policies.")
    ] = DEFAULT_POLICIES,
    tests: Annotated[
        Path | None, typer.Option("--tests", metavar="DIR", help="The expectations; DIR/tests if not given.")
    ] = None,
    only: Annotated[
        str, typer.Option("--only", "-k", metavar="TEXT", help="Those alone whose name has this text.")
    ] = "",
    why: Annotated[bool, typer.Option("--why", help="Explain each call that fails.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Hold a folder of policies against what is expected of it: who may call what, where calls go, which are
    refused, what they may cost. No secret is needed, and nothing is sent: every provider counts as there.

    Expectations stand in the folder tests/ of the policies; 'headgate schema --tests' has their form:

    \b
    tests:
      - name: the demo's budget ends its calls
        given: {key: demo, model: fast}
        state: {used: {demo-day: 100%}}
        expect: {refused: policy_budget_spent, by: demo-day}

    Exit codes: 0; 1 if something is not as expected; 2 if it cannot be told.
    """
    place = tests or folder / "tests"
    with telling():
        try:
            if not place.is_dir():
                raise CannotAsk(f"There is no folder {place}; see headgate test --help.")
            expectations = [each for each in load_expectations(place) if only in each.spec.name]
        except PolicyError as error:
            raise CannotAsk(f"{place} cannot be used:\n{error}") from None
        if not expectations:
            raise CannotAsk(f"{place} expects nothing" + (f" with {only!r} in its name." if only else "."))
        compiled: dict[datetime | None, Snapshot] = {}

        def at(moment: datetime | None) -> Snapshot:
            if moment not in compiled:
                compiled[moment] = snapshot(folder, at=moment)
            return compiled[moment]

        now = now_ms()
        verdicts = [judge(each, at, now) for each in expectations]
    failed = [verdict for verdict in verdicts if verdict.failures]
    if as_json:
        print(json.dumps(_json(verdicts), indent=2, ensure_ascii=False))
    else:
        for verdict in failed:
            _print(verdict, why=why)
        print(_count(len(verdicts), len(failed)))
    raise typer.Exit(1 if failed else 0)


def _print(verdict: Verdict, *, why: bool) -> None:
    print(f"{coloured('failed', RED)}: {verdict.expectation.spec.name}")
    for failure in verdict.failures:
        print(f"  {failure}")
    if verdict.explanation is None:
        return
    lines = text_of(told_of(verdict.explanation)).splitlines()
    for line in lines if why else lines[:1]:
        print(f"    {line}".rstrip())


def _json(verdicts: Sequence[Verdict]) -> dict[str, object]:
    return {
        "ok": not any(verdict.failures for verdict in verdicts),
        "tests": [
            {
                "name": verdict.expectation.spec.name,
                "file": verdict.expectation.place.file,
                "line": verdict.expectation.place.line,
                "failures": [failure.as_json() for failure in verdict.failures],
                "explanation": None if verdict.explanation is None else told_of(verdict.explanation),
            }
            for verdict in verdicts
        ],
    }


def _count(all_: int, failed: int) -> str:
    if not failed:
        return f"{all_} as expected" if all_ > 1 else "1, as expected"
    return f"{failed} of {all_} not as expected"
