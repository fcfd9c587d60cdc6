"""How the simulator behaves: for all calls (`Settings`) and for one of them (`Directions`).

A call is directed by, in this order: the `simulate` object of its JSON body, its `x-simulate-*` headers,
the script (one entry per call), the fault of its model, the settings. A call that names its own fault (or
"none") leaves the script alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.simulator.faults import Fault

STYLES = ("plain", "terse", "verbose", "markdown", "refusing")
_LENGTHS = {"terse": 0.4, "verbose": 2.5}
"""How much shorter or longer than `output_tokens` an answer of this style is."""

KEYS: Mapping[str, type] = {
    "first_token_ms": float,
    "tokens_per_s": float,
    "output_tokens": int,
    "style": str,
    "says": str,
    "fault": str,
    "fault_after_chunks": int,
    "retry_after": str,
    "retry_after_ms": str,
    "split": int,
    "overrun_tokens": int,
}
"""What one call may ask for: `"simulate": {"style": "terse"}` in its body or `x-simulate-style: terse`."""


@dataclass(slots=True)
class Settings:
    """What the simulator does when a call asks for nothing else. May be changed while it runs."""

    seed: int = 1
    """Same seed and same request: same answer."""
    first_token_ms: float = 0
    tokens_per_s: float = 0
    """Pace of the answer after its first token; 0 is as fast as the connection takes it."""
    output_tokens: int = 32
    style: str = "plain"
    says: str = ""
    """The text of every answer that calls no tool, in place of prose and of a form's made-up values."""
    change_at: int | None = None
    """From this call on (the first is 1) answers have `change_style`: the model was changed silently."""
    change_style: str = "terse"
    script: list[Fault | None] = field(default_factory=list)
    """Used up one entry per call, None being a good answer: `[fault, fault]` fails twice, then is good.

    Read once, at the start; while it runs, `Simulator.script` sets another."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """Fault of every call for a model, by name; "*" is all models."""
    api_keys: tuple[str, ...] = ()
    """Keys that are let in; empty lets anybody in."""
    models: tuple[str, ...] = ()
    """The only models there are; empty answers under any name."""
    overrun_tokens: int = 0
    """Output that is told and billed but was never generated, on top of every whole answer: a provider that
    does not keep to the cap."""
    context_window_tokens: int = 0
    """Longer prompts are refused with `context_length_exceeded`; 0 takes any."""
    keep_alive_s: float = 75.0
    bill: Path | None = None
    """Where the bill is appended; None keeps it in memory only."""
    max_requests: int = 10_000
    """How many requests, departures and bill entries are kept in memory."""

    def __post_init__(self) -> None:
        for style in (self.style, self.change_style):
            if style not in STYLES:
                raise ValueError(f"There is no style of that name; use one of: {', '.join(STYLES)}.")

    def style_of(self, number: int) -> str:
        """The style of the call of that number (from 1)."""
        return self.change_style if self.change_at is not None and number >= self.change_at else self.style


@dataclass(frozen=True, slots=True)
class Directions:
    """How one call is answered."""

    first_token_ms: float
    tokens_per_s: float
    output_tokens: int
    style: str
    fault: Fault | None
    split: int
    """Bytes per HTTP chunk; 0 is one chunk per event."""
    overrun_tokens: int = 0
    """Output told and billed beyond what was generated."""
    says: str = ""
    """The text of the answer, if it calls no tool."""


class Scripts:
    """The faults still to come, for all models and per model (whose own script goes first)."""

    def __init__(self, script: Iterable[Fault | None]) -> None:
        self._by_model: dict[str | None, deque[Fault | None]] = {None: deque(script)}

    def replace(self, script: Iterable[Fault | None], model: str | None = None) -> None:
        """Drop what was still to come (for that model) and play this."""
        self._by_model[model] = deque(script)

    def take(self, model: str) -> Fault | None:
        """The entry of this call; None when all scripts are played."""
        for name in (model, None):
            if script := self._by_model.get(name):
                return script.popleft()
        return None


def asked_for(headers: Mapping[str, str], body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What a call asks for, checked: the `simulate` object over the `x-simulate-*` headers.

    `simulate.by_model` holds further objects that count for one model only, so that a call that is sent on
    to another target may fare differently there. Raises `ValueError` with a sentence for the caller.
    """
    asked: dict[str, Any] = {}
    for name, value in headers.items():
        if name.lower().startswith("x-simulate-"):
            key = name.lower()[len("x-simulate-") :].replace("-", "_")
            asked[key] = _checked(key, _number(value) if KEYS.get(key) in (int, float) else value)
    simulate = body.get("simulate")
    if simulate is None:
        return asked
    if not isinstance(simulate, dict):
        raise ValueError("'simulate' must be an object.")
    by_model = simulate.get("by_model", {})
    if not isinstance(by_model, dict) or not isinstance(own := by_model.get(model, {}), dict):
        raise ValueError("'simulate.by_model' must be an object of objects.")
    for key, value in ({**simulate, **own}).items():
        if key != "by_model":
            asked[key] = _checked(key, value)
    return asked


def direct(
    settings: Settings, asked: Mapping[str, Any], *, number: int, scripted: Fault | None, model: str
) -> Directions:
    """Everything that decides about one call, put together."""
    fault = scripted or settings.faults.get(model) or settings.faults.get("*")
    if name := asked.get("fault"):
        fault = None if name == "none" else Fault(name)
    if fault is not None:
        fault = Fault(
            fault.name,
            asked.get("fault_after_chunks", fault.after_chunks),
            asked.get("retry_after", fault.retry_after),
            asked.get("retry_after_ms", fault.retry_after_ms),
        )
    style = asked.get("style") or settings.style_of(number)
    length = round(settings.output_tokens * _LENGTHS.get(style, 1))
    return Directions(
        first_token_ms=asked.get("first_token_ms", settings.first_token_ms),
        tokens_per_s=asked.get("tokens_per_s", settings.tokens_per_s),
        output_tokens=asked.get("output_tokens", max(1, length)),
        style=style,
        fault=fault,
        split=1 if fault is not None and fault.name == "split_bytes" else asked.get("split", 0),
        overrun_tokens=asked.get("overrun_tokens", settings.overrun_tokens),
        says=asked.get("says", settings.says),
    )


def _number(text: str) -> float | int | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _checked(key: str, value: Any) -> Any:
    kind = KEYS.get(key)
    if kind is None:
        raise ValueError(f"'simulate' takes only: {', '.join(KEYS)}, by_model.")
    if kind is str:
        value = str(value) if key.startswith("retry") else value
        good = isinstance(value, str)
    else:
        good = type(value) in ((int, float) if kind is float else (int,)) and 0 <= value <= 1e9
    if key == "style":
        good = value in STYLES
    if key == "output_tokens":
        good = good and value >= 1
    if key == "fault" and good and value != "none":
        Fault(value)
    if not good:
        wanted = (
            f"one of: {', '.join(STYLES)}"
            if key == "style"
            else "text"
            if kind is str
            else "a number, not below 0"
        )
        raise ValueError(f"'simulate.{key}' must be {wanted}.")
    return value
