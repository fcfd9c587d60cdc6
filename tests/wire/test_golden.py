"""Golden files: what one dialect says, and to the letter how the others are told it.

Each file of `golden/` holds what is `given` in the dialect that its name ends in, and the same for every
other. `python -m tests.wire.test_golden` writes the others anew; read the difference before you commit it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.wire.conversation import Leftovers, Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.json import dumps, read_object
from gateway.wire.translated import TranslatedStream

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.json"))
DIALECTS: Mapping[str, Dialect] = {"chat": CHAT, "anthropic": ANTHROPIC, "responses": RESPONSES}
MODELS = {"chat": "gpt-5", "anthropic": "claude-sonnet-4-5", "responses": "gpt-5"}
MADE_S = 1_764_000_000


def _request(given: Mapping[str, Any], source: Dialect, name: str) -> dict[str, Any]:
    left = Leftovers("the target")
    toward = Toward(MODELS[name], reasons=True)
    written = DIALECTS[name].write_request(source.read_request(given), toward, None, left)
    return {"fields": written, "dropped": left.dropped}


def _answer(given: Mapping[str, Any], source: Dialect, name: str) -> dict[str, Any]:
    answer = source.read_answer(given)
    assert answer is not None
    answer.created_s = answer.created_s or MADE_S
    return DIALECTS[name].write_answer(answer)


def _stream(given: list[str], source: Dialect, name: str) -> list[str]:
    stream = TranslatedStream(source.reader(), DIALECTS[name].writer(True), created_s=MADE_S)
    out = b"".join(stream.feed(f"{event}\n\n".encode()) for event in given) + stream.finish()
    assert stream.done and stream.error is None and stream.unknown == {}
    return [event for event in out.decode().split("\n\n") if event]


_KINDS: Mapping[str, Any] = {"request": _request, "answer": _answer, "stream": _stream}


def _as_read(value: Any) -> Any:
    """As it comes back from the wire."""
    return read_object(dumps({"value": value}))["value"]


def _named(path: Path) -> tuple[str, str]:
    """Kind and dialect of what a file gives: `request_tools.chat.json`."""
    return path.stem.partition("_")[0], path.stem.rpartition(".")[2]


def _translated(path: Path, given: Any) -> dict[str, Any]:
    """What is given, for every other dialect."""
    kind, source = _named(path)
    return {
        name: _as_read(_KINDS[kind](given, DIALECTS[source], name)) for name in DIALECTS if name != source
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_others_are_told_it_to_the_letter(path: Path) -> None:
    golden = json.loads(path.read_text())
    assert _translated(path, golden.pop("given")) == golden


def test_each_kind_is_there_in_each_dialect() -> None:
    assert {_named(path) for path in FILES} == {(kind, name) for kind in _KINDS for name in DIALECTS}


def main() -> None:
    """Writes the files anew."""
    for path in FILES:
        given = json.loads(path.read_text())["given"]
        text = json.dumps({"given": given, **_translated(path, given)}, indent=1, ensure_ascii=False)
        path.write_text(text + "\n")
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
