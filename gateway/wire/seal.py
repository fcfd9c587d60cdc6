"""Seals of what a model thought, as they travel through callers of another dialect than their provider's.

A provider wants its seal back in the next turn. A caller's dialect has a place for its own provider's alone:
there another one stands with a mark before it, which says whose it is.
"""

from __future__ import annotations

from gateway.wire.conversation import Thinking

_MARK = "headgate"


def seal_for(part: Thinking, own: str) -> str:
    """The seal of a part for a caller of the dialect `own`; "" if it has none."""
    seal = part.signature or part.redacted
    if not seal or part.dialect in ("", own):
        return seal
    kind = "signed" if part.signature else "redacted"
    return ":".join((_MARK, part.dialect, kind, "" if ":" in part.id else part.id, seal))


def unmarked(seal: str, thought: str, own: str, id_: str = "") -> Thinking:
    """What a caller of the dialect `own` sends back, as the part that it was."""
    parts = seal.split(":", 4)
    if len(parts) == 5 and parts[0] == _MARK and parts[2] in ("signed", "redacted"):
        _, dialect, kind, id_, seal = parts
        if kind == "redacted":
            return Thinking("", redacted=seal, dialect=dialect, id=id_)
        return Thinking(thought, seal, dialect=dialect, id=id_)
    return Thinking(thought, seal, dialect=own, id=id_)
