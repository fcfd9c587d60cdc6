"""What was found, in plain words: for people who have never heard of an e-value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.drift.answer_channels import ANSWER
from gateway.drift.channel import Channel, natural
from gateway.drift.performance_channels import PERFORMANCE
from gateway.quota.moment import iso

_CHANNELS: dict[str, Channel] = {channel.name: channel for channel in (*ANSWER, *PERFORMANCE)}
_CAUSES = {
    "model": "Nothing else changed with it, so it is the model or what it is run on.",
    "mixed": "What was asked changed at the same time, so part of it may come from that.",
    "fingerprint": "The provider named another model or build at about the same time.",
    "confirmed": "Probes with fixed prompts changed too, so it is not what was asked.",
}


def sentence(alarm: Mapping[str, Any]) -> str:
    """An alarm (`Alarm.as_json`) in a line."""
    first = alarm["moved"][0] if alarm["moved"] else None
    what = {"answers": "answers changed", "performance": "speed changed", "creep": "answers moved slowly"}
    told = f": {change(first)}" if first else ""
    return (
        f"{alarm['model']} on {alarm['target']}: {what[alarm['kind']]} since {moment(alarm['since_s'])}{told}"
    )


def probe_sentence(alarm: Mapping[str, Any]) -> str:
    """An alarm of probes in a line."""
    prompts = ", ".join(alarm["prompts"][:3])
    return (
        f"{alarm['target']}: answers to the golden prompts of {alarm['suite']} changed since "
        f"{moment(alarm['since_s'])}, most those to {prompts}"
    )


def paragraphs(alarm: Mapping[str, Any]) -> Iterator[str]:
    """An alarm at length: what moved, since when, how sure that is, and what may be behind it."""
    yield sentence(alarm) + "."
    if alarm["kind"] == "creep":
        yield f"That is measured against the baseline {alarm['baseline']!r}; from day to day it did not show."
    else:
        yield f"{alarm['answers']} answers have come since. {_CAUSES[alarm['cause']]}"
    for moved in alarm["moved"]:
        yield f"  {change(moved)} (moved by {moved['effect']:.2f} of 1)"
    if alarm["strata"]:
        kinds = ", ".join(f"{key} (10^{evidence:.0f})" for key, evidence in alarm["strata"])
        yield f"Kinds of prompts it shows in, and the evidence in each: {kinds}."
    yield (
        f"If nothing had changed, such evidence (10^{alarm['evidence']:.1f}) would come up once in "
        f"{10 ** alarm['evidence']:,.0f} answers."
    )


def change(moved: Mapping[str, Any]) -> str:
    """One channel's change."""
    channel = _CHANNELS.get(moved["channel"])
    tells = moved["channel"] if channel is None else channel.tells
    before, after = moved["before"], moved["after"]
    if channel is None:
        return f"{tells} {_number(before)} → {_number(after)}"
    if channel.kind == "number":
        (old, unit), (new, _) = natural(channel, before), natural(channel, after)
        return f"{tells} {_number(old)} → {_number(new)} {unit}".rstrip()
    cell = f" ({moved['cell']})" if moved["cell"] else ""
    return f"{tells}{cell} {before:.1%} → {after:.1%}"


def moment(at_s: float) -> str:
    """A time of day, in UTC."""
    return iso(round(at_s * 1000))


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
