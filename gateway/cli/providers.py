"""`headgate providers`: who can be named in a policy without saying more, and what is known of each."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gateway.cli.columns import table
from gateway.policy.providers import PRESETS, Preset
from gateway.wire.dialect import SPOKEN

_CALLS = ("chat", "completions", "embeddings", "count_tokens")
_AUTH = {"bearer": "Authorization: Bearer"}


def providers(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, by name.")] = False,
) -> None:
    """List the providers that are known by name.

    A policy that says `providers: {mistral: {api_key: {env: MISTRAL_API_KEY}}}` needs nothing more. Any other
    that speaks one of the dialects is named with its `base_url` and `dialect`. A provider whose dialect has
    no completions answers them by a chat.

    Exit codes: 0.
    """
    found = {name: _told(preset) for name, preset in PRESETS.items()}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    head = ("NAME", "DIALECT", "BASE URL", "KEY", "SENT AS", "CALLS", "PRICES")
    rows = [
        (
            name,
            told["dialect"],
            told["base_url"] or "(yours)",
            told["api_key_env"] or ("none" if _is_local(told["base_url"]) else "(yours)"),
            told["auth"],
            ", ".join(told["calls"]),
            "known" if told["has_prices"] else "(yours)",
        )
        for name, told in found.items()
    ]
    typer.echo(table(head, rows, left=len(head)))


def _is_local(url: str | None) -> bool:
    """True for servers that run beside Headgate and want no key."""
    return url is not None and url.startswith("http://127.0.0.1")


def _told(preset: Preset) -> dict[str, Any]:
    speaks = SPOKEN[preset.dialect]
    return {
        "dialect": preset.dialect,
        "base_url": preset.base_url,
        "api_key_env": preset.key_env,
        "auth": _AUTH.get(preset.auth, preset.auth),
        "headers": dict(preset.headers),
        "calls": [call for call in _CALLS if speaks.path_of(call) is not None]
        + ["responses"] * preset.responses,
        "has_prices": preset.prices is not None,
    }
