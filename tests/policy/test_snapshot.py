"""Tables as control ships them become the snapshot that a worker looks everything up in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from gateway.policy.snapshot import Key, Provider, Snapshot
from gateway.usage import Usage
from tests.policy.conftest import CompileText

TOKEN = b"hg-0123456789"
SECRETS = {
    "ONE": "sk-secret-one",
    "TWO": "sk-secret-two",
    "ORG": "org-secret",
    "PROXY": "http://u:pw@proxy:3128",
}
POLICY = {
    "providers": {
        "one": {
            "base_url": "http://one:8000/v1",
            "api_keys": [{"env": "ONE"}, {"env": "TWO"}],
            "headers": {"X-Org": {"env": "ORG"}},
            "proxy": {"env": "PROXY"},
            "max_connections": 9,
            "idle": "5s",
        },
        "bare": {"base_url": "https://bare/api", "stream_options": False},
    },
    "models": {
        "fast": {
            "strategy": "weighted",
            "targets": [
                {"provider": "one", "model": "a", "weight": 3},
                {"provider": "bare", "model": "b", "weight": 0, "match": {"stream": True}},
            ],
            "fallback_on": ["connect", "stall"],
            "retries": {"attempts": 4, "budget": "30%", "uncertain": True},
            "keep_alive": "off",
            "timeouts": {"connect": "1s", "first_token": "2s", "stall": "3s", "total": "4s"},
            "health": {"failures": 7, "eject": "1.5s"},
        },
        "plain": {"targets": ["one/c"]},
    },
    "routes": [
        {"name": "for-a", "match": {"team": "a"}, "use": "plain"},
        {"name": "for-kb", "match": {"key": "kb"}, "use": "fast"},
        {"name": "for-streams", "match": {"stream": True}, "use": "plain"},
    ],
    "prices": {"one/a": {"input": 0.15, "output": 0.6}},
    "teams": {"a": {"models": ["*"]}, "b": {"models": ["plain"]}},
    "keys": {
        "ka": {"team": "a", "sha256": hashlib.sha256(TOKEN).hexdigest(), "expires": "2027-01-01"},
        "kb": {"team": "b", "sha256": "b" * 64},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(compile_text: CompileText) -> dict[str, Any]:
    """As they arrive: through JSON."""
    arrived: dict[str, Any] = json.loads(json.dumps(compile_text(json.dumps(POLICY), SECRETS).tables))
    return arrived


@pytest.fixture(scope="module")
def snapshot(tables: dict[str, Any]) -> Snapshot:
    return Snapshot.from_tables(tables)


def key_named(snapshot: Snapshot, name: str) -> Key:
    (key,) = (key for key in snapshot.keys.values() if key.name == name)
    return key


def test_key_is_found_by_its_text_and_by_no_other(snapshot: Snapshot) -> None:
    key = snapshot.key_of(TOKEN)
    assert key is key_named(snapshot, "ka")
    assert (key.team, key.expires_s) == ("a", 1798761600.0)
    for text in (b"", TOKEN + b" ", TOKEN.upper(), hashlib.sha256(TOKEN).hexdigest().encode(), b"\xff"):
        assert snapshot.key_of(text) is None


def test_key_has_the_models_it_may_use_and_the_routes_that_may_match_it(snapshot: Snapshot) -> None:
    ka, kb = key_named(snapshot, "ka"), key_named(snapshot, "kb")
    assert dict(ka.models) == {"fast": snapshot.models["fast"], "plain": snapshot.models["plain"]}
    assert dict(kb.models) == {"plain": snapshot.models["plain"]}
    assert [route.name for route in ka.routes] == ["for-a", "for-streams"]
    assert [route.name for route in kb.routes] == ["for-kb", "for-streams"]
    assert kb.routes[0].use is snapshot.models["fast"]
    assert kb.expires_s is None


def test_model_is_as_the_policy_says(snapshot: Snapshot) -> None:
    fast = snapshot.models["fast"]
    assert (fast.name, fast.strategy, fast.fallback_on) == (
        "fast",
        "weighted",
        frozenset(("connect", "stall")),
    )
    assert (fast.retry_attempts, fast.retry_budget, fast.retry_uncertain) == (4, 0.3, True)
    assert (fast.keep_alive_s, snapshot.models["plain"].keep_alive_s) == (0.0, 15.0)
    assert dataclasses.astuple(fast.timeouts) == (1.0, 2.0, 3.0, 4.0)
    assert (fast.health.failures, fast.health.eject_ms) == (7, 1_500)
    assert fast.has_matches
    assert not snapshot.models["plain"].has_matches


def test_targets_share_their_provider_and_have_price_match_and_row(
    snapshot: Snapshot, tables: dict[str, Any]
) -> None:
    one, bare = snapshot.providers
    first, second = snapshot.models["fast"].targets
    (third,) = snapshot.models["plain"].targets
    assert [(target.name, target.model, target.weight) for target in (first, second, third)] == [
        ("one/a", "a", 3),
        ("bare/b", "b", 0),
        ("one/c", "c", 1),
    ]
    assert first.provider is third.provider is one
    assert second.provider is bare
    rows = [target["row"] for model in tables["models"] for target in model["targets"]]
    assert [target.row for target in (first, second, third)] == rows
    assert len(set(rows)) == 3
    assert first.price is not None
    assert first.price.cost_nanousd(Usage(input=1_000, output=1_000)) == 750_000
    assert (second.price, third.price) == (None, None)
    assert first.match is None
    assert second.match is not None
    assert second.match.stream is True


def test_provider_is_as_the_policy_says(snapshot: Snapshot) -> None:
    one, bare = snapshot.providers
    assert (one.name, one.dialect, one.scheme, one.host, one.port) == ("one", "openai", "http", "one", 8000)
    assert (one.base_path, one.auth, one.max_connections, one.idle_s) == ("/v1", "bearer", 9, 5.0)
    assert [(key.name, key.secret) for key in one.keys] == [
        ("one#1", SECRETS["ONE"]),
        ("one#2", SECRETS["TWO"]),
    ]
    assert (
        len({key.row for key in one.keys} | {target.row for target in snapshot.models["fast"].targets}) == 4
    )
    assert one.headers == (("X-Org", SECRETS["ORG"]),)
    assert one.proxy == SECRETS["PROXY"]
    assert (one.stream_options, bare.stream_options) == (True, False)
    assert (bare.keys, bare.verify, bare.proxy) == ((), True, None)


def test_what_is_secret_is_never_in_a_repr(snapshot: Snapshot) -> None:
    shown = repr(snapshot)
    assert "one#2" in shown
    for secret in (*SECRETS.values(), "pw@"):
        assert secret not in shown


def test_snapshot_cannot_be_changed(snapshot: Snapshot) -> None:
    for part in (snapshot, snapshot.models["fast"], snapshot.providers[0], snapshot.providers[0].keys[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, "other")


def test_hash_is_that_of_the_tables(snapshot: Snapshot, tables: dict[str, Any]) -> None:
    assert snapshot.hash == tables["hash"]
    assert len(snapshot.hash) == 12


@pytest.mark.parametrize(
    ("scheme", "host", "port", "authority"),
    [
        ("https", "api.openai.com", 443, "api.openai.com"),
        ("http", "vllm", 80, "vllm"),
        ("http", "vllm", 8000, "vllm:8000"),
        ("https", "vllm", 80, "vllm:80"),
        ("http", "vllm", 443, "vllm:443"),
        ("https", "::1", 443, "[::1]"),
        ("http", "fe80::1", 8000, "[fe80::1]:8000"),
    ],
)
def test_authority_names_the_port_only_where_it_is_not_the_schemes_own(
    snapshot: Snapshot, scheme: str, host: str, port: int, authority: str
) -> None:
    provider: Provider = dataclasses.replace(snapshot.providers[0], scheme=scheme, host=host, port=port)
    assert provider.authority == authority
