"""An explanation as plain data: what `--json` prints and the admin port answers. Names of the policy and
numbers; of what was asked only what matched or is counted, and never a secret.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import Kind
from gateway.money import usd_text
from gateway.policy.explain import FIRST, Explanation, Prospect, Refused
from gateway.quota.forecast import Fill
from gateway.quota.rule import Rule


def as_json(found: Explanation) -> dict[str, Any]:
    """All of it. Money is decimal text in fields that end in `_usd`, tokens are whole numbers; null: nobody
    knows, or nothing bounds it."""
    facts, call, first = found.facts, found.question.call, found.first
    decision = found.decision
    model = None if decision is None or decision.model is None else decision.model
    return {
        "outcome": "sent" if found.refused is None else "refused",
        "policy": found.snapshot.hash,
        "request": {
            "key": facts.key,
            "team": facts.team,
            "model": facts.model,
            "endpoint": facts.endpoint,
            "stream": facts.stream,
            "tags": list(facts.tags),
            "bytes": call.size,
            "assumed": list(found.question.assumed),
        },
        "refusal": None if found.refused is None else _refused(found.refused),
        "route": None if decision is None or decision.route is None else decision.route.name,
        "instead": [{"budget": budget, "model": named.name} for budget, named in found.instead],
        "model": None if model is None else model.name,
        "strategy": None if model is None else model.strategy,
        "target": None if first is None else first.target.name,
        "max_tokens": None if first is None else first.forecast.cap,
        "cost_at_most_usd": None if first is None else _usd(first.forecast.most_nanousd),
        "cost_likely_usd": None if first is None else _usd(first.likely_nanousd),
        "steps": [step._asdict() for step in found.steps],
        "targets": [_prospect(prospect) for prospect in found.prospects],
        "fallback_on": [] if model is None else sorted(model.fallback_on),
    }


def _refused(refused: Refused) -> dict[str, Any]:
    return {
        **_kind(refused.kind),
        "message": refused.message,
        "by": refused.by or None,
        "may_be": [kind.error_type for kind in refused.may_be],
    }


def _kind(kind: Kind) -> dict[str, Any]:
    return {"error_type": kind.error_type, "status": kind.status, "code": kind.code}


def _prospect(prospect: Prospect) -> dict[str, Any]:
    forecast, target = prospect.forecast, prospect.target
    need = forecast.need
    is_first = prospect.verdict == FIRST
    return {
        "target": target.name,
        "verdict": prospect.verdict,
        "reason": None if prospect.kind is None else prospect.kind.error_type,
        "unsupported": prospect.unsupported or None,
        "by": None if forecast.blamed is None else forecast.blamed.rule.policy_name,
        "share": prospect.share,
        "input_tokens_at_most": forecast.most_input,
        "output_tokens_at_most": forecast.most_output,
        "max_tokens": forecast.cap,
        "is_shrunk": need.is_shrunk,
        "output_tokens_likely": prospect.likely_output,
        "is_priced": target.price is not None,
        "cost_at_most_usd": _usd(forecast.most_nanousd),
        "cost_likely_usd": _usd(prospect.likely_nanousd),
        "dropped": list(prospect.dropped) if is_first else [],
        "limits": [_fill(fill) for fill in forecast.fills],
    }


def _fill(fill: Fill) -> dict[str, Any]:
    rule = fill.rule
    name, subject, window = fill.purse.bucket.split("|", 2)
    row: dict[str, Any] = {
        "name": rule.policy_name,
        "rule": name,
        "subject": subject,
        "kind": "budget" if rule.is_money else "limit",
        "measure": rule.measure,
        "mode": rule.mode,
        "window": window or _per(rule),
    }
    share = round(1 - fill.free / fill.most, 4) if fill.most > 0 else 1.0
    amounts = {"needs": fill.need, "free": fill.free, "of": fill.most}
    if rule.is_money:
        row |= {f"{what}_usd": usd_text(amount) for what, amount in amounts.items()}
    else:
        row |= amounts
    return {**row, "used_share": share, "fits": fill.fits}


def _per(rule: Rule) -> str:
    return f"{rule.limit} in {rule.window_ms // 1000} s" if rule.window_ms else ""


def _usd(nanousd: int | None) -> str | None:
    return None if nanousd is None else usd_text(nanousd)
