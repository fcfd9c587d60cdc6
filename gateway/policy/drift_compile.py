"""What a policy says of drift, as plain tables: one for workers, one for who judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.policy.drift_spec import DriftSpec, ModelWatchSpec


def watch_table(default: DriftSpec, own: ModelWatchSpec | None) -> dict[str, Any] | None:
    """How one model is watched; None: it is not. `own` changes what it names, member by member."""
    told = {**default.model_dump(exclude={"sample", "identity", "privacy", "probes"}), "on_alarm": None}
    if own is not None:
        told = _over(told, own.model_dump(exclude_unset=True, exclude={"on_alarm"}))
        if own.on_alarm is not None:
            told["on_alarm"] = own.on_alarm.model_dump()
    if not told.pop("enabled"):
        return None
    rebaseline = told["reference"]["rebaseline"]
    told["reference"]["rebaseline"] = 0 if rebaseline == "manual" else rebaseline
    return told


def drift_tables(
    default: DriftSpec,
    models: Mapping[str, ModelWatchSpec | None],
    key: str | None,
    secrets: Sequence[str],
    redis: str | None,
) -> dict[str, Any]:
    """`drift` for workers: what they take of whom; `drift_watch` for control alone: how it is judged, and the
    `secrets` of all providers, which none of them may have shown; `redis` is the store that gateways share.
    """
    watched = {name: watch_table(default, own) for name, own in models.items()}
    return {
        "drift": {
            "share": default.sample.share,
            "max_per_second": default.sample.max_per_second,
            "headers": default.identity.headers,
            "models": [name for name, table in watched.items() if table is not None],
        },
        "drift_watch": {
            "models": {name: table for name, table in watched.items() if table is not None},
            "cpu_share": default.sample.cpu_share,
            "texts_s": default.privacy.text_ttl if default.privacy.exemplars == "text" else None,
            "key": key,
            "secrets": sorted(set(secrets)),
            "redis": redis,
        },
    }


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for name, value in above.items():
        found[name] = _over(found[name], value) if isinstance(value, dict) else value
    return found
