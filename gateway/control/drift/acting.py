"""What is done about alarms that stand (`policy.drift_actions`): once, logged, and undone with the alarm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.control.exposition import Sample
from gateway.policy.drift_actions import Action, Standing, acted
from gateway.telemetry import drift_table
from gateway.telemetry.diagnostics import say


class DriftActions:
    """The alarms that stand, and what is done about them."""

    def __init__(self) -> None:
        self._alarms: frozenset[Standing] = frozenset()
        self._actions: list[Action] = []

    def stand(self, alarms: frozenset[Standing]) -> None:
        """Other alarms stand from now on; `amend` is to be asked again."""
        self._alarms = alarms

    def amend(self, tables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The models of a compiled policy as they should be now."""
        models, actions = acted(tables["models"], tables["drift_watch"]["models"], self._alarms)
        for action in actions:
            if action not in self._actions:
                say(f"drift: {action.model}: {action.target} drifts, and {action.done}")
        for action in self._actions:
            if action not in actions:
                say(f"drift: {action.model}: its calls go by the policy again")
        self._actions = actions
        return models

    def shown(self, streams: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Streams (`Judge.told`) with `action`: what is done about each, "" if nothing."""
        done = {(action.model, action.target): action.done for action in self._actions}
        return [{**stream, "action": done.get((stream["model"], stream["target"]), "")} for stream in streams]

    def samples(self) -> Iterator[Sample]:
        """The gauge."""
        for action in self._actions:
            yield drift_table.DRIFT_ACTION, (action.model, action.target), 1


def standing_of(streams: Sequence[Mapping[str, Any]]) -> frozenset[Standing]:
    """The alarms of answers that stand."""
    return frozenset(
        Standing(stream["model"], stream["target"], stream["alarm"]["cause"])
        for stream in streams
        if stream["alarm"] is not None
    )
