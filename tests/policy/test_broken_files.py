"""A whole policy, broken at every place in every way: each file is refused, with the line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import load_folder, secret_reader
from gateway.policy.problem import PolicyError
from gateway.pricing.catalogue import Catalogue

ENVIRON = {"A_KEY": "sk-a", "B_KEY": "sk-b", "REDIS_URL": "redis://h"}
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MATCH = {"team": ["t"], "key": ["k"], "tag": ["x"], "model": ["m*"], "endpoint": ["chat"], "stream": True}
RULE = {"match": {"tag": ["x"], "target": ["p/*"]}, "per": ["key"], "mode": "shadow", "max_subjects": 5}
PRICES = ("input", "cached_input", "cache_write", "audio_input", "output", "reasoning", "audio_output")
FEES = ("per_call", "per_search")
GOOD: dict[str, Any] = {
    "version": 1,
    "providers": {
        "p": {
            "preset": "openai",
            "dialect": "openai",
            "base_url": "https://h/v1",
            "api_keys": [{"env": "A_KEY"}, {"env": "B_KEY"}],
            "auth": "bearer",
            "stream_options": False,
            "headers": {"x-a": "b", "x-c": {"env": "A_KEY"}},
            "tls": {"ca_file": "/a", "client_cert": "/b", "client_key": "/c", "verify": True},
            "proxy": "http://proxy:3128",
            "max_connections": 10,
            "idle": "30s",
            "optional": True,
        },
        "azure": {"resource": "r", "api_version": "2024-10-21", "api_key": {"env": "A_KEY"}},
    },
    "models": {
        "m": {
            "strategy": "weighted",
            "targets": [
                "azure/x",
                {"provider": "p", "model": "y", "weight": 2, "match": {**MATCH, "metadata": {"a": ["b"]}}},
                {
                    "provider": "p",
                    "model": "z",
                    "limits": {
                        "requests": "5/s",
                        "tokens": "1k/s",
                        "concurrent": 3,
                        "burst": {"tokens": "2k"},
                    },
                    "context": 1000,
                    "max_output": 100,
                    "reasoning": True,
                },
            ],
            "fallback_on": ["timeout", "connect"],
            "timeouts": {"connect": "5s", "first_token": "10s", "stall": "10s", "total": "1m"},
            "retries": {"attempts": 1, "budget": "20%"},
            "health": {"failures": 5, "eject": "30s"},
        }
    },
    "teams": {"t": {"models": ["*"]}},
    "keys": {"k": {"team": "t", "sha256": SHA, "expires": "2027-01-31", "models": ["m"]}},
    "prices": {"p/*": dict.fromkeys(PRICES + FEES, 0.5)},
    "routes": [{"name": "r", "match": {"tag": ["cheap"]}, "use": "m"}],
    "limits": [
        {
            "name": "l",
            **RULE,
            "requests": "5/min",
            "output_tokens": "1m/day",
            "strict": True,
            "burst": {"requests": 3},
        },
        {"name": "one", "input_tokens": "5k/s", "burst": 9, "when_store_down": "open"},
    ],
    "budgets": [
        {
            "name": "b",
            "usd": 1.5,
            "every": "week",
            "timezone": "Europe/Berlin",
            "alert_at": ["50%", 0.8],
            "when_spent": {"use": "m"},
            "class": "estimate",
            "default_output_tokens": 100,
            "unbounded": "refuse",
            "unpriced": "allow",
        },
        {
            "name": "r",
            "match": {"tag": ["x"]},
            "per": "team",
            "usd": 1,
            "rolling": "30d",
            "when_spent": "reject",
        },
    ],
    "store": {"redis": {"env": "REDIS_URL"}, "accept_lossy_store": False},
    "alerts": {"webhook": "https://h/x", "secret": {"env": "A_KEY"}},
    "admin": {"keys": [{"sha256": SHA}]},
}
"""Every field that a policy may have."""

Step = str | int
Break = Callable[[str], str]
"""The text of a node → what stands there instead."""

OF_MAPPINGS: dict[str, Break] = {
    "a list": lambda text: '["zzz"]',
    "a number": lambda text: "1",
    "an unknown key": lambda text: '{"z z z": [[1]], ' + text[1:],
    "a key that is no text": lambda text: "{[1]: 2, " + text[1:],
    "a merge key": lambda text: '{<<: {"a": 1}, ' + text[1:],
}
OF_LISTS: dict[str, Break] = {
    "a mapping": lambda text: '{"zzz": 1}',
    "a list in it": lambda text: "[[[1]], " + text[1:],
    "a mapping in it": lambda text: '[{"zzz": 1}, ' + text[1:],
}
OF_SCALARS: dict[str, Break] = {
    "a mapping": lambda text: '{"zzz": 1}',
    "a list of lists": lambda text: "[[1]]",
}
OF_ALL: dict[str, Break] = {
    "a tag": lambda text: f"!!x {text}",
    "an anchor": lambda text: f"&x {text}",
    "an alias": lambda text: "*x",
    "a tab before it": lambda text: f"\n\t{text}",
    "an unset variable": lambda text: '"${NOT_SET_ANYWHERE}"',
}


def rendered(node: Any, broken: tuple[Step, ...] | None = None, how: Break = str, depth: int = 0) -> str:
    """A document as text, each entry on a line of its own, broken at one path."""
    pad = "  " * (depth + 1)

    def inner(step: Step, child: Any) -> str:
        inside = broken[1:] if broken and broken[0] == step else None
        return rendered(child, inside, how, depth + 1)

    if isinstance(node, dict):
        lines = [f"{pad}{json.dumps(name)}: {inner(name, child)}" for name, child in node.items()]
        text = "{\n" + ",\n".join(lines) + "\n" + pad[2:] + "}"
    elif isinstance(node, list):
        lines = [pad + inner(place, child) for place, child in enumerate(node)]
        text = "[\n" + ",\n".join(lines) + "\n" + pad[2:] + "]"
    else:
        text = json.dumps(node)
    return how(text) if broken == () else text


def nodes(node: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    yield path, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, child in children:
        yield from nodes(child, (*path, step))


def broken_at_every_node() -> Iterator[tuple[str, str, int]]:
    """(name, text, the line where it is broken). What no value may be is tried in turn, as the reader of the
    file finds it whatever the field."""
    of_all = cycle(OF_ALL.items())
    for path, node in nodes(GOOD):
        of_kind = (
            OF_MAPPINGS if isinstance(node, dict) else OF_LISTS if isinstance(node, list) else OF_SCALARS
        )
        where = ".".join(map(str, path)) or "the file"
        line = rendered(GOOD, path, lambda text: "\0").partition("\0")[0].count("\n") + 1
        for what, how in (*of_kind.items(), next(of_all)):
            yield f"{where}: {what}", rendered(GOOD, path, how), line + (what == "a tab before it")


def cut_everywhere() -> Iterator[tuple[str, str]]:
    """As it is while somebody writes it."""
    text = rendered(GOOD)
    for place in range(1, 101):
        at = len(text) * place // 101
        yield f"cut after {at} bytes", text[:at]


def doubled() -> Iterator[tuple[str, str, str]]:
    """(name, text, the key that is there twice)."""
    for path, node in nodes(GOOD):
        for name in node if isinstance(node, dict) else ():
            again = f"{{{json.dumps(name)}: 1, "
            text = rendered(GOOD, path, lambda text, again=again: again + text[1:])
            yield ".".join(map(str, (*path, name))), text, name


def without(path: tuple[Step, ...]) -> str:
    """The policy without one entry."""
    copy: Any = json.loads(json.dumps(GOOD))
    node = copy
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    return rendered(copy)


NEEDED = (
    ("providers",),
    ("providers", "p"),
    ("providers", "azure"),
    ("providers", "azure", "resource"),
    ("providers", "p", "tls", "client_key"),
    ("providers", "p", "tls", "client_cert"),
    ("models",),
    ("models", "m"),
    ("models", "m", "targets"),
    ("models", "m", "targets", 1, "provider"),
    ("models", "m", "targets", 1, "model"),
    ("teams",),
    ("teams", "t"),
    ("teams", "t", "models"),
    ("keys",),
    ("keys", "k"),
    ("keys", "k", "team"),
    ("keys", "k", "sha256"),
    ("prices", "p/*", "input"),
    ("prices", "p/*", "output"),
    ("routes", 0, "name"),
    ("routes", 0, "match"),
    ("routes", 0, "use"),
    ("limits", 0, "name"),
    ("limits", 1, "input_tokens"),
    ("budgets", 0, "usd"),
    ("budgets", 0, "every"),
    ("budgets", 1, "rolling"),
    ("alerts", "webhook"),
    ("admin", "keys", 0, "sha256"),
)
"""What others refer to, or what must be there."""


@pytest.fixture(scope="module")
def refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], PolicyError]:
    """`refused(text)`: why the folder with this file is refused. Anything but a `PolicyError` escapes."""
    folder, catalogue = tmp_path_factory.mktemp("policies"), Catalogue()

    def load(text: str) -> PolicyError:
        (folder / "policy.yaml").write_text(text)
        with pytest.raises(PolicyError) as caught:
            compiled(folder, catalogue)
        assert {problem.file for problem in caught.value.problems} == {str(folder / "policy.yaml")}
        return caught.value

    return load


def compiled(folder: Path, catalogue: Catalogue) -> Compiled:
    return compile_policy(
        load_folder(folder, ENVIRON),
        secret_of=secret_reader(ENVIRON),
        row_of=lambda name: 0,
        catalogue=catalogue,
        at=datetime(2026, 11, 20, tzinfo=UTC),
    )


def test_policy_is_good_before_it_is_broken(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(rendered(GOOD))
    assert compiled(tmp_path, Catalogue()).tables["models"]


def test_broken_node_is_named_with_its_line(refused: Callable[[str], PolicyError]) -> None:
    rows = list(broken_at_every_node())
    assert len(rows) > 500
    wrong = []
    for name, text, line in rows:
        lines = {problem.line for problem in refused(text).problems}
        # What is wrong inside a reference to a secret is said of the reference: it may be the secret.
        expected = {line, line - 1} if name.partition(":")[0].endswith(".env") else {line}
        if not lines & expected:
            wrong.append((name, line, lines))
    assert wrong == []


def test_file_that_was_cut_is_refused(refused: Callable[[str], PolicyError]) -> None:
    for name, text in cut_everywhere():
        assert all(problem.line > 0 for problem in refused(text).problems), name


def test_key_that_is_there_twice_is_named(refused: Callable[[str], PolicyError]) -> None:
    for where, text, name in doubled():
        messages = [problem.message for problem in refused(text).problems]
        assert any(f"the key {name!r} is given twice" in message for message in messages), where


@pytest.mark.parametrize("path", NEEDED, ids=lambda path: ".".join(map(str, path)))
def test_what_is_missing_is_named(path: tuple[Step, ...], refused: Callable[[str], PolicyError]) -> None:
    assert all(problem.line > 0 for problem in refused(without(path)).problems)
