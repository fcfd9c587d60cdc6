"""Where a model's calls go while a target drifts."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.policy.drift_actions import Standing, acted
from gateway.policy.problem import PolicyError
from tests.policy.conftest import CompileText

TARGETS = ("one/a", "two/b", "two/c")
PROVIDERS = "providers: {one: {base_url: 'http://one/v1'}, two: {base_url: 'http://two/v1'}}\n"


def models(weights: tuple[int, ...]) -> list[dict[str, Any]]:
    targets = [{"name": name, "weight": weight} for name, weight in zip(TARGETS, weights, strict=False)]
    return [{"name": "chat", "targets": targets}, {"name": "other", "targets": targets}]


def rule(**told: Any) -> dict[str, Any]:
    action = {"weight": None, "pin": None, "causes": ["model", "confirmed"], **told}
    return {"chat": {"on_alarm": action}, "other": {"on_alarm": None}}


def after(
    watched: dict[str, Any], *drifting: str, cause: str = "model", weights: tuple[int, ...] = (3, 1, 1)
) -> tuple[list[tuple[str, int]], list[str]]:
    """(name, weight) of the targets of chat, and what was done."""
    alarms = [Standing("chat", target, cause) for target in drifting]
    made, actions = acted(models(weights), watched, alarms)
    assert made[1] == models(weights)[1], "the other model is as it was"
    return [(target["name"], target["weight"]) for target in made[0]["targets"]], [
        f"{action.target}: {action.done}" for action in actions
    ]


def test_weight_goes_to_the_others() -> None:
    told, done = after(rule(weight=0.1), "one/a")
    assert told == [("one/a", 300), ("two/b", 1000), ("two/c", 1000)]
    assert done == ["one/a: 10% of its weight is left to it"]


def test_two_that_drift_leave_it_to_the_third() -> None:
    told, done = after(rule(weight=0.0), "one/a", "two/c")
    assert told == [("one/a", 0), ("two/b", 1000), ("two/c", 0)] and len(done) == 2


@pytest.mark.parametrize(
    ("drifting", "weights"), [(TARGETS, (3, 1, 1)), (("one/a",), (3, 0, 0)), (("one/a",), (3,))]
)
def test_nothing_is_done_where_nothing_else_may_be_used(
    drifting: tuple[str, ...], weights: tuple[int, ...]
) -> None:
    told, done = after(rule(weight=0.0), *drifting, weights=weights)
    assert [weight for _, weight in told] == list(weights) and done == []


def test_calls_begin_at_the_pinned_target() -> None:
    told, done = after(rule(pin="two/c"), "one/a", weights=(1, 1, 0))
    assert told == [("two/c", 1), ("one/a", 0), ("two/b", 0)]
    assert done == ["one/a: calls begin at two/c"]


def test_a_pinned_target_that_drifts_itself_is_not_used() -> None:
    assert after(rule(pin="two/c"), "one/a", "two/c") == ([("one/a", 3), ("two/b", 1), ("two/c", 1)], [])


def test_an_alarm_of_another_cause_does_nothing() -> None:
    assert after(rule(weight=0.1), "one/a", cause="mixed")[1] == []


def test_without_a_rule_nothing_is_done() -> None:
    assert after({"chat": {"on_alarm": None}}, "one/a")[1] == []
    assert after({}, "one/a")[1] == []


CHAT = "models: {chat: {targets: [one/a, two/b], drift: {on_alarm: %s}}}\n"


def test_rule_of_a_policy_reaches_who_judges(compile_text: CompileText) -> None:
    tables = compile_text(PROVIDERS + CHAT % "{pin: two/b}").tables
    watched = tables["drift_watch"]["models"]["chat"]
    assert watched["on_alarm"] == {
        "weight": None,
        "pin": "two/b",
        "causes": ["model", "fingerprint", "confirmed"],
    }
    assert watched["reference"]["arm_at"] == 500, "all else is as for all models"


MISTAKES = [
    ("{pin: two/x}", "on_alarm.pin: 'two/x' is none of the model's targets (did you mean 'two/b'?)"),
    ("{weight: 10%}", "on_alarm.weight: needs strategy: weighted; pin is for any"),
    ("{}", "on_alarm: say either weight or pin"),
    ("{pin: two/b, weight: 10%}", "on_alarm: say either weight or pin"),
    ("{pin: two/b, causes: []}", "on_alarm.causes"),
]


@pytest.mark.parametrize(("told", "expected"), MISTAKES)
def test_mistakes_are_told(compile_text: CompileText, told: str, expected: str) -> None:
    with pytest.raises(PolicyError) as raised:
        compile_text(PROVIDERS + CHAT % told)
    (problem,) = raised.value.problems
    assert expected in str(problem)


def test_one_target_has_nothing_to_go_to(compile_text: CompileText) -> None:
    text = PROVIDERS + "models: {chat: {targets: [one/a], drift: {on_alarm: {pin: one/a}}}}\n"
    told = [str(warning) for warning in compile_text(text).warnings]
    assert any("on_alarm: has no effect, since the model has one target" in warning for warning in told)


def test_channels_that_are_none_are_told(compile_text: CompileText) -> None:
    with pytest.raises(PolicyError) as raised:
        compile_text("drift: {disable: [chars, refusals]}\n")
    (problem,) = raised.value.problems
    assert "'refusals' is no channel (did you mean 'refusal'?)" in str(problem)
