"""`headgate probe`: golden prompts, and whether the answers to them are as they were."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from gateway.cli.asking import DEFAULT_STATE, Admin, AdminOption, StateOption, gateway, telling
from gateway.cli.columns import RED, YELLOW, table
from gateway.cli.main import new_app
from gateway.drift.words import moment

app = new_app("Ask golden prompts, and see whether the answers are as they were.")

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name in the policy.")]
TargetOption = Annotated[
    str, typer.Option(metavar="T", help="provider/model; all of the suite's if it is not given.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LOOK_S = 0.5
NANO = 1e-9


@app.callback()
def probe() -> None:
    """Ask golden prompts, and see whether the answers are as they were."""


@app.command()
def status(as_json: JsonOption = False, admin: AdminOption = "", state: StateOption = DEFAULT_STATE) -> None:
    """Show every suite and target, a line each, and what probes have cost today.

    Evidence is a power of ten: without a change it passes 6 once in a million answers.

    Exit codes: 0; 1 if answers changed; 2 if it cannot be told.
    """
    with telling():
        told = json.loads(gateway(admin, state).get("/admin/probes"))
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print(_standing(told))
    if any(suite["state"] == "drift" for suite in told["suites"]):
        raise typer.Exit(1)


@app.command()
def run(
    suite: SuiteArgument,
    target: TargetOption = "",
    as_json: JsonOption = False,
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Ask all prompts of a suite now, within the day's budget, and show each answer's verdict.

    passes: the answer is the expected one; agrees: how far it says the same as earlier ones, 0 to 1.

    Exit codes: 0; 1 if an answer is not as expected or did not come; 2 if it could not be run.
    """
    with telling():
        lines = list(_progress(gateway(admin, state), suite, target))
    if as_json:
        print(json.dumps({"suite": suite, "answers": lines}, indent=2, ensure_ascii=False))
    else:
        print(_verdicts(lines))
    if any(line["result"] != "ok" or line["passes"] is False for line in lines):
        raise typer.Exit(1)


@app.command()
def reset(
    suite: SuiteArgument,
    target: TargetOption = "",
    admin: AdminOption = "",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """End an alarm: what answers are like is learnt anew.

    Exit codes: 0; 2 if it could not be done.
    """
    with telling():
        done = gateway(admin, state).post("/admin/probes/reset", {"suite": suite, "target": target})
    print(f"{suite}: answers of {', '.join(done['targets'])} are learnt anew.")


def _progress(asked: Admin, suite: str, target: str) -> Iterator[dict[str, Any]]:
    """The lines of a run as they come; on a terminal, how many of how many."""
    begun = asked.post("/admin/probes/run", {"suite": suite, "target": target})
    came, done = 0, False
    while not done:
        told = json.loads(asked.get("/admin/probes/run", {"id": begun["id"], "from": str(came)}))
        yield from told["lines"]
        came, done = came + len(told["lines"]), told["done"]
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{came} of {told['total']} answers" + "\n" * done)
            sys.stderr.flush()
        if not done:
            time.sleep(LOOK_S)


def _standing(told: Mapping[str, Any]) -> str:
    suites = told["suites"]
    if not suites:
        return "The policy has no suites of golden prompts: name one under drift.probes.suites."
    head = ("suite", "target", "state", "evidence", "learnt", "pass", "agree", "next")
    rows = [
        [
            each["suite"],
            each["target"],
            each["state"],
            f"{each['evidence']:.1f}",
            f"{each['learnt']} of {each['prompts']}",
            _share(each["pass_ratio"]),
            _share(each["agreement_ratio"]),
            moment(each["due_s"]) if each["due_s"] else "",
        ]
        for each in suites
    ]
    colours = [RED if each["state"] == "drift" else "" for each in suites]
    today, budget = told["today"], told["budget"]
    spent = f"Today: ${today['nanousd'] * NANO:.4f} of ${budget['nanousd'] * NANO:.2f}, "
    spent += f"{today['tokens']:,} of {budget['tokens']:,} tokens."
    alarms = [
        f"{each['target']}: changed since {moment(each['alarm']['since_s'])}, most "
        f"{', '.join(each['alarm']['prompts'])}. When that is how it should be: headgate probe reset "
        f"{each['suite']}"
        for each in suites
        if each["alarm"]
    ]
    return "\n".join([table(head, rows, left=3, colours=colours), "", *alarms, spent])


def _verdicts(lines: Sequence[Mapping[str, Any]]) -> str:
    head = ("target", "prompt", "verdict", "agrees")
    rows, colours = [], []
    for line in lines:
        is_ok = line["result"] == "ok"
        verdict = {True: "passes", False: "fails", None: ""}[line["passes"]] if is_ok else line["result"]
        colours.append(RED if verdict == "fails" else "" if is_ok else YELLOW)
        rows.append([line["target"], line["prompt"], verdict, _share(line["agreement"]) if is_ok else ""])
    passed = sum(line["result"] == "ok" and line["passes"] is True for line in lines)
    expected = sum(line["result"] == "ok" and line["passes"] is not None for line in lines)
    missing = sum(line["result"] != "ok" for line in lines)
    cost = sum(line.get("cost_nanousd", 0) for line in lines) * NANO
    said = f"{passed} of {expected} as expected, {missing} without an answer, ${cost:.4f}."
    whys = sorted({line["why"] for line in lines if line["result"] != "ok"})
    return "\n".join([table(head, rows, left=3, colours=colours), "", said, *whys])


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
