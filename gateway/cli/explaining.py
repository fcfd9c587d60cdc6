"""An explanation for people: the lines that `headgate explain` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.cli.columns import BOLD, RED, YELLOW, coloured, shown

Row = Mapping[str, Any]
_GREEN = "32"
_UNITS = {"requests": "requests", "concurrent": "calls at once"}


def text_of(told: Row) -> str:
    """`policy.explained.as_json`'s answer as lines: the outcome, why, what limits say, what it costs."""
    return "\n".join(_lines(told))


def _lines(told: Row) -> Iterator[str]:
    yield _headline(told)
    request = told["request"]
    yield ""
    yield coloured("why", BOLD)
    for step in told["steps"]:
        reason = f": {shown(step['reason'])}" if step["reason"] else ""
        mark = {"passed over": YELLOW, "refused": RED}.get(step["verdict"], "")
        yield f"  {shown(step['subject'])} {coloured(step['verdict'], mark)}{reason}"
    for spent in told["instead"]:
        yield f"  budget {spent['budget']} is spent: {spent['model']} answers instead"
    if told["targets"]:
        yield ""
        yield coloured("targets", BOLD)
        for place, target in enumerate(told["targets"], 1):
            yield from _target(place, target, told)
        first = next((each for each in told["targets"] if each["verdict"] == "first"), told["targets"][0])
        if first["limits"]:
            yield ""
            yield coloured(f"limits and budgets at {first['target']}", BOLD)
            for fill in first["limits"]:
                yield f"  {_fill(fill)}"
    if request["assumed"]:
        yield ""
        yield f"taken for granted: {', '.join(request['assumed'])} (about {request['bytes']:,} bytes)"


def _headline(told: Row) -> str:
    request = told["request"]
    who = f"{shown(request['key'])} asks for {shown(request['model'])}"
    refusal = told["refusal"]
    if refusal is not None:
        by = f" by {refusal['by']}" if refusal["by"] else ""
        words = f"refused{by}: {refusal['status']} {refusal['error_type']}"
        others = f" (or {', '.join(refusal['may_be'])})" if refusal["may_be"] else ""
        return f"{who}: {coloured(words, RED)}{others}\n  {refusal['message']}"
    other = f" as {told['model']}" if told["model"] != request["model"] else ""
    cost = _cost(told)
    return f"{who}: {coloured('goes to ' + told['target'], _GREEN)}{other}{cost}"


def _cost(row: Row) -> str:
    likely, most = row["cost_likely_usd"], row["cost_at_most_usd"]
    if likely is None:
        return ", at a price that nobody knows"
    return f", for about ${_short(likely)}" + (f", at most ${_short(most)}" if most is not None else "")


def _target(place: int, row: Row, told: Row) -> Iterator[str]:
    verdict = row["verdict"]
    if verdict == "first":
        words = coloured("is asked", _GREEN)
    elif verdict == "next":
        words = "if those before it fail"
    else:
        blamed = f" by {row['by']}" if row["by"] else ""
        colour = RED if verdict == "refused" else YELLOW
        words = coloured(f"{verdict}{blamed}: {row['unsupported'] or row['reason']}", colour)
    share = "" if row["share"] is None else f" ({row['share']:.0%} of calls begin here)"
    yield f"  {place}. {row['target']} {words}{share}"
    if not row["is_priced"]:
        yield "     no price is known"
    else:
        most = "nothing bounds what it may cost" if row["cost_at_most_usd"] is None else ""
        most = most or f"at most ${_short(row['cost_at_most_usd'])}"
        bounds = [f"{row['output_tokens_likely']:,} output tokens likely"]
        if row["output_tokens_at_most"] is not None:
            bounds.append(f"{row['output_tokens_at_most']:,} at most")
        yield f"     about ${_short(row['cost_likely_usd'])}, {most}; {', '.join(bounds)}"
    if row["max_tokens"] is not None:
        why = ", less than it would have, to fit" if row["is_shrunk"] else ""
        yield f"     a cap of {row['max_tokens']:,} is written into the call{why}"
    if row["dropped"]:
        yield f"     left out, since its API has no word for it: {', '.join(map(shown, row['dropped']))}"


def _fill(fill: Row) -> str:
    name = f"{fill['rule']} ({fill['subject']})" if fill["subject"] != "all" else fill["rule"]
    if fill["kind"] == "budget":
        words = f"needs ${_short(fill['needs_usd'])} of ${_short(fill['free_usd'])} left"
        words += f" of ${_short(fill['of_usd'])}"
    else:
        unit = _UNITS.get(fill["measure"], fill["measure"].replace("_", " "))
        words = f"needs {fill['needs']:,} of {fill['free']:,} left of {fill['of']:,} {unit}"
    words += f", {fill['used_share']:.0%} used"
    watches = " (only watches)" if fill["mode"] == "shadow" else ""
    return f"{name}: {words}{watches}" if fill["fits"] else f"{name}: {coloured(words, RED)}{watches}"


def _short(usd: str) -> str:
    """Dollars to four figures that count, but to the cent above a dollar: "0.000153150" → "0.0001532"."""
    amount = float(usd)
    if amount >= 1 or amount == 0:
        return f"{amount:,.2f}"
    return f"{amount:.4g}" if amount >= 0.0001 else f"{amount:.4e}" if amount < 1e-9 else _plain(amount)


def _plain(amount: float) -> str:
    return f"{amount:.12f}".rstrip("0")
