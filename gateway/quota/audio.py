"""Which sounds in a body have a bound: providers count seconds, so it must be sure how many bytes one takes.

FLAC and Opus write a second of silence in a few bytes, and a WAV may say that it has one sample a second:
minutes in a small body. Uncompressed WAV of 4 kHz or more takes 4,000 bytes a second, MP3 at least 1,000 (its
lowest rate is 8 kbit/s); the dearest provider counts 32 tokens (Gemini; OpenAI 10).
"""

from __future__ import annotations

import struct
from binascii import a2b_base64

_LEAST_HZ = 4_000
_PCM, _FLOAT = 1, 3
_WAV_CHARACTERS = 48
"""Base64 of the first 36 bytes: RIFF, its size, WAVE, "fmt ", its size, and the format."""
_WAV = struct.Struct("<4s4x8s4xHHI6xH")
_ID3_BYTES = 10


def takes_bytes(data: str) -> bool:
    """True if a sound in base64 is one that takes at least 1,000 bytes a second. Looks at its first bytes
    only, whatever it is said to be: providers do so too."""
    return _is_wav(data) or _is_mp3(data)


def _is_wav(data: str) -> bool:
    head = _decoded(data[:_WAV_CHARACTERS])
    if len(head) < _WAV.size:
        return False
    riff, wave, form, channels, hertz, bits = _WAV.unpack_from(head)
    if (riff, wave) != (b"RIFF", b"WAVEfmt "):
        return False
    return form in (_PCM, _FLOAT) and channels >= 1 and hertz >= _LEAST_HZ and bits >= 8


def _is_mp3(data: str) -> bool:
    start, head = 0, _decoded(data[:16])
    if head[:3] == b"ID3" and len(head) > _ID3_BYTES:
        for byte in head[6:_ID3_BYTES]:
            start = start << 7 | byte & 127
        start += _ID3_BYTES
        group = start // 3 * 4
        head = _decoded(data[group : group + 8])[start % 3 :]
    # The first frame's header: eleven bits of synchronisation, a version, layer III.
    return len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08


def _decoded(characters: str) -> bytes:
    try:
        return a2b_base64(characters, strict_mode=True)
    except ValueError:
        return b""
