"""Whom a rule counts a call for: one name per bucket, which nobody can make another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.match import Match
from gateway.quota.contract import Terms
from gateway.quota.rule import Rule
from gateway.quota.subject import OTHER, plain, subject, subjects, user_of


@dataclass(frozen=True)
class Call:
    """What a rule can look at."""

    team: str = "search"
    key: str = "app"
    model: str = "as-called"
    endpoint: str = "chat"
    stream: bool = False
    tags: Sequence[str] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)


TABLE: dict[str, Any] = {
    "name": "r.tokens", "policy_name": "r", "measure": "tokens", "kind": "rate", "limit": 100, "burst": 10,
    "window_ms": 60_000, "every": "", "timezone": "UTC", "per": [], "match": {}, "mode": "enforce",
    "strict": False, "store_down": "share", "default_output_tokens": 4096, "unbounded": "hold",
    "unpriced": "allow", "use": None, "alert_at": [], "max_subjects": 10, "attempts": False,
}  # fmt: skip


def rule(*per: str, match: Mapping[str, Any] | None = None, **more: Any) -> Rule:
    return Rule.from_table({**TABLE, "per": list(per), "match": match or {}, **more}, 3, [])


def found(rule: Rule, call: Call | None = None, user: str | None = None) -> tuple[str, ...]:
    return subjects(rule, call or Call(), "fast", "openai/gpt-4o", user)


@pytest.mark.parametrize(
    ("per", "expected"),
    [
        ((), ("all",)),
        (("key",), ("key=app",)),
        (("team",), ("team=search",)),
        (("model",), ("model=fast",)),
        (("target",), ("target=openai/gpt-4o",)),
        (("user",), ("user=ann",)),
        (("tag",), ("tag=a", "tag=b")),
        (("key", "model", "user"), ("key=app,model=fast,user=ann",)),
        (("team", "tag"), ("team=search,tag=a", "team=search,tag=b")),
    ],
)
def test_subject_names_what_a_rule_is_per(per: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert found(rule(*per), Call(tags=("a", "b", "a", "")), "ann") == expected


def test_call_without_a_user_or_tag_is_not_counted_per_user_or_tag() -> None:
    assert found(rule("user")) == found(rule("tag")) == found(rule("key", "user")) == ()
    assert found(rule("user"), user="") == ()
    assert subject(rule("user"), Call(), "fast", "", None) is None
    assert subject(rule("user"), Call(), "fast", "", "ann") == "user=ann"


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"team": ["search"]}, True),
        ({"team": ["ads"]}, False),
        ({"model": ["fa*"]}, True),
        ({"model": ["as-called"]}, False),
        ({"target": ["openai/*"]}, True),
        ({"target": ["azure/*", "openai/gpt-4o"]}, True),
        ({"target": ["openai/gpt-4"]}, False),
        ({"target": ["openai/*"], "key": ["other"]}, False),
        ({"stream": True}, False),
        ({"metadata": {"app": ["web"]}}, False),
    ],
)
def test_rule_is_for_calls_that_match_by_the_model_used_and_the_target(
    match: dict[str, Any], holds: bool
) -> None:
    assert found(rule("key", match=match)) == (("key=app",) if holds else ())


def test_only_tags_that_the_match_names_have_buckets() -> None:
    assert found(rule("tag", match={"tag": ["a", "c"]}), Call(tags=("a", "b"))) == ("tag=a",)
    assert found(rule("tag", match={"tag": ["c"]}), Call(tags=("a", "b"))) == ()


@pytest.mark.parametrize(
    ("document", "user"),
    [
        ({"user": "ann", "safety_identifier": "x"}, "ann"),
        ({"safety_identifier": "x"}, "x"),
        ({"user": "", "safety_identifier": "x"}, "x"),
        ({"user": 7}, None),
        ({"user": None}, None),
        ({}, None),
    ],
)
def test_user_is_the_one_the_caller_names(document: dict[str, object], user: str | None) -> None:
    assert user_of(document) == user


@pytest.mark.parametrize("text", ["ann", "ann@example.org", "Åsa", "a b", "key=x", "x" * 64, "ü" * 32])
def test_plain_name_stands_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    "text", ["x" * 65, "ü" * 33, "a|b", "a#1", "a,key=b", "a\nb", "a\x00", "\ud800", "~" + "0" * 32, OTHER]
)
def test_name_that_could_be_taken_for_another_is_hashed(text: str) -> None:
    assert plain(text) != text
    assert len(plain(text)) == 33
    assert plain(plain(text)) != plain(text)


@given(st.lists(st.tuples(st.text(), st.text(alphabet="a|#,=~_tguser")), min_size=2, max_size=2, unique=True))
def test_different_callers_never_share_a_bucket(pairs: list[tuple[str, str]]) -> None:
    one, two = (found(rule("tag", "user"), Call(tags=(tag,)), user) or None for tag, user in pairs)
    assert one is None or one != two


@given(st.text(), st.text())
def test_subject_cannot_break_a_buckets_name(tag: str, user: str) -> None:
    for name in found(rule("tag", "user"), Call(tags=(tag,)), user):
        assert name.isprintable()
        assert "|" not in name and "#" not in name
        assert len(name.encode()) <= len("tag=,user=") + 2 * 64


@pytest.mark.parametrize(
    ("per", "match", "is_static"),
    [
        ((), {}, True),
        (("key", "team", "model", "target"), {"team": ["a"], "model": ["*"], "target": ["*"]}, True),
        (("user",), {}, False),
        (("key", "tag"), {}, False),
        (("key",), {"tag": ["a"]}, False),
        (("key",), {"stream": False}, False),
        (("key",), {"endpoint": ["chat"]}, False),
        (("key",), {"metadata": {"a": ["b"]}}, False),
    ],
)
def test_rule_is_static_if_key_model_and_target_decide(
    per: tuple[str, ...], match: dict[str, Any], is_static: bool
) -> None:
    assert rule(*per, match=match).is_static is is_static


def test_match_of_nothing_is_none() -> None:
    assert rule(match=dict.fromkeys(Match.__slots__)).match is None
    assert rule(match={"key": ["a"]}).match == Match(key=frozenset({"a"}))


@pytest.mark.parametrize(
    ("more", "terms"),
    [
        ({}, Terms("rate", 100, 10, 60_000, False, 7)),
        ({"mode": "shadow"}, Terms("rate", 100, 10, 60_000, True, 7)),
        ({"kind": "slots", "burst": 100, "window_ms": 0}, Terms("slots", 100, 100, 0, False, 7)),
        ({"kind": "money", "burst": 100, "window_ms": 0}, Terms("money", 100, 100, 0, False, 7)),
        ({"kind": "rolling", "burst": 100}, Terms("rolling", 100, 100, 60_000, False, 7)),
    ],
)
def test_terms_are_what_the_stores_go_by(more: dict[str, Any], terms: Terms) -> None:
    made = rule(**more)
    assert made.terms(7) == terms
    assert (made.is_money, made.index) == (terms.kind in ("money", "rolling"), 3)
