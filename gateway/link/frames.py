"""Messages between the processes of one gateway: length, kind, payload over a Unix socket."""

from __future__ import annotations

import struct

HELLO, PREPARE, PREPARED, SWITCH, SWITCHED = 1, 2, 3, 4, 5
"""HELLO worker → control {"index", "pid"}; PREPARE control → worker: a policy's tables; PREPARED worker →
control {"hash"} or {"hash", "error"}; SWITCH control → worker {"hash"}; SWITCHED worker → control
{"hash"}."""
ASK, REPLY = 6, 7
"""ASK worker → control {"n", …}: a question that only control can answer; REPLY control → worker {"n", …}.
Questions are sent again after a reconnect, so whatever they do must do no harm twice."""
LOG, LOGGED = 16, 17
"""LOG worker → control: whole JSON lines, each with its line end; LOGGED control → worker, in decimal digits:
so many lines more are written, or counted as dropped."""
TRACE = 18
"""TRACE worker → control: whole JSON lines, one for each call that becomes a trace. Never sent again."""
DRIFT = 19
"""DRIFT worker → control: answers to be looked at (`link.answers`), whole ones. Never sent again."""

KEEPER = -1
"""The `index` in the keeper's HELLO: it is given policies like a worker, and is none."""

MAX_PAYLOAD = 64 << 20
_HEAD = struct.Struct(">IB")


def frame(kind: int, payload: bytes) -> bytes:
    """One message as bytes. Raises ValueError above 64 MiB."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a message of {len(payload)} bytes; {MAX_PAYLOAD} is the most")
    return _HEAD.pack(len(payload), kind) + payload


class FrameReader:
    """Cuts a byte stream into messages, in any split."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """(kind, payload) of every message that `data` completes. ValueError: the stream is broken."""
        buffer = self._buffer
        buffer += data
        messages = []
        at = 0
        while len(buffer) - at >= _HEAD.size:
            size, kind = _HEAD.unpack_from(buffer, at)
            if size > MAX_PAYLOAD:
                raise ValueError("a message above 64 MiB")
            end = at + _HEAD.size + size
            if len(buffer) < end:
                break
            messages.append((kind, bytes(buffer[at + _HEAD.size : end])))
            at = end
        del buffer[:at]
        return messages
