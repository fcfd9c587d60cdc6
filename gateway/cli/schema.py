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
) -> None:
    """Print the JSON Schema of policy files, for editors."""
    sys.stdout.write(schema_text(prompts=prompts))
