"""`headgate keys`: a caller's key, and its hash for the policy."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Annotated

import typer

app = typer.Typer(
    help="Make keys for callers.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def keys() -> None:
    """Make keys for callers."""


@app.command("new")
def new(
    name: Annotated[str, typer.Option(help="Name of the key, for logs and metrics.")] = "my-key",
    team: Annotated[str, typer.Option(help="The team it belongs to.")] = "my-team",
) -> None:
    """Make a key. It is printed once and kept nowhere; only its SHA-256 goes into the policy."""
    key = new_key()
    digest = hashlib.sha256(key.encode()).hexdigest()
    print(f"key     {key}")
    print(f"sha256  {digest}")
    print()
    print("# Give the key to the caller, it cannot be shown again. This goes into a policy file:")
    print("keys:")
    print(f"  {_yaml(name)}: {{team: {_yaml(team)}, sha256: {_yaml(digest)}}}")


def new_key() -> str:
    """`hg-` and 43 base64url characters: 256 random bits."""
    return f"hg-{secrets.token_urlsafe(32)}"


def _yaml(text: str) -> str:
    """Text as YAML: as it is if nothing could take it for something else."""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", text) else json.dumps(text)
