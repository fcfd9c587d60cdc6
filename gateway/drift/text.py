"""Counts of a text that several channels are made of: one pass each over bytes, in C."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.drift.answer_channels import PROJECTIONS, SCRIPTS

_DIGITS = b"0123456789"
_CAPITALS = bytes(range(65, 91))
_SPACES = b" \t\n\r\x0b\x0c"
_PUNCTUATION = bytes(byte for byte in range(33, 127) if not chr(byte).isalnum())
_HIGH = bytes(range(128, 256))
_NO_LETTERS = bytes(byte for byte in range(256) if not chr(byte & 127).isalpha() or byte > 127)
_LIST_ITEM = re.compile(r"^[ \t]{0,12}(?:[-*+•–] |\d{1,3}[.)] )", re.MULTILINE)
_HEADER = re.compile(r"^#{1,6} ", re.MULTILINE)
_FORMULA = re.compile(r"\\\(|\\\[|\$\$|\\frac|\\sum|\\begin\{|\$[^$\n]{1,80}\$")
_CELLS = 256
_SIGNS = np.random.Generator(np.random.PCG64(20_230_718)).choice((-1.0, 1.0), (PROJECTIONS, _CELLS))
"""Fixed for ever: another seed makes other channels of the same names."""

_BLOCKS = (
    (0x00, "none"), (0x41, "latin"), (0x5B, "none"), (0x61, "latin"), (0x7B, "none"), (0xC0, "latin"),
    (0x250, "none"), (0x370, "greek"), (0x400, "cyrillic"), (0x530, "other"), (0x590, "hebrew"),
    (0x600, "arabic"), (0x780, "other"), (0x900, "indic"), (0xE00, "thai"), (0xE80, "other"), (0x1100,
    "hangul"), (0x1200, "other"), (0x1E00, "latin"), (0x1F00, "greek"), (0x2000, "none"), (0x3040, "kana"),
    (0x3100, "none"), (0x3400, "han"), (0xA000, "other"), (0xAC00, "hangul"), (0xD7B0, "none"), (0xF900,
    "han"), (0xFB00, "none"), (0xFB50, "arabic"), (0xFE00, "none"), (0xFF21, "latin"), (0xFF3B, "none"),
    (0xFF66, "kana"), (0xFFA0, "none"), (0x20000, "han"), (0x30000, "none"),
)  # fmt: skip
"""Where each script begins (Unicode 15, the blocks of letters; all else is none)."""
_STARTS = np.array([start for start, _ in _BLOCKS])
_SCRIPT = np.array([SCRIPTS.index(script) for _, script in _BLOCKS])
_LATIN = SCRIPTS.index("latin")
_AT_HOME = {
    "kana": {"han", "latin"},
    "han": {"kana", "latin"},
    "hangul": {"han", "latin"},
}
"""What is no foreign script beside another; Greek is none anywhere, as it is mathematics' own."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Shares are of the characters looked at; `script` indexes `SCRIPTS`."""

    size: int
    non_ascii: float
    digits: float
    capitals: float
    spaces: float
    punctuation: float
    lines: int
    list_lines: int
    has_header: bool
    has_formula: bool
    compression: float
    script: int
    is_mixed: bool
    spectrum: npt.NDArray[np.float64]
    """Letter triples hashed to 256 cells: roots of their counts, of length 1."""


def counted(text: str) -> Counted:
    """All counts of a text that is clipped already."""
    data = text.encode("utf-8", "replace")
    size = max(len(text), 1)
    ascii_bytes = len(data.translate(None, _HIGH))
    script, is_mixed = _scripts(text) if ascii_bytes < len(data) else (_plain_script(data), False)
    lines = text.count("\n") + 1
    return Counted(
        size=len(text),
        non_ascii=(len(text) - ascii_bytes) / size,
        digits=_count(data, _DIGITS) / size,
        capitals=_count(data, _CAPITALS) / size,
        spaces=_count(data, _SPACES) / size,
        punctuation=_count(data, _PUNCTUATION) / size,
        lines=lines,
        list_lines=len(_LIST_ITEM.findall(text)),
        has_header="#" in text and _HEADER.search(text) is not None,
        has_formula=("\\" in text or "$" in text) and _FORMULA.search(text) is not None,
        compression=len(zlib.compress(data, 1)) / max(len(data), 1),
        script=script,
        is_mixed=is_mixed,
        spectrum=spectrum(data),
    )


def script_of(text: str) -> int:
    """The index in `SCRIPTS` of most of its letters."""
    return _plain_script(text.encode()) if text.isascii() else _scripts(text)[0]


def _count(data: bytes, among: bytes) -> int:
    return len(data) - len(data.translate(None, among))


def _plain_script(data: bytes) -> int:
    return _LATIN if data.translate(None, _NO_LETTERS) else 0


def _scripts(text: str) -> tuple[int, bool]:
    """The script of most letters, and whether there are letters of a foreign one."""
    points = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    found = np.bincount(_SCRIPT[np.searchsorted(_STARTS, points, side="right") - 1], minlength=len(SCRIPTS))
    found[0] = 0
    most = int(found.argmax())
    if not found[most]:
        return 0, False
    own = _AT_HOME.get(SCRIPTS[most], {"latin"} if most != _LATIN else set())
    foreign = sum(
        int(found[index])
        for index, script in enumerate(SCRIPTS)
        if index not in (0, most) and script not in own and script != "greek"
    )
    return most, foreign > 0


def spectrum(data: bytes) -> npt.NDArray[np.float64]:
    """Where the letter triples of a text are, as a vector of length 1."""
    if len(data) < 3:
        return np.zeros(_CELLS)
    byte = np.frombuffer(data, np.uint8).astype(np.uint32)
    triple = byte[:-2] * 0x9E3779B1 + byte[1:-1] * 0x85EBCA6B + byte[2:] * 0xC2B2AE35
    found: npt.NDArray[np.float64] = np.sqrt(np.bincount(triple >> 24, minlength=_CELLS))
    return found / np.sqrt(found @ found)


def projections(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A spectrum, seen from eight fixed directions: each about 0, ±1."""
    found: npt.NDArray[np.float64] = _SIGNS @ vector
    return found
