"""`make matrix`: what each caller's dialect can ask of each target's, tried out with the official SDKs.

A gateway and a simulated provider are started; every cell is a call. "yes" is an answer that has what was
asked for; else the words of the refusal.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from gateway.simulator.faults import Fault
from gateway.simulator.server import Simulator
from gateway.simulator.server import start as start_simulator
from tests.running import KEY, ROOT, Gateway
from tests.sdk.matrix import CALLERS, PIXEL, SCHEMA, TARGETS, TOOLS, Asking, Caller, Got, policy_of

YES = "yes"
Check = Callable[[Caller, str, Simulator], Awaitable[str]]
_README = ROOT / "README.md"
_SECTION = re.compile(r"(?<=<!-- matrix -->\n).*?(?=<!-- /matrix -->)", re.DOTALL)


def _asks(asking: Asking, holds: Callable[[Got], bool], *, thinks: bool = False) -> Check:
    async def check(caller: Caller, target: str, simulator: Simulator) -> str:
        try:
            got = await caller.ask(f"{target}-thinks" if thinks else target, asking)
        except caller.failed as refused:
            return str(refused)
        return YES if holds(got) else f"not as asked: {got}"

    return check


async def _error(caller: Caller, target: str, simulator: Simulator) -> str:
    simulator.script([Fault("status_400")])
    try:
        await caller.ask(target, Asking())
    except caller.failed as refused:
        return YES if getattr(refused, "status_code", 0) == 400 else f"another error: {refused}"
    finally:
        simulator.script([])
    return "no error"


def _called(count: int) -> Callable[[Got], bool]:
    return lambda got: [name for name, _ in got.calls] == list(TOOLS)[:count]


def _both(count: int) -> str:
    return f"Call {' and '.join(list(TOOLS)[:count])}."


def _has_form(got: Got) -> bool:
    return json.loads(got.text).keys() == SCHEMA["properties"].keys()  # type: ignore[attr-defined]


COLUMNS: Mapping[str, Check] = {
    "plain": _asks(Asking(), lambda got: bool(got.text) and got.input > 0),
    "stream": _asks(Asking(stream=True), lambda got: bool(got.text) and got.input > 0),
    "tools": _asks(Asking(prompt=_both(1), tools=TOOLS), _called(1)),
    "parallel tools": _asks(Asking(prompt=_both(2), tools=TOOLS, stream=True), _called(2)),
    "structured": _asks(Asking(schema=SCHEMA), _has_form),
    "image": _asks(Asking(image=PIXEL), lambda got: bool(got.text)),
    "reasoning": _asks(
        Asking(effort="low", cap=4000), lambda got: got.output > 64 or got.thought != "", thinks=True
    ),
    "error": _error,
    "cap": _asks(Asking(cap=16), lambda got: (got.reason, got.output) == ("length", 16)),
}


async def tried(url: str, simulator: Simulator) -> dict[tuple[str, str], list[str]]:
    """(caller, target) → what each column came to. `url` is the gateway's, with `/v1`."""
    # Answers are longer than the least cap of the Responses API, 16 tokens.
    simulator.settings.output_tokens = 32
    found = {}
    for name, make in CALLERS.items():
        caller: Caller = make(url.removesuffix("/v1"), KEY)
        for target in TARGETS:
            found[name, target] = [await check(caller, target, simulator) for check in COLUMNS.values()]
        await caller.close()
    return found


def markdown(found: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """The table as it stands in the README."""
    lines = [
        f"| caller | target | {' | '.join(COLUMNS)} |",
        "|" + "---|" * (len(COLUMNS) + 2),
        *(f"| {caller} | {target} | {' | '.join(cells)} |" for (caller, target), cells in found.items()),
    ]
    return "\n".join(lines) + "\n"


async def run() -> dict[tuple[str, str], list[str]]:
    """The matrix, of a gateway and a provider of its own."""
    simulator = await start_simulator()
    with tempfile.TemporaryDirectory() as folder:
        policy = policy_of(simulator.url, hashlib.sha256(KEY.encode()).hexdigest())
        gateway = Gateway(Path(folder), policy, environ={})
        gateway.start()
        try:
            await gateway.ready()
            return await tried(gateway.url, simulator)
        finally:
            gateway.stop()
            await simulator.stop()


def main() -> int:
    """0 if every cell is "yes" or refused with a reason."""
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    parser.add_argument("--json", action="store_true", help="print one JSON object a row")
    asked = parser.parse_args()
    found = asyncio.run(run())
    if asked.json:
        for (caller, target), cells in found.items():
            print(json.dumps({"caller": caller, "target": target, **dict(zip(COLUMNS, cells, strict=True))}))
    else:
        print(markdown(found), end="")
    if asked.write:
        _README.write_text(_SECTION.sub(lambda _: markdown(found), _README.read_text()))
    return int(any(cell != YES for cells in found.values() for cell in cells))


if __name__ == "__main__":
    raise SystemExit(main())
