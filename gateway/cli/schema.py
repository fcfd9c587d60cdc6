"""`headgate schema`: the JSON Schema of policy files."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.policy.schema import schema_text


def schema(
    prompts: Annotated[
        bool, typer.Option("--prompts", help="That of files of golden prompts, in probes/.")
    ] = False,
    tests: Annotated[bool, typer.Option("--tests", help="That of files of expectations, in tests/.")] = False,
) -> None:
    """Print the JSON Schema of policy files, for editors."""
    if prompts and tests:
        raise typer.BadParameter("--prompts and --tests exclude each other.")
    sys.stdout.write(schema_text(prompts=prompts, tests=tests))
