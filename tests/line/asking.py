"""Random policies, calls and moments, for tests that ask what a line will do and then have it done."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import strategies as st

KEYS = {"k1": "hg-" + "1" * 43, "k2": "hg-" + "2" * 43, "old": "hg-" + "3" * 43}
MODELS = ("m1", "m2", "m3")
TARGETS = ("up/a", "up/b", "claude/c", "free/d")
PRICES = {"up/a": {"input": 1, "output": 4}, "up/b": {"input": 10, "output": 40, "per_call": 0.001}}
"""Of `claude/c` and `free/d` the policy may say one, or none."""

MATCH = st.fixed_dictionaries(
    {},
    optional={
        "team": st.sampled_from(["t1", "t2"]),
        "tag": st.sampled_from(["x", ["x", "y"]]),
        "model": st.sampled_from(["m1", "m*", "?2"]),
        "stream": st.booleans(),
        "endpoint": st.sampled_from(["chat", "completions"]),
        "metadata": st.just({"tier": "gold"}),
    },
)
TARGET_LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "requests": st.sampled_from(["4/day", "60/day"]),
        "tokens": st.sampled_from(["2k/day", "90k/day"]),
        "concurrent": st.integers(0, 2),
    },
).filter(bool)
TARGET = st.fixed_dictionaries(
    {"name": st.sampled_from(TARGETS)},
    optional={
        "weight": st.integers(0, 3),
        "match": MATCH,
        "limits": TARGET_LIMITS,
        "max_output": st.sampled_from([100, 2_000]),
        "context": st.sampled_from([3_000, 128_000]),
        "reasoning": st.booleans(),
    },
)
PER = st.sampled_from(["all", "key", "team", "model", "target", "tag", "user", ["key", "model"]])
RULE_MATCH = st.fixed_dictionaries(
    {},
    optional={
        "team": st.sampled_from(["t1", "t2"]),
        "key": st.sampled_from(["k1", "k2"]),
        "model": st.sampled_from(["m1", "m*"]),
        "tag": st.sampled_from(["x", "y"]),
        "target": st.sampled_from(["up/*", "*/a", "claude/*"]),
        "stream": st.booleans(),
    },
)
COMMON = {"match": RULE_MATCH, "mode": st.sampled_from(["enforce", "enforce", "shadow"])}
# By the day: within a test nothing refills that would matter.
LIMIT = st.fixed_dictionaries(
    {"per": PER},
    optional={
        **COMMON,
        "requests": st.sampled_from(["3/day", "40/day"]),
        "tokens": st.sampled_from(["3k/day", "200k/day"]),
        "output_tokens": st.sampled_from(["900/day", "50k/day"]),
        "concurrent": st.integers(0, 3),
        "strict": st.booleans(),
    },
).filter(lambda limit: limit.keys() & {"requests", "tokens", "output_tokens", "concurrent"})
BUDGET = st.fixed_dictionaries(
    {"per": PER, "usd": st.sampled_from([0.004, 0.05, 2])},
    optional={
        **COMMON,
        "rolling": st.sampled_from(["24h", "30d"]),
        "class": st.sampled_from(["strict", "estimate"]),
        "unbounded": st.sampled_from(["hold", "refuse"]),
        "unpriced": st.sampled_from(["refuse", "allow"]),
        "default_output_tokens": st.sampled_from([300, 5_000]),
        "use": st.sampled_from(MODELS),
    },
)


@st.composite
def policies(draw: st.DrawFn, url: str) -> str:
    """A policy whose providers are all at `url`; JSON is YAML."""
    models: dict[str, Any] = {}
    for name in MODELS[: draw(st.integers(1, 3))]:
        targets = draw(st.lists(TARGET, min_size=1, max_size=3, unique_by=lambda target: target["name"]))
        strategy = draw(st.sampled_from(["priority", "weighted", "round_robin"]))
        models[name] = {
            "strategy": strategy,
            "targets": [_target(target, strategy) for target in targets],
            "on_unsupported": draw(st.sampled_from(["refuse", "drop"])),
        }
        if strategy == "weighted" and not any(each.get("weight", 1) for each in models[name]["targets"]):
            models[name]["targets"][0]["weight"] = 1
    _agree_on_limits(models)
    routes = draw(st.lists(st.tuples(MATCH.filter(bool), st.sampled_from(sorted(models))), max_size=2))
    prices = dict(PRICES)
    if draw(st.booleans()):
        prices["claude/c"] = {"input": 3, "output": 15}
    if draw(st.booleans()):
        prices["free/d"] = {"input": 0, "output": 0}
    policy = {
        "providers": {
            "up": {"base_url": url, "auth": "none"},
            "claude": {"base_url": url, "auth": "none", "dialect": "anthropic"},
            "free": {"base_url": url, "auth": "none"},
        },
        "models": models,
        "prices": prices,
        "routes": [
            {"name": f"r{place}", "match": match, "use": use} for place, (match, use) in enumerate(routes)
        ],
        "teams": {"t1": {"models": draw(st.sampled_from([["*"], ["m1"]]))}, "t2": {"models": ["*"]}},
        "keys": {
            name: {
                "team": "t2" if name == "k2" else "t1",
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                **({"expires": "2020-01-01"} if name == "old" else {}),
            }
            for name, text in KEYS.items()
        },
        "limits": [
            {"name": f"l{place}", **limit} for place, limit in enumerate(draw(st.lists(LIMIT, max_size=2)))
        ],
        "budgets": [
            _budget(f"b{place}", budget, models)
            for place, budget in enumerate(draw(st.lists(BUDGET, max_size=3)))
        ],
    }
    return json.dumps(policy)


CALLS = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["k1", "k1", "k2", "k2", "k2", "old"]),
        "model": st.sampled_from([*MODELS, *MODELS, *MODELS, "m9"]),
        "tags": st.lists(st.sampled_from(["x", "y"]), max_size=2, unique=True),
        "path": st.sampled_from(["/chat/completions"] * 5 + ["/completions", "/messages"]),
        "words": st.sampled_from([2, 200, 1_500]),
        "fields": st.fixed_dictionaries(
            {},
            optional={
                "stream": st.booleans(),
                "user": st.sampled_from(["ann", "bob"]),
                "metadata": st.just({"tier": "gold"}),
                "max_tokens": st.sampled_from([1, 50, 700, 6_000]),
                "n": st.integers(1, 2),
                "logprobs": st.just(True),
                "service_tier": st.sampled_from(["default", "flex"]),
            },
        ),
        "is_unbounded": st.sampled_from([False] * 6 + [True]),
    }
)
SHARES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.2, 0.9, 0.999, 1.0]), st.sampled_from([0.0, 0.0, 0.5])),
    min_size=12,
    max_size=12,
)
"""For each bucket: how much is used, and how much of the rest calls of somebody else hold."""


def body_of(call: dict[str, Any]) -> dict[str, Any]:
    """What is posted."""
    text, fields = "word " * call["words"], dict(call["fields"])
    if call["path"] == "/completions":
        fields.pop("logprobs", None)
        return {"model": call["model"], "prompt": text, **fields}
    content: Any = text
    if call["path"] == "/messages":
        kept = {name: fields[name] for name in ("stream", "max_tokens") if name in fields}
        if "user" in fields:
            kept["metadata"] = {"user_id": fields["user"]}
        return {
            "model": call["model"],
            "max_tokens": 900,
            "messages": [{"role": "user", "content": text}],
            **kept,
        }
    if call["is_unbounded"]:
        image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        content = [{"type": "text", "text": text}, image]
    return {"model": call["model"], "messages": [{"role": "user", "content": content}], **fields}


def _target(target: dict[str, Any], strategy: str) -> dict[str, Any]:
    provider, model = target["name"].split("/")
    rest = {name: value for name, value in target.items() if name != "name"}
    if strategy != "weighted":
        rest.pop("weight", None)
    if not rest.get("match"):
        rest.pop("match", None)
    return {"provider": provider, "model": model, **rest}


def _agree_on_limits(models: dict[str, Any]) -> None:
    """A target has the same limits in all models."""
    first: dict[tuple[str, str], Any] = {}
    for model in models.values():
        for target in model["targets"]:
            limits = first.setdefault((target["provider"], target["model"]), target.get("limits"))
            target.pop("limits", None)
            if limits is not None:
                target["limits"] = limits


def _budget(name: str, budget: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    rest = dict(budget)
    use = rest.pop("use", None)
    if "rolling" not in rest:
        rest["every"] = "month"
    if use in models:
        rest["when_spent"] = {"use": use}
    return {"name": name, **rest}
