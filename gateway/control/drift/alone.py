"""A gateway that judges its own answers, and keeps what it knows in its state folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.control.drift.desk import Name, Outcomes
from gateway.control.drift.judge import Judge
from gateway.control.drift.keeping import DriftFile
from gateway.drift.features import Read

SAVE_S = 30.0
TELL_S = 1.0


class Alone:
    """`control.drift.desk.Desk` on a file. An alarm is written down with the state that found it, then told;
    what was written and not told, because everything was killed in between, is told at the start."""

    pause_s = TELL_S

    def __init__(self, file: DriftFile, outcomes: Outcomes) -> None:
        self._file = file
        self._outcomes = outcomes
        self._judge = Judge(file.states())
        self._saved_s = self._told_s = float("-inf")
        outcomes.counts(file.counts())
        for alarm in file.alarms(untold=True):
            outcomes.tell(alarm)

    def key(self) -> bytes:
        return self._file.key()

    def use(self, models: Mapping[str, Any]) -> None:
        for name in self._judge.use(models):
            self._file.forget(*name)

    def take(self, name: Name, read: Read) -> None:
        found = self._judge.take(name, read.sample, read.identity)
        for change in found.changes:
            self._outcomes.identity_changed(name, change)
        if found.skipped:
            self._outcomes.skipped(found.skipped)
        else:
            self._outcomes.analyzed(name)
        if found.alarms:
            alarms = {alarm.id: alarm.as_json() for alarm in found.alarms}
            new = self._file.save(self._judge.states([name]), list(alarms.values()))
            self._outcomes.counts(self._file.counts())
            for id_ in new:
                self._outcomes.tell(alarms[id_])

    def look(self, now_s: float, *, last: bool = False) -> None:
        if now_s - self._told_s >= TELL_S or last:
            self._outcomes.standing(self._judge.told())
            self._told_s = now_s
        if now_s - self._saved_s >= SAVE_S or last:
            self._file.save(self._judge.states(self._judge.take_changed()))
            self._saved_s = now_s

    def alarms(self, most: int) -> Sequence[dict[str, Any]]:
        return self._file.alarms(most=most)

    def distributions(self, name: Name) -> list[dict[str, Any]]:
        return self._judge.distributions(name)

    def change(self, what: str, name: Name, *, label: str, config: str, at_s: float) -> str:
        done = self._judge.change(what, name, label=label, config=config, at_s=at_s)
        self._file.save(self._judge.states([name]))
        self._told_s = float("-inf")
        return done

    def set_told(self, id_: str) -> None:
        self._file.told(id_)

    def close(self) -> None:
        self._file.close()
