"""Sounds as callers send them."""

from __future__ import annotations

import base64
import struct


def wav(*, form: int = 1, channels: int = 1, hertz: int = 16_000, bits: int = 16, samples: int = 90) -> bytes:
    """A WAV file of so many bytes of silence."""
    frame = channels * bits // 8
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + samples, b"WAVEfmt ", 16, form, channels, hertz,
                       hertz * frame, frame, bits)  # fmt: skip
    return head + struct.pack("<4sI", b"data", samples) + bytes(samples)


SPEECH = base64.b64encode(wav()).decode()
