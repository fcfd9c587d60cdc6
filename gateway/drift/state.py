"""A stream written down and read again: everything it knows, so that a restart changes no number.

An archive of plain arrays (numpy's .npz, nothing pickled) and one JSON text for what is no array. It is
marked with the channels it was made by; others begin anew, as their bins mean something else.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.drift.alarm import Alarm
from gateway.drift.baseline import Baseline
from gateway.drift.detector import Detector
from gateway.drift.identity import VALUES, Change
from gateway.drift.stream import Settings, Stream, Tables
from gateway.drift.verdict import Finding, Level, Moved
from gateway.drift.watch import Watch

VERSION = 1
_DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError)
Arrays = dict[str, npt.NDArray[Any]]


class OtherState(ValueError):
    """Written by another version, by other channels or for other settings, or damaged."""


def signature(tables: Tables) -> str:
    """What bins mean: two tables of one signature count the same things."""
    told = [
        [
            (channel.name, channel.kind, channel.edges, channel.cells, channel.critical)
            for channel in layout.channels
        ]
        for layout in (tables.answers, tables.asked, tables.performance)
    ]
    return blake2b(json.dumps([VERSION, told]).encode(), digest_size=8).hexdigest()


def dump(stream: Stream) -> bytes:
    """All of a stream: about 300 kB with 45 channels and 16 strata."""
    arrays: Arrays = {}
    _put_watch(arrays, "answers", stream.answers)
    _put_watch(arrays, "performance", stream.performance)
    _put_detector(arrays, "asked", stream.asked)
    for name, baseline in stream.baselines.items():
        arrays[f"baseline.{name}"] = baseline.counts
    meta = {
        "signature": signature(stream.tables),
        "name": stream.name,
        "strata": {
            "most": stream.strata.most,
            "places": {str(key): place for key, place in stream.strata.places.items()},
            "counts": {str(key): count for key, count in stream.strata.counts.items()},
            "taken": stream.strata.taken,
        },
        "repeats": {
            "prompts": [{str(key): at for key, at in held.items()} for held in stream.repeats.prompts],
            "answers": stream.repeats.answers,
            "pairs": list(stream.repeats.pairs),
        },
        "watches": {"answers": _told(stream.answers), "performance": _told(stream.performance)},
        "identity": {field: list(values) for field, values in stream.identity.values.items()},
        "changes": [(change.field, change.before, change.after, change.at_s) for change in stream.changes],
        "asked_at_s": list(stream.asked_at_s),
        "probed_at_s": stream.probed_at_s,
        "taken": stream.taken,
        "skipped": stream.skipped,
        "alarms": stream.alarms,
        "alarm": stream.alarm and stream.alarm.as_json(),
        "slow": stream.slow and stream.slow.as_json(),
        "baselines": {name: baseline.as_json() for name, baseline in stream.baselines.items()},
        "creep": stream.creep.as_json(),
    }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def load(data: bytes, tables: Tables, settings: Settings) -> Stream:
    """The stream that `dump` wrote. `OtherState`: it can't be gone on from, so learning begins anew."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop("meta").tobytes())
        if meta["signature"] != signature(tables) or meta["strata"]["most"] != settings.strata:
            raise OtherState("the channels or strata are others now")
        return _restored(meta, arrays, tables, settings)
    except OtherState:
        raise
    except (LookupError, TypeError, ValueError, OSError, EOFError, AttributeError, *_DAMAGED) as error:
        raise OtherState(f"a damaged state of drift: {type(error).__name__}") from error


def _restored(meta: Mapping[str, Any], arrays: Arrays, tables: Tables, settings: Settings) -> Stream:
    model, target = meta["name"]
    stream = Stream(model, target, tables, settings)
    _take_watch(arrays, "answers", stream.answers, meta["watches"]["answers"])
    _take_watch(arrays, "performance", stream.performance, meta["watches"]["performance"])
    _take_detector(arrays, "asked", stream.asked)
    strata = meta["strata"]
    stream.strata.places = {int(key): place for key, place in strata["places"].items()}
    stream.strata.counts = {int(key): count for key, count in strata["counts"].items()}
    stream.strata.taken = strata["taken"]
    repeats = meta["repeats"]
    stream.repeats.prompts = [{int(key): at for key, at in held.items()} for held in repeats["prompts"]]
    stream.repeats.answers = list(repeats["answers"])
    stream.repeats.restore(repeats["pairs"])
    stream.identity.values = {
        field: deque(values, maxlen=VALUES) for field, values in meta["identity"].items()
    }
    stream.changes.extend(Change(*change) for change in meta["changes"])
    stream.asked_at_s.extend((since_s, at_s) for since_s, at_s in meta["asked_at_s"])
    stream.probed_at_s, stream.taken = meta["probed_at_s"], meta["taken"]
    stream.skipped, stream.alarms = dict(meta["skipped"]), dict(meta["alarms"])
    stream.alarm = Alarm.from_json(meta["alarm"]) if meta["alarm"] else None
    stream.slow = Alarm.from_json(meta["slow"]) if meta["slow"] else None
    for name, told in meta["baselines"].items():
        stream.baselines[name] = Baseline.from_json(told, arrays[f"baseline.{name}"])
    stream.creep.restore(meta["creep"])
    return stream


def _told(watch: Watch) -> dict[str, Any]:
    finding = watch.finding
    return {
        "stands": watch.stands,
        "next": watch.next,
        "level": int(finding.level),
        "evidence": finding.evidence,
        "since": finding.since,
        "since_s": finding.since_s,
        "answers": finding.answers,
        "outputs": list(finding.outputs),
        "moved": [
            (m.channel, m.evidence, m.effect, m.before, m.after, m.cell, m.passes) for m in finding.moved
        ],
    }


def _put_watch(arrays: Arrays, name: str, watch: Watch) -> None:
    _put_detector(arrays, name, watch.detector)
    arrays[f"{name}.candidate"], arrays[f"{name}.candidates"] = watch.candidate, watch.candidates


def _take_watch(arrays: Arrays, name: str, watch: Watch, told: Mapping[str, Any]) -> None:
    _take_detector(arrays, name, watch.detector)
    watch.candidate[:], watch.candidates[:] = arrays[f"{name}.candidate"], arrays[f"{name}.candidates"]
    watch.stands, watch.next = told["stands"], told["next"]
    watch.finding = Finding(
        Level(told["level"]),
        told["evidence"],
        told["since"],
        told["since_s"],
        told["answers"],
        tuple(Moved(*moved) for moved in told["moved"]),
        tuple(told["outputs"]),
    )


def _arrays_of(detector: Detector) -> Arrays:
    recent = detector.recent
    return {
        "counts": detector.counts,
        "references": detector.references,
        "won": detector.won,
        "since": detector.since,
        "adaptive": detector.adaptive,
        "evidences": detector.evidences,
        "rows": recent.rows,
        "stratum": recent.stratum,
        "time": recent.time,
        "at_s": recent.at_s,
        "output": recent.output,
        "counted": recent.counted,
    }


def _put_detector(arrays: Arrays, name: str, detector: Detector) -> None:
    arrays |= {f"{name}.{part}": array for part, array in _arrays_of(detector).items()}
    arrays[f"{name}.clock"] = np.array([detector.judged, detector.recent.at, detector.attended], np.int64)


def _take_detector(arrays: Arrays, name: str, detector: Detector) -> None:
    for part, array in _arrays_of(detector).items():
        kept = arrays[f"{name}.{part}"]
        if kept.shape != array.shape or kept.dtype != array.dtype:
            raise OtherState(f"{name}.{part} is {kept.dtype}{kept.shape}, not {array.dtype}{array.shape}")
        array[...] = kept
    judged, at, attended = map(int, arrays[f"{name}.clock"])
    detector.judged, detector.recent.at, detector.attended = judged, at, attended
    detector.reference = int(detector.references.sum())
