"""The one function that chooses: a golden set of what it answers, and laws that hold for any policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.decide import Decision, Facts, State, decide
from gateway.policy.snapshot import Key, Snapshot
from gateway.policy.trace import trace
from tests.policy.conftest import CompileText

GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "decide.yaml").read_text())
VERDICTS = {"ejected": 0, "trial": 1}


@pytest.fixture(scope="module")
def snapshot(compile_text: CompileText) -> Snapshot:
    return Snapshot.from_tables(compile_text(json.dumps(GOLDEN["policy"])).tables)


def facts_of(snapshot: Snapshot, call: Mapping[str, Any]) -> Facts:
    fields = dict(call)
    name = fields.pop("key", "app")
    return Facts(key_named(snapshot, name), fields.pop("model"), **fields)


def key_named(snapshot: Snapshot, name: str) -> Key:
    (key,) = (key for key in snapshot.keys.values() if key.name == name)
    return key


def state_of(snapshot: Snapshot, down: Mapping[str, str]) -> State:
    rows = {target.name: target.row for model in snapshot.models.values() for target in model.targets}
    return State({rows[name]: VERDICTS[verdict] for name, verdict in down.items()})


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_golden_decision(snapshot: Snapshot, case: dict[str, Any]) -> None:
    decision = decide(snapshot, facts_of(snapshot, case["call"]), state_of(snapshot, case.get("down", {})))
    refusal = None if decision.refusal is None else decision.refusal.error_type
    assert ([target.name for target in decision.targets], refusal) == (
        case.get("targets", []),
        case.get("refusal"),
    )


@pytest.mark.parametrize("case", GOLDEN["traces"], ids=lambda case: case["call"]["model"])
def test_golden_trace(snapshot: Snapshot, case: dict[str, Any]) -> None:
    facts, state = facts_of(snapshot, case["call"]), state_of(snapshot, case.get("down", {}))
    assert [list(step) for step in trace(facts, state, decide(snapshot, facts, state))] == [
        [subject, verdict, reason] for subject, verdict, reason in case["trace"]
    ]


NAMES = ("m1", "m2", "m3")
PROVIDERS = ("a", "b", "c", "d")
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "team": st.sampled_from(["t1", "t2", ["t1", "t2"]]),
        "key": st.sampled_from(["k1", "k2"]),
        "tag": st.sampled_from(["x", ["x", "y"]]),
        "model": st.sampled_from(["m*", "m1", "?2", "other"]),
        "endpoint": st.sampled_from(["chat", ["embeddings", "chat"]]),
        "stream": st.booleans(),
        "metadata": st.sampled_from([{"tier": "gold"}, {"tier": ["gold", "7"]}]),
    },
).filter(bool)
TARGETS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.fixed_dictionaries(
        {"provider": st.sampled_from(PROVIDERS), "model": st.sampled_from(["x", "y"])},
        optional={"match": MATCHES, "weight": st.integers(0, 3)},
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda target: (target["provider"], target["model"]),
)
MODEL: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"strategy": st.sampled_from(["priority", "weighted", "round_robin"]), "targets": TARGETS}
)


def has_weight(model: dict[str, Any]) -> bool:
    return model["strategy"] != "weighted" or any(target.get("weight", 1) for target in model["targets"])


MODELS = st.dictionaries(st.sampled_from(NAMES), MODEL.filter(has_weight), min_size=1)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    models = draw(MODELS)
    for model in models.values():
        if model["strategy"] != "weighted":
            for target in model["targets"]:
                target.pop("weight", None)
    routes = draw(st.lists(st.tuples(MATCHES, st.sampled_from(sorted(models))), max_size=3))
    allowed = st.lists(st.sampled_from(["*", "m?", *sorted(models)]), min_size=1, max_size=2)
    return {
        "providers": {name: {"base_url": f"http://{name}/v1"} for name in PROVIDERS},
        "models": models,
        "routes": [
            {"name": f"r{place}", "match": match, "use": use} for place, (match, use) in enumerate(routes)
        ],
        "teams": {"t1": {"models": draw(allowed)}, "t2": {"models": ["*"]}},
        "keys": {
            "k1": {"team": "t1", "sha256": "1" * 64},
            "k2": {"team": "t2", "sha256": "2" * 64, "models": draw(allowed)},
        },
    }


CALLS = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["k1", "k2"]),
        "model": st.sampled_from([*NAMES, "m9", "", "M1", "*"]),
        "endpoint": st.sampled_from(["chat", "completions", "embeddings"]),
        "stream": st.booleans(),
        "tags": st.lists(st.sampled_from(["x", "y", ""]), max_size=2),
        "metadata": st.dictionaries(st.sampled_from(["tier", "z"]), st.sampled_from(["gold", 7, None, [1]])),
        "draw": st.floats(0, 1, exclude_max=True),
        "turn": st.integers(0, 2**40),
    }
)


@settings(max_examples=250, deadline=None)
@given(
    policy=policies(),
    calls=st.lists(CALLS, min_size=1, max_size=6),
    verdicts=st.lists(st.sampled_from([0, 1, 2]), min_size=8, max_size=8),
)
def test_laws_of_every_decision(
    compile_text: CompileText, policy: dict[str, Any], calls: list[dict[str, Any]], verdicts: list[int]
) -> None:
    snapshot = Snapshot.from_tables(compile_text(json.dumps(policy)).tables)
    rows = sorted({target.row for model in snapshot.models.values() for target in model.targets})
    state = State({row: verdict for row, verdict in zip(rows, verdicts, strict=False) if verdict != 2})
    for call in calls:
        facts = facts_of(snapshot, call)
        decision = decide(snapshot, facts, state)
        assert_lawful(snapshot, facts, state, decision)
        again = decide(snapshot, facts, state)
        assert again == decision


def assert_lawful(snapshot: Snapshot, facts: Facts, state: State, decision: Decision) -> None:
    targets, model = decision.targets, decision.model
    steps = trace(facts, state, decision)
    if decision.refusal is not None:
        assert targets == ()
        assert steps[-1].verdict == "refused"
        return
    assert model is not None
    assert targets
    assert len(set(targets)) == len(targets)
    assert set(targets) <= set(model.targets)
    # A model that the caller may not use is never reached by its own name.
    if facts.model in snapshot.models:
        assert facts.model in facts.caller.models
    else:
        assert any(step.verdict == "matched" for step in steps)
    fitting = [target for target in model.targets if target.match is None or not target.match.misses(facts)]
    assert set(targets) <= set(fitting)
    up = [target for target in fitting if state.down.get(target.row, 2) != 0]
    assert set(targets) == set(up or fitting)
    if model.strategy == "weighted" and len(fitting) > 1 and any(target.weight for target in up or fitting):
        weights = [target.weight for target in targets]
        assert weights[0] > 0 or all(
            state.down.get(target.row, 2) == 0 for target in fitting if target.weight
        )
    assert [step.subject for step in steps[-len(targets) :]] == [
        f"target {target.name}" for target in targets
    ]
