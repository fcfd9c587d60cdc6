"""What is said in vain is warned of, where it stands; what is not, is not."""

from __future__ import annotations

import pytest

from gateway.policy import reach
from gateway.telemetry import slots
from tests.policy.conftest import CompileText

BASE = """
providers: {up: {base_url: 'http://h/v1'}}
models:
  a: {targets: [up/a]}
  b: {targets: [up/b]}
  c: {targets: [up/c]}
prices: {'up/*': {input: 1, output: 1}}
teams: {t1: {models: ['*']}, t2: {models: ['*']}}
keys: {k1: {team: t1, sha256: 'ONE'}, k2: {team: t2, sha256: 'TWO'}}
""".replace("ONE", "1" * 64).replace("TWO", "2" * 64)


def warned(compile_text: CompileText, more: str, base: str = BASE) -> list[str]:
    return [f"{one.path}: {one.message}" for one in compile_text(base + more).warnings]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{}", "{tag: x}"),
        ("{team: t1}", "{team: t1, stream: true}"),
        ("{team: [t1, t2]}", "{team: t1}"),
        ("{model: '*'}", "{team: t1}"),
        ("{model: [a, 'gpt-*']}", "{model: [a, gpt-5]}"),
        ("{model: 'gpt-*'}", "{model: 'gpt-*', key: k1}"),
        ("{metadata: {tier: [gold, red]}}", "{metadata: {tier: gold, job: x}}"),
        ("{stream: true}", "{stream: true}"),
    ],
)
def test_route_behind_a_wider_one_is_never_reached(
    compile_text: CompileText, first: str, second: str
) -> None:
    routes = f"routes:\n  - {{name: r1, match: {first}, use: a}}\n  - {{name: r2, match: {second}, use: b}}\n"
    found = warned(compile_text, routes)
    assert found == ["routes[1].match: is never reached: the route 'r1' before it matches all its calls"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{tag: x}", "{}"),
        ("{tag: x}", "{tag: [x, y]}"),
        ("{team: t1}", "{key: k1}"),
        ("{model: 'g*'}", "{model: '*'}"),
        ("{model: a}", "{team: t1}"),
        ("{stream: true}", "{stream: false}"),
        ("{stream: true}", "{team: t1}"),
        ("{metadata: {tier: gold}}", "{metadata: {job: gold}}"),
        ("{endpoint: chat}", "{endpoint: [chat, embeddings]}"),
    ],
)
def test_route_that_may_be_reached_is_not_warned_of(
    compile_text: CompileText, first: str, second: str
) -> None:
    routes = f"routes:\n  - {{name: r1, match: {first}, use: a}}\n  - {{name: r2, match: {second}, use: b}}\n"
    assert warned(compile_text, routes) == []


def test_rule_whose_names_go_together_in_no_key_is_for_nobody(compile_text: CompileText) -> None:
    found = warned(compile_text, "routes: [{name: r, match: {team: t1, key: k2}, use: a}]\n")
    assert found == ["routes[0].match: is for no key, so it never matches"]
    base = BASE.replace("[up/a]", "[{provider: up, model: a, match: {team: t2, key: k1}}, up/b]")
    assert warned(compile_text, "", base) == [
        "models.a.targets[0].match: is for no key, so this target is never asked"
    ]


def test_target_for_another_model_needs_a_route(compile_text: CompileText) -> None:
    base = BASE.replace("[up/a]", "[{provider: up, model: a, match: {model: 'old-*'}}, up/b]")
    (found,) = warned(compile_text, "", base)
    assert found.startswith("models.a.targets[0].match.model: is not 'a', and no route leads here")
    assert warned(compile_text, "routes: [{name: r, match: {model: 'old-*'}, use: a}]\n", base) == []


def test_budgets_that_send_calls_to_one_another_are_a_circle(compile_text: CompileText) -> None:
    circle = """budgets:
  - {name: x, usd: 1, every: day, match: {model: a}, when_spent: {use: b}}
  - {name: y, usd: 1, every: day, match: {model: b}, when_spent: {use: a}}
"""
    (found,) = warned(compile_text, circle)
    assert found.startswith("budgets[0].when_spent.use: leads in a circle with 'y': from 'a' to 'b' and back")
    assert warned(compile_text, circle.replace("use: a}", "use: c}")) == []
    assert warned(compile_text, circle.replace("match: {model: a}", "mode: shadow, match: {model: a}")) == []


def test_more_names_than_metrics_tell_apart_are_warned_of(compile_text: CompileText) -> None:
    many = "\n".join(f"  k-{n}: {{team: t1, sha256: '{n:064x}'}}" for n in range(1_700))
    base = BASE.split("keys:")[0]
    (found,) = warned(compile_text, f"keys:\n{many}\n", base)
    assert found.startswith("keys: calls may come in 5,100 combinations of key, model and target")
    more = "\n".join(f"  m-{n}: {{team: t1, sha256: '{n + 5000:064x}'}}" for n in range(400))
    found_ = warned(compile_text, f"keys:\n{many}\n{more}\n", base)
    assert any("2,100 keys are more than the 2,000" in one for one in found_)


def test_bounds_are_those_of_the_slots() -> None:
    assert (reach.SERIES, reach.NAMES) == (slots.SERIES_PER_METRIC, slots.VALUES_PER_LABEL)
