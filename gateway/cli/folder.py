"""A folder of policies as commands look at it: compiled as a gateway would, without its secrets."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.asking import CannotAsk
from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import load_folder, secret_reader
from gateway.policy.merge import Policy
from gateway.policy.parts import SecretRef
from gateway.policy.problem import NOT_READ, PolicyError
from gateway.policy.providers import PRESETS
from gateway.policy.snapshot import Snapshot
from gateway.pricing.catalogue import Catalogue

SOMEWHERE = "http://127.0.0.1:1/v1"
"""Stands for the simulated provider, which no command but serve starts."""

PoliciesOption = Annotated[
    Path, typer.Option(envvar="HEADGATE_POLICIES", metavar="DIR", help="Folder of policy files (YAML).")
]
DEFAULT_POLICIES = Path("policies")


def no_secret(ref: SecretRef) -> str:
    """Stands for every secret where none are read."""
    return NOT_READ


def compiled(folder: Path, *, at: datetime | None = None, looks: bool = False) -> Compiled:
    """The policies of a folder as they are at a moment (now, if none is given). No secret is needed; `looks`:
    an optional provider is left out if its key is not there, as a gateway would that is started here. Raises
    `CannotAsk`."""
    try:
        policy = load_folder(folder)
        rows: dict[str, int] = {}
        return compile_policy(
            policy,
            secret_of=_absence(policy) if looks else no_secret,
            row_of=lambda name: rows.setdefault(name, len(rows)),
            catalogue=Catalogue(),
            at=at or datetime.now(UTC),
            simulated_url=SOMEWHERE,
        )
    except PolicyError as error:
        count = len(error.problems)
        problems = "1 problem" if count == 1 else f"{count} problems"
        raise CannotAsk(f"{folder} cannot be used, {problems}:\n{error}") from None


def snapshot(folder: Path, *, at: datetime | None = None, looks: bool = False) -> Snapshot:
    """The same as workers would hold it. Raises `CannotAsk`."""
    return Snapshot.from_tables(compiled(folder, at=at, looks=looks).tables)


def _absence(policy: Policy) -> Callable[[SecretRef], str]:
    """Reads nothing but whether the keys of optional providers are there."""
    read = secret_reader(os.environ)
    optional: set[SecretRef] = set()
    for name, provider in policy.spec.providers.items():
        if provider.optional:
            preset = PRESETS.get(provider.preset or name)
            implied = () if preset is None or preset.key_env is None else (SecretRef(env=preset.key_env),)
            optional.update(provider.secrets or implied)

    def secret_of(ref: SecretRef) -> str:
        # What it is counts too: a caller's key that was put there by mistake is as good as none.
        return read(ref) if ref in optional else NOT_READ

    return secret_of
