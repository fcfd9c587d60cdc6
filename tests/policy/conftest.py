"""Policies from text, loaded and compiled as control does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest

from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import load_text, secret_reader
from gateway.pricing.catalogue import Catalogue

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)

CompileText = Callable[..., Compiled]


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture(scope="session")
def compile_text(catalogue: Catalogue) -> CompileText:
    """`compile_text(text, environ)` → Compiled; rows are numbered in the order they are asked for."""

    def compile_it(text: str, environ: Mapping[str, str] | None = None, *, at: datetime = AT) -> Compiled:
        rows: dict[str, int] = {}
        return compile_policy(
            load_text(text, environ or {}),
            secret_of=secret_reader(environ or {}),
            row_of=lambda name: rows.setdefault(name, len(rows)),
            catalogue=catalogue,
            at=at,
            simulated_url="http://127.0.0.1:9999/v1",
        )

    return compile_it
