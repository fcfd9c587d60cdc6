"""`headgate check`: what is wrong with a folder of policies, with the place of every mistake."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.folder import SOMEWHERE, no_secret
from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import load_folder, secret_reader
from gateway.policy.problem import Place, PolicyError, Problem
from gateway.pricing.catalogue import Catalogue


def check(
    folder: Annotated[Path, typer.Argument(help="The folder of policies.", metavar="DIR")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    no_secrets: Annotated[
        bool, typer.Option("--no-secrets", help="Do not read secrets: for places that have none, like CI.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings too.")] = False,
) -> None:
    """Check the policies of a folder: what the gateway would refuse, and what it would warn of.

    Errors are names that do not exist, values that cannot be, secrets that do not resolve. Warnings are
    what is legal and most likely not meant: rules that nothing reaches, budgets that send calls in a circle,
    targets without a price under a budget, expired keys, probes above their budget, more names than metrics
    tell apart.

    Exit codes: 0; 1 if something is wrong; 2 for wrong use.
    """
    compiled, problems = None, []
    try:
        compiled = compile_policy(
            load_folder(folder),
            secret_of=no_secret if no_secrets else secret_reader(),
            row_of=lambda _: -1,
            catalogue=Catalogue(),
            at=datetime.now(UTC),
            simulated_url=SOMEWHERE,
        )
    except PolicyError as exc:
        problems = exc.problems
    warnings = compiled.warnings if compiled is not None else []
    if as_json:
        answer: dict[str, Any] = {
            "ok": compiled is not None,
            "problems": [problem.as_json() for problem in problems],
            "warnings": [warning.as_json() for warning in warnings],
        }
        if compiled is not None:
            answer["summary"] = summary(compiled)
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print("error", "31", problems)
        _print("warning", "33", warnings)
        if compiled is not None:
            print(_sentence(summary(compiled)))
        else:
            print(f"{_count(len(problems), 'error')}: this policy cannot be used")
    raise typer.Exit(0 if compiled is not None and not (strict and warnings) else 1)


def summary(compiled: Compiled) -> dict[str, Any]:
    """What a policy holds, in numbers; `unpriced` are the targets whose cost will not be known."""
    tables = compiled.tables
    targets = {target["name"]: target["price"] for model in tables["models"] for target in model["targets"]}
    return {
        "hash": tables["hash"],
        **{name: len(tables[name]) for name in ("providers", "models", "teams", "keys", "routes")},
        "targets": len(targets),
        "priced": sum(price is not None for price in targets.values()),
        "unpriced": sorted(name for name, price in targets.items() if price is None),
    }


def _sentence(found: dict[str, Any]) -> str:
    sections = ("providers", "models", "teams", "keys", "routes")
    counts = ", ".join(_count(found[section], section.removesuffix("s")) for section in sections)
    priced = f"a price for {found['priced']} of {_count(found['targets'], 'target')}"
    text = f"policy {found['hash']}: {counts}; {priced}"
    return f"{text}\nwithout a price: {', '.join(found['unpriced'])}" if found["unpriced"] else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print(word: str, colour: str, problems: Iterable[Problem]) -> None:
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        word = f"\x1b[{colour}m{word}\x1b[0m"
    for problem in problems:
        place = str(Place(problem.file, problem.line, problem.column))
        print(": ".join(part for part in (place, word, problem.path, problem.message) if part))
