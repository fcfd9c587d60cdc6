"""`headgate keys new`: what it prints can be pasted, and works."""

from __future__ import annotations

import hashlib
import re

from typer.testing import CliRunner

from gateway.cli.keys import app, new_key
from gateway.policy.load import load_text


def test_key_is_43_characters_behind_its_prefix() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"hg-[A-Za-z0-9_-]{43}", key) for key in keys)


def test_hash_belongs_to_the_key_and_the_snippet_is_a_policy() -> None:
    done = CliRunner().invoke(app, ["new", "--name", "search-prod", "--team", "search"])
    assert done.exit_code == 0
    key = done.stdout.split()[1]
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert f"sha256  {digest}" in done.stdout
    snippet = done.stdout[done.stdout.index("keys:") :]
    spec = load_text(snippet, {}).spec
    assert (spec.keys["search-prod"].team, spec.keys["search-prod"].sha256) == ("search", digest)


def test_names_that_yaml_would_misread_are_quoted() -> None:
    done = CliRunner().invoke(app, ["new", "--name", "1e3", "--team", "a: b"])
    snippet = done.stdout[done.stdout.index("keys:") :]
    assert load_text(snippet, {}).spec.keys["1e3"].team == "a: b"
