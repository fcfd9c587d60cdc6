"""How probes get through the line: as calls of a key of their own to models of one target each.

So a probe goes the way of any call (the provider's keys, TLS, timeouts, prices, log, metrics), while no limit
or budget of the policy counts it, no caller can use it and no answer to it is taken for one to a caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEAM = KEY = "_probes"
"""No policy can name it: names begin with a letter or a digit."""


def probe_model(target: str) -> str:
    """The model by which probes reach a target."""
    return f"_probe:{target}"


def with_probes(tables: Mapping[str, Any], probes: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """Compiled tables with a key of that digest that may use the models of `probes`
    (`policy.probe_compile`); as they are if there are none."""
    subjects = {
        subject["target"]["name"]: subject for suite in probes["suites"] for subject in suite["subjects"]
    }
    if not subjects:
        return dict(tables)
    by_name = {model["name"]: model for model in tables["models"]}
    models = [_model(by_name[subject["model"]], subject) for subject in subjects.values()]
    first = len(tables["models"])
    key = {
        "name": KEY,
        "team": len(tables["teams"]),
        "sha256": sha256,
        "expires": None,
        "models": list(range(first, first + len(models))),
        "pass_through": [],
        "names": [],
        "apart": True,
    }
    return {
        **tables,
        "models": [*tables["models"], *models],
        "teams": [*tables["teams"], {"name": TEAM}],
        "keys": [*tables["keys"], key],
    }


def _model(row: Mapping[str, Any], subject: Mapping[str, Any]) -> dict[str, Any]:
    """Asked once, without another target to go to: what fails is told as it is."""
    target = subject["target"]
    return {
        **row,
        "name": probe_model(target["name"]),
        "strategy": "priority",
        "targets": [{**target, "match": None, "weight": 1}],
        "fallback_on": [],
        "retries": {**row["retries"], "attempts": 0},
    }
