"""What a policy has done while an alarm of drift stands: a model's calls go elsewhere.

Nothing is remembered: what is done follows from the policy and the alarms that stand, so it ends when the
alarm does, and all gateways that see the same alarms do the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Table = Mapping[str, Any]


class Standing(NamedTuple):
    """An alarm that stands."""

    model: str
    target: str
    cause: str


class Action(NamedTuple):
    """What is done about an alarm."""

    model: str
    target: str
    done: str

    def as_json(self) -> dict[str, str]:
        """Plain values."""
        return self._asdict()


def acted(
    models: Iterable[Table], watched: Mapping[str, Table], alarms: Iterable[Standing]
) -> tuple[list[dict[str, Any]], list[Action]]:
    """The compiled models (`compile_policy`'s table `models`) as they are while alarms stand, and what was
    done to them. `watched` is that of `drift_watch`."""
    standing = sorted(alarms)
    made, actions = [], []
    for model in models:
        rule = watched.get(model["name"], {}).get("on_alarm")
        drifting = [
            alarm.target
            for alarm in standing
            if alarm.model == model["name"] and rule is not None and alarm.cause in rule["causes"]
        ]
        targets = model["targets"]
        if drifting:
            assert rule is not None
            changed = _pinned(targets, rule["pin"], drifting)
            if rule["weight"] is not None:
                changed = _lightened(targets, rule["weight"], drifting)
            if changed != targets:
                actions += [Action(model["name"], target, _words(rule)) for target in drifting]
                targets = changed
        made.append({**model, "targets": targets})
    return made, actions


def _words(rule: Table) -> str:
    if rule["weight"] is not None:
        return f"{rule['weight']:.0%} of its weight is left to it"
    return f"calls begin at {rule['pin']}"


def _pinned(targets: list[Table], name: str | None, drifting: list[str]) -> list[Table]:
    """The target of that name first, and all of the weight its own; as they are if it drifts itself."""
    if name is None or name in drifting:
        return targets
    first = [target for target in targets if target["name"] == name]
    others = [{**target, "weight": 0} for target in targets if target["name"] != name]
    return [*({**target, "weight": max(1, target["weight"])} for target in first), *others]


def _lightened(targets: list[Table], share: float, drifting: list[str]) -> list[Table]:
    """So much of their weight is left to those that drift; as they are if nothing else has any."""
    if not any(target["weight"] for target in targets if target["name"] not in drifting):
        return targets
    return [
        {
            **target,
            "weight": round(1000 * target["weight"] * (share if target["name"] in drifting else 1.0)),
        }
        for target in targets
    ]
