"""Gateways on one Redis that judge their answers together: as one would that had them all.

Each reads its own answers and appends their samples to a log (`stores.drift_log`). One of them, the leader,
judges them in the log's order and writes down states, alarms and what stands; the others show that. An
operator's order is an entry of the log like any other, so whoever leads next does the same again.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from time import sleep
from typing import Any

import orjson

from gateway.clock import monotonic_s
from gateway.control.drift.desk import Name, Outcomes
from gateway.control.drift.judge import TABLES, Judge
from gateway.drift.alarm import Alarm
from gateway.drift.features import Read
from gateway.drift.sample import Sample
from gateway.drift.state import signature
from gateway.quota.contract import StoreDown
from gateway.stores.drift_log import START, Commit, DriftLog, NewAlarm
from gateway.telemetry.diagnostics import say

SAVE_S = 30.0
TELL_S = 1.0
LOOK_S = 0.1
AGAIN_S = 1.0
"""After the store did not answer."""
ORDER_S = 8.0
"""How long an order may take: a lease that has to run out first, and a look."""
WAITING = 10_000
"""Samples that are kept for a store that does not answer: the oldest go first."""
MOST_READ = 500


def log_version() -> str:
    """What entries and states mean: gateways with other channels have a log of their own."""
    return signature(TABLES)


class Shared:
    """`control.drift.desk.Desk` on a log. `token` names this gateway's turn as a leader."""

    pause_s = LOOK_S

    def __init__(self, log: DriftLog, outcomes: Outcomes) -> None:
        self._log = log
        self._outcomes = outcomes
        self._token = secrets.token_hex(8)
        self._models: Mapping[str, Any] = {}
        self._waiting: deque[bytes] = deque()
        self._key: bytes | None = None
        self._turn: _Turn | None = None
        self._told_s = self._looked_s = float("-inf")
        self._not_before_s = float("-inf")
        self._is_down = False

    def key(self) -> bytes | None:
        if self._key is None:
            try:
                self._key = self._log.key(secrets.token_bytes(32))
            except StoreDown as error:
                self._down(error)
        return self._key

    def use(self, models: Mapping[str, Any]) -> None:
        self._models = models
        if self._turn is not None:
            self._turn.use(models)

    def take(self, name: Name, read: Read) -> None:
        if name[0] not in self._models:
            self._outcomes.skipped("not_watched")
            return
        self._outcomes.analyzed(name)
        head = orjson.dumps([*name, dict(read.identity)])
        self._put(b"%d:" % len(head) + head + read.sample.pack())

    def _put(self, entry: bytes) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._outcomes.skipped("store_down")
        self._waiting.append(entry)

    def look(self, now_s: float, *, last: bool = False) -> None:
        if now_s < self._not_before_s and not last:
            return
        try:
            self._append()
            if last:
                self._leave()
            elif now_s - self._looked_s >= LOOK_S:
                self._looked_s = now_s
                self._lead(now_s)
                if now_s - self._told_s >= TELL_S:
                    self._told_s = now_s
                    self._show()
        except StoreDown as error:
            self._down(error)
            self._not_before_s = now_s + AGAIN_S
            return
        if self._is_down:
            say("drift: the store answers again")
            self._is_down = False

    def _down(self, error: StoreDown) -> None:
        if not self._is_down:
            say(f"drift: the store does not answer ({error}); samples of answers wait for it")
            self._is_down = True

    def _append(self) -> None:
        while self._waiting:
            entries = [self._waiting[at] for at in range(min(len(self._waiting), MOST_READ))]
            self._log.append(entries)
            for _ in entries:
                self._waiting.popleft()

    def _lead(self, now_s: float) -> None:
        leads = self._log.lead(self._token)
        if leads == 0:
            self._turn = None
            return
        if leads == 1 or self._turn is None:
            self._turn = _Turn(self._log, self._token, self._outcomes, self._models)
        if not self._turn.go_on(now_s):
            self._turn = None

    def _show(self) -> None:
        counts = {tuple(orjson.loads(series)): count for series, count in self._log.counts().items()}
        self._outcomes.counts(counts)
        told = self._log.told()
        self._outcomes.standing(orjson.loads(told) if told else [])

    def _leave(self) -> None:
        """Writes down what was read, so that the next leader need not read it again."""
        if self._turn is not None:
            self._turn.save()

    def alarms(self, most: int) -> Sequence[dict[str, Any]]:
        try:
            return [orjson.loads(body) for body in self._log.alarms(most)]
        except StoreDown as error:
            raise LookupError(f"the store of drift does not answer: {error}") from None

    def distributions(self, name: Name) -> list[dict[str, Any]]:
        """Of the leader as it is; of others by the state written last, half a minute ago at most."""
        if self._turn is not None:
            return self._turn.judge.distributions(name)
        try:
            kept = self._log.state(stream_key(name))
        except StoreDown as error:
            raise LookupError(f"the store of drift does not answer: {error}") from None
        if kept is None:
            return []
        judge = Judge([(*name, _unmarked(kept)[1])])
        judge.use(self._models)
        return judge.distributions(name)

    def change(self, what: str, name: Name, *, label: str, config: str, at_s: float) -> str:
        """As an entry of the log; waits for the leader, which may be this gateway, to have done it."""
        id_ = secrets.token_hex(8)
        order = {"id": id_, "what": what, "name": name, "label": label, "config": config, "at_s": at_s}
        self._put(b"0:" + orjson.dumps(order))
        until_s = monotonic_s() + ORDER_S
        while (now_s := monotonic_s()) < until_s:
            self.look(now_s)
            try:
                answer = None if self._is_down else self._log.done(id_.encode())
            except StoreDown as error:
                self._down(error)
                answer = None
            if answer is not None:
                told = orjson.loads(answer)
                if "error" in told:
                    raise LookupError(told["error"])
                return str(told["done"])
            sleep(LOOK_S)
        raise LookupError("no gateway has done it yet; it is done as soon as the store of drift answers")

    def set_told(self, id_: str) -> None:
        try:
            self._log.set_told(id_)
        except StoreDown as error:
            self._down(error)  # the next leader tells it again, by the same id

    def close(self) -> None:
        self._log.close()


class _Turn:
    """One gateway's time as the leader: from the states that were written down last, on."""

    def __init__(self, log: DriftLog, token: str, outcomes: Outcomes, models: Mapping[str, Any]) -> None:
        self._log = log
        self._token = token
        self._outcomes = outcomes
        self._at, kept = log.states()
        self._applied: dict[Name, bytes] = {}
        states = []
        for key, marked in kept.items():
            name = stream_name(key)
            self._applied[name], state = _unmarked(marked)
            states.append((*name, state))
        self.judge = Judge(states)
        self._forgotten: list[Name] = []
        self.use(models)
        self._saved_s: float | None = None
        self._told_s = float("-inf")
        for body in log.untold():
            outcomes.tell(orjson.loads(body))

    def use(self, models: Mapping[str, Any]) -> None:
        """Goes by a policy."""
        self._forgotten += self.judge.use(models)

    def go_on(self, now_s: float) -> bool:
        """Reads what has come, judges it, writes down what is due. False: another one leads by now."""
        for place, entry in self._log.read(self._at, MOST_READ):
            self._at = place
            try:
                commit = self._one(place, entry)
            except (ValueError, LookupError, TypeError):
                # Not written by us: to come back to it at every look would end the watch over all others.
                self._outcomes.skipped("unreadable")
                continue
            if commit is not None and not self._commit(commit):
                return False
        self._saved_s = now_s if self._saved_s is None else self._saved_s
        if now_s - self._saved_s >= SAVE_S or self._forgotten:
            self._saved_s = now_s
            if not self.save():
                return False
        if now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            return self._commit(Commit(told=orjson.dumps(self.judge.told())))
        return True

    def save(self) -> bool:
        """Writes all streams that changed. False: another one leads."""
        forgotten = [stream_key(name) for name in self._forgotten]
        self._forgotten = []
        return self._commit(
            Commit(at=self._at, states=self._states(self.judge.take_changed()), forgotten=forgotten)
        )

    def _one(self, place: bytes, entry: bytes) -> Commit | None:
        """One entry; what has to be written at once."""
        size, _, rest = entry.partition(b":")
        if size == b"0":
            return self._order(place, orjson.loads(rest))
        head, sample = rest[: int(size)], rest[int(size) :]
        model, target, identity = orjson.loads(head)
        name = (model, target)
        if not _is_after(place, self._applied.get(name, START)):
            return None
        found = self.judge.take(name, Sample.unpack(sample), identity)
        self._applied[name] = place
        for change in found.changes:
            self._outcomes.identity_changed(name, change)
        if found.skipped:
            self._outcomes.skipped(found.skipped)
        return Commit(states=self._states([name]), alarms=_new(found.alarms)) if found.alarms else None

    def _order(self, place: bytes, order: Mapping[str, Any]) -> Commit | None:
        name = (order["name"][0], order["name"][1])
        if not _is_after(place, self._applied.get(name, START)):
            return None
        try:
            done = self.judge.change(
                order["what"], name, label=order["label"], config=order["config"], at_s=order["at_s"]
            )
        except LookupError as error:
            return Commit(done={order["id"].encode(): orjson.dumps({"error": error.args[0]})})
        self._applied[name] = place
        self._told_s = float("-inf")
        answer = {order["id"].encode(): orjson.dumps({"done": done})}
        return Commit(states=self._states([name]), done=answer)

    def _states(self, names: Iterable[Name]) -> dict[bytes, bytes]:
        return {
            stream_key((model, target)): b"%s " % self._applied.get((model, target), START) + state
            for model, target, state in self.judge.states(names)
        }

    def _commit(self, what: Commit) -> bool:
        new = self._log.commit(self._token, what)
        if new is None:
            return False
        for alarm in what.alarms:
            if alarm.id in new:
                self._outcomes.tell(orjson.loads(alarm.body))
        return True


def stream_key(name: Name) -> bytes:
    """A stream's name in the log."""
    return orjson.dumps(name)


def stream_name(key: bytes) -> Name:
    """From `stream_key`."""
    model, target = orjson.loads(key)
    return model, target


def _new(alarms: Iterable[Alarm]) -> list[NewAlarm]:
    return [
        NewAlarm(
            alarm.id,
            alarm.at_s,
            orjson.dumps([alarm.model, alarm.target, alarm.kind, alarm.cause]),
            orjson.dumps(alarm.as_json()),
        )
        for alarm in alarms
    ]


def _unmarked(state: bytes) -> tuple[bytes, bytes]:
    """(place up to which it was made, state)."""
    place, _, rest = state.partition(b" ")
    return place, rest


def _is_after(place: bytes, other: bytes) -> bool:
    """Whether a place in the log is behind another."""
    here, there = (tuple(map(int, each.split(b"-"))) for each in (place, other))
    return here > there
