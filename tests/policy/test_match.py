"""A match holds if every field that is given holds; within a field one of the list is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.match import Match


@dataclass(frozen=True)
class Call:
    """The least that a match can look at."""

    team: str = "search"
    key: str = "search-prod"
    model: str = "gpt-4o-mini"
    endpoint: str = "chat"
    stream: bool = False
    tags: Sequence[str] = ("batch", "eu")
    metadata: Mapping[str, object] = field(default_factory=lambda: {"app": "web", "n": 1, "deep": {"a": 1}})


ROWS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"team": ["search"]}, ""),
    ({"team": ["ads", "search"]}, ""),
    ({"team": ["ads"]}, "team"),
    ({"team": ["Search"]}, "team"),
    ({"team": []}, "team"),
    ({"key": ["search-prod"]}, ""),
    ({"key": ["search-test"]}, "key"),
    ({"endpoint": ["embeddings", "chat"]}, ""),
    ({"endpoint": ["embeddings"]}, "endpoint"),
    ({"stream": False}, ""),
    ({"stream": True}, "stream"),
    ({"model": ["gpt-4o-mini"]}, ""),
    ({"model": ["claude-*", "gpt-*"]}, ""),
    ({"model": ["gpt-?o-mini"]}, ""),
    ({"model": ["gpt"]}, "model"),
    ({"model": ["GPT-*"]}, "model"),
    ({"tag": ["eu"]}, ""),
    ({"tag": ["us", "batch"]}, ""),
    ({"tag": ["us"]}, "tag"),
    ({"metadata": {"app": ["web", "ios"]}}, ""),
    ({"metadata": {"app": ["ios"]}}, "metadata.app"),
    ({"metadata": {"app": ["web"], "region": ["eu"]}}, "metadata.region"),
    ({"metadata": {"n": ["1"]}}, "metadata.n"),
    ({"team": ["search"], "stream": False, "model": ["gpt-*"], "metadata": {"app": ["web"]}}, ""),
    ({"team": ["search"], "stream": True}, "stream"),
    ({"team": None, "key": None, "tag": None, "model": None, "endpoint": None, "stream": None}, ""),
    ({"metadata": None}, ""),
]


@pytest.mark.parametrize(("table", "missed"), ROWS, ids=lambda value: str(value) or "holds")
def test_first_field_that_does_not_hold_is_named(table: dict[str, Any], missed: str) -> None:
    assert Match.from_table(table).misses(Call()) == missed


def test_metadata_of_any_type_is_no_reason_to_fail() -> None:
    match = Match.from_table({"metadata": {"deep": ["x"]}})
    for value in ({"a": 1}, ["x"], None, 1.5, True):
        assert match.misses(Call(metadata={"deep": value})) == "metadata.deep"


@pytest.mark.parametrize(
    ("table", "model", "target", "missed"),
    [
        ({"model": ["fast"]}, "fast", "", ""),
        ({"model": ["gpt-*"]}, "fast", "", "model"),
        ({"model": ["gpt-*"]}, None, "", ""),
        ({"target": ["openai/*", "azure/x"]}, "fast", "azure/x", ""),
        ({"target": ["openai/*"]}, "fast", "azure/x", "target"),
        ({"target": ["*"]}, "fast", "", ""),
        ({"target": ["openai/*"]}, "fast", "", "target"),
        ({"target": ["azure/x"], "team": ["ads"]}, "fast", "azure/x", "team"),
    ],
)
def test_rule_looks_at_the_model_that_is_used_and_the_target(
    table: dict[str, Any], model: str | None, target: str, missed: str
) -> None:
    assert Match.from_table(table).misses(Call(), model, target) == missed


def test_empty_facts_miss_what_is_asked_for() -> None:
    empty = Call(tags=(), metadata={})
    assert Match.from_table({"tag": ["eu"]}).misses(empty) == "tag"
    assert Match.from_table({"metadata": {"app": ["web"]}}).misses(empty) == "metadata.app"


@pytest.mark.parametrize(
    ("table", "may"),
    [
        ({}, True),
        ({"team": ["search"], "key": ["search-prod"]}, True),
        ({"team": ["ads"]}, False),
        ({"key": ["other"]}, False),
        ({"team": ["search"], "key": ["other"]}, False),
        ({"stream": True, "model": ["x"], "tag": ["x"], "metadata": {"a": ["x"]}}, True),
    ],
)
def test_rule_is_kept_for_a_key_that_some_call_of_it_could_match(table: dict[str, Any], may: bool) -> None:
    assert Match.from_table(table).may_hold_for(team="search", key="search-prod") is may


NAMES = st.sampled_from(["a", "b", "c"])
LISTS = st.none() | st.lists(NAMES, min_size=1, max_size=2)
TABLES = st.fixed_dictionaries(
    {
        "team": LISTS,
        "key": LISTS,
        "tag": LISTS,
        "model": LISTS,
        "endpoint": LISTS,
        "stream": st.none() | st.booleans(),
        "metadata": st.none() | st.dictionaries(NAMES, st.lists(NAMES, min_size=1), max_size=2),
    }
)
CALLS = st.builds(
    Call,
    NAMES,
    NAMES,
    NAMES,
    NAMES,
    st.booleans(),
    st.lists(NAMES),
    st.dictionaries(NAMES, NAMES | st.none()),
)


@settings(deadline=None)
@given(TABLES, CALLS)
def test_match_is_the_and_of_its_fields(table: dict[str, Any], call: Call) -> None:
    match = Match.from_table(table)
    alone = [Match.from_table({name: value}).misses(call) for name, value in table.items()]
    assert (match.misses(call) == "") is not any(alone)
    if not match.misses(call):
        assert match.may_hold_for(team=call.team, key=call.key)
