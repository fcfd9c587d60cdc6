"""Sounds are bounded by their bytes only where a second cannot be written in a few of them."""

from __future__ import annotations

import base64
import io
import wave

import pytest

from gateway.quota.audio import takes_bytes
from tests.quota.sounds import SPEECH, wav

MP3 = bytes.fromhex("fff344c4") + bytes(60)


def text(sound: bytes) -> str:
    return base64.b64encode(sound).decode()


def id3(size: int) -> bytes:
    return b"ID3\4\0\0" + bytes([0, 0, size >> 7, size & 127]) + bytes(size)


def of_the_library(hertz: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(hertz)
        sound.writeframes(bytes(40))
    return file.getvalue()


@pytest.mark.parametrize(
    "sound",
    [
        of_the_library(16_000),
        of_the_library(4_000),
        wav(),
        wav(form=3, bits=32),
        MP3,
        *(id3(size) + MP3 for size in (0, 1, 2, 3, 300)),
        bytes.fromhex("fffb9064") + bytes(60),
    ],
)
def test_pcm_and_mp3_take_bytes(sound: bytes) -> None:
    assert takes_bytes(text(sound))


@pytest.mark.parametrize(
    "sound",
    [
        of_the_library(3_999),
        wav(hertz=1),
        wav(form=2),
        wav(form=0xFFFE),
        wav(bits=4),
        wav(channels=0),
        wav().replace(b"WAVEfmt ", b"WAVEJUNK"),
        wav()[:35],
        b"fLaC" + bytes(60),
        b"OggS" + bytes(60),
        id3(30) + b"fLaC" + bytes(60),
        id3(3),
        bytes.fromhex("fff94c80") + bytes(60),
        bytes.fromhex("ffeb9064") + bytes(60),
        b"",
    ],
)
def test_what_writes_silence_in_a_few_bytes_does_not(sound: bytes) -> None:
    assert not takes_bytes(text(sound))


@pytest.mark.parametrize(
    "data", ["", "=", "ä" * 60, "data:audio/wav;base64," + SPEECH, " " + SPEECH, "A" * 60]
)
def test_no_data_is_too_odd(data: str) -> None:
    assert not takes_bytes(data)
