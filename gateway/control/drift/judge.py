"""Judges answers, by stream. One thread's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gateway.control.drift.desk import Name
from gateway.drift.alarm import Alarm
from gateway.drift.answer_channels import ANSWER
from gateway.drift.asked_channels import ASKED
from gateway.drift.channel import natural
from gateway.drift.detector import Growth
from gateway.drift.effect import Effects, compare, effects
from gateway.drift.identity import Change
from gateway.drift.layout import Layout
from gateway.drift.performance_channels import PERFORMANCE
from gateway.drift.sample import Sample
from gateway.drift.state import OtherState, dump, load
from gateway.drift.stream import Settings, Stream, Tables
from gateway.drift.verdict import Rules, decades, describe
from gateway.drift.words import change
from gateway.telemetry.diagnostics import say

TABLES = Tables(Layout(ANSWER), Layout(ASKED), Layout(PERFORMANCE))
TOLD_CHANNELS = 5
Table = Mapping[str, Any]


def settings_of(table: Table) -> Settings:
    """From `policy.drift_compile`'s table of a model."""
    reference, detector, strata = table["reference"], table["detector"], table["strata"]
    return Settings(
        growth=Growth(reference["arm_at"], reference["grow_to"], strata["min_reference"]),
        rules=Rules(
            detector["notice_arl"],
            detector["alarm_arl"],
            detector["min_effect"],
            detector["min_rate_change"],
            detector["min_post_change"],
        ),
        strata=strata["max"],
        dedupe_window=table["dedupe_window"],
        rebaseline=reference["rebaseline"],
        pins_itself=reference["pin"] == "auto",
        disabled=frozenset(table["disable"]),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one answer; `skipped` says why it was not judged ("")."""

    alarms: Sequence[Alarm] = ()
    changes: Sequence[Change] = ()
    skipped: str = ""


class Judge:
    """All streams, by (model, target). `kept` is what was left of them: (model, target, state)."""

    def __init__(self, kept: Iterable[tuple[str, str, bytes]]) -> None:
        self.streams: dict[Name, Stream] = {}
        self._changed: set[Name] = set()
        self._tables: dict[str, Table] = {}
        self._kept = {(model, target): state for model, target, state in kept}

    def use(self, models: Mapping[str, Table]) -> list[Name]:
        """Goes by a policy; the streams that it does not watch any more, which are forgotten. One whose
        settings changed keeps what it knows, if its strata are as many."""
        forgotten = [name for name in (*self.streams, *self._kept) if name[0] not in models]
        for name in forgotten:
            self.streams.pop(name, None)
            self._kept.pop(name, None)
            self._changed.discard(name)
        for name, stream in list(self.streams.items()):
            if models[name[0]] != self._tables.get(name[0]):
                self.streams[name] = self._reopened(dump(stream), name, settings_of(models[name[0]]))
        self._tables = dict(models)
        # All that were left are taken up, so that they are told of before their next answer.
        for name in list(self._kept):
            self._stream(name, models[name[0]])
        return forgotten

    def _reopened(self, state: bytes, name: Name, settings: Settings) -> Stream:
        try:
            return load(state, TABLES, settings)
        except OtherState as error:
            say(f"drift: {name[0]} on {name[1]} learns anew: {error}")
            return Stream(*name, TABLES, settings)

    def take(self, name: Name, sample: Sample, identity: Mapping[str, str]) -> Found:
        """One answer."""
        table = self._tables.get(name[0])
        if table is None:
            return Found(skipped="not_watched")
        stream = self._stream(name, table)
        seen = [stream.see(field, value, sample.at_s) for field, value in identity.items()]
        before = sum(stream.skipped.values())
        alarms = stream.take(sample)
        self._changed.add(name)
        skipped = "" if sum(stream.skipped.values()) == before else "repeat"
        return Found(alarms, [change for change in seen if change is not None], skipped)

    def _stream(self, name: Name, table: Table) -> Stream:
        found = self.streams.get(name)
        if found is None:
            kept, settings = self._kept.pop(name, None), settings_of(table)
            found = Stream(*name, TABLES, settings) if kept is None else self._reopened(kept, name, settings)
            self.streams[name] = found
        return found

    def states(self, names: Iterable[Name]) -> list[tuple[str, str, bytes]]:
        """(model, target, state) of streams, to be written down."""
        return [(*name, dump(self.streams[name])) for name in names if name in self.streams]

    def take_changed(self) -> set[Name]:
        """The streams that changed since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def change(self, what: str, name: Name, *, label: str, config: str, at_s: float) -> str:
        """An order: accept, start_over or pin, an operator's; probed, of probes that saw a change. What was
        done. LookupError: there is no such stream."""
        stream = self.streams.get(name)
        if stream is None:
            raise LookupError(f"no answers of {name[0]} on {name[1]} are watched yet")
        if what == "pin":
            pinned = stream.pin(label, config, at_s)
            done = f"pinned {pinned.answers} answers as {label}"
        elif what == "accept":
            done = "what came since the alarm is the reference" if stream.alarm or stream.slow else "no alarm"
            stream.accept()
        elif what == "probed":
            stream.probed(at_s)
            done = "probes saw a change"
        else:
            stream.start_over()
            done = "learning begins anew"
        self._changed.add(name)
        return done

    def told(self) -> list[dict[str, Any]]:
        """What stands of each stream, as plain values."""
        return [_told(stream) for _, stream in sorted(self.streams.items())]

    def distributions(self, name: Name, most: int = 8) -> list[dict[str, Any]]:
        """Of the channels that moved most, the reference and what answers are now, bin by bin."""
        stream = self.streams.get(name)
        if stream is None:
            return []
        measured = _measured(stream)
        layout = stream.tables.answers
        found = []
        for index in np.argsort(-measured.sure, kind="stable")[:most]:
            channel, first = layout.channels[index], int(layout.first[index])
            part = slice(first, first + channel.bins)
            found.append(
                {
                    "channel": channel.name,
                    "tells": channel.tells,
                    "unit": natural(channel, 0.0)[1],
                    "kind": channel.kind,
                    "edges": [round(natural(channel, edge)[0], 6) for edge in channel.edges],
                    "cells": list(channel.cells),
                    "effect": round(float(measured.size[index]), 4),
                    "reference": [round(float(share), 5) for share in measured.before[part]],
                    "current": [round(float(share), 5) for share in measured.after[part]],
                }
            )
        return found


def _measured(stream: Stream) -> Effects:
    """The reference against what came since the alarm, or lately if there is none."""
    watch = stream.answers
    if not watch.stands:
        return effects(watch.detector, 0)
    layout = stream.tables.answers
    before, after = np.zeros(layout.width), np.zeros(layout.width)
    for place in range(watch.detector.strata):
        old, new = watch.detector.counts[place], watch.candidate[place]
        old_total, new_total = (np.add.reduceat(counts, layout.first) for counts in (old, new))
        weight = np.where(old_total > 0, new_total, 0)
        before += old * (weight / np.maximum(old_total, 1))[layout.owner]
        after += new * (weight > 0)[layout.owner]
    told = [np.add.reduceat(counts, layout.first) for counts in (before, after)]
    return compare(layout, before, after, told[0], told[1], int(watch.candidates.sum()))


def _told(stream: Stream) -> dict[str, Any]:
    watch, slow = stream.answers, stream.performance
    detector = watch.detector
    evidence = stream.alarm.evidence if stream.alarm is not None else decades(detector.evidence)
    strata = [
        {
            "kind": key,
            "share": round(stream.strata.share(place), 4),
            "reference": int(detector.references[place]),
        }
        for place, key in enumerate(stream.keys())
        if key
    ]
    return {
        "model": stream.name[0],
        "target": stream.name[1],
        "state": stream.level.name.lower(),
        "evidence": round(evidence, 3),
        "input_evidence": round(decades(stream.asked.evidence), 3),
        "performance_state": slow.level.name.lower(),
        "performance_evidence": round(decades(slow.detector.evidence), 3),
        "creep_evidence": round(stream.creep.evidence, 3),
        "answers": stream.taken,
        "skipped": dict(stream.skipped),
        "reference": detector.reference,
        "arms_at": stream.settings.growth.arm_at,
        "channels": _channels(stream),
        "alarm": stream.alarm and stream.alarm.as_json(),
        "performance_alarm": stream.slow and stream.slow.as_json(),
        "identity": stream.identity.current(),
        "changes": [(change.field, change.before, change.after, change.at_s) for change in stream.changes],
        "baselines": [baseline.as_json() for baseline in stream.baselines.values()],
        "strata": strata,
    }


def _channels(stream: Stream) -> list[dict[str, Any]]:
    """Those with the most evidence, or those that the alarm names."""
    if stream.alarm is not None:
        moved = stream.alarm.moved
    else:
        detector, rules = stream.answers.detector, stream.settings.rules
        if detector.judged == 0:
            return []
        by_channel = detector.by_channel()
        measured = effects(detector, detector.changed_at())
        best = np.argsort(-by_channel, kind="stable")[:TOLD_CHANNELS]
        moved = tuple(
            describe(detector.layout, measured, int(index), float(by_channel[index]), rules) for index in best
        )
    return [
        {
            "channel": channel.channel,
            "evidence": round(decades(channel.evidence), 3),
            "effect": round(channel.effect, 4),
            "before": channel.before,
            "after": channel.after,
            "cell": channel.cell,
            "text": change(asdict(channel)),
        }
        for channel in moved
    ]
