"""What is kept of one answer for judging it: bins and keyed hashes, no text. About 110 bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEAD = struct.Struct(">BdQQQBBB")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One analysed answer of one stream.

    `at_s` is the time of day of its end. `stratum`, `prompt` and `output` are 64-bit keyed hashes: of what
    its prompt has in common with others (system prompt, tools, length, temperature), of the prompt, of the
    answer.
    `answer`, `asked` and `performance` hold one byte per channel of the tables of these names.
    """

    at_s: float
    stratum: int
    prompt: int
    output: int
    answer: bytes
    asked: bytes
    performance: bytes

    def pack(self) -> bytes:
        """As bytes, for others to read."""
        sizes = (len(self.answer), len(self.asked), len(self.performance))
        head = _HEAD.pack(_VERSION, self.at_s, self.stratum, self.prompt, self.output, *sizes)
        return head + self.answer + self.asked + self.performance

    @classmethod
    def unpack(cls, data: bytes) -> Sample:
        """ValueError if it was written by something else."""
        if len(data) < _HEAD.size or data[0] != _VERSION:
            raise ValueError("no sample of this version")
        _, at_s, stratum, prompt, output, *sizes = _HEAD.unpack_from(data)
        if len(data) != _HEAD.size + sum(sizes):
            raise ValueError("a sample that is cut")
        answer = _HEAD.size + sizes[0]
        asked = answer + sizes[1]
        return cls(at_s, stratum, prompt, output, data[_HEAD.size : answer], data[answer:asked], data[asked:])
