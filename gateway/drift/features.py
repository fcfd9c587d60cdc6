"""From an answer to its bins: one byte per channel, and keyed hashes of what was asked and said."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import log2
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from gateway.drift.answer import Answered, Asked, clipped
from gateway.drift.answer_channels import ANSWER, FINISHES, INDEX, LAST, PHRASES, PROJECTIONS, STARTS, WORDS
from gateway.drift.asked_channels import ASKED, KINDS
from gateway.drift.channel import NOT_TOLD
from gateway.drift.identity import is_plain
from gateway.drift.lexicon import refuses
from gateway.drift.openai_answer import read_answered, read_asked
from gateway.drift.performance_channels import PERFORMANCE
from gateway.drift.sample import Sample
from gateway.drift.schema import fits
from gateway.drift.text import Counted, counted, projections, script_of
from gateway.wire.in_chat import answer_in_chat, request_in_chat
from gateway.wire.json import try_object

STREAMS = 1024
"""Strata whose previous answer is remembered."""
_SAME = 0.98
"""Cosine of two answers' letter triples from which on they are nearly the same."""
_SHORT = 40
_FEW_TOKENS = 8
"""An answer of so few says nothing of a pace."""
_CLOSERS = "\"'`*_)]}»”’"
_FIRST_PROJECTION = INDEX["projection_1"]
_EDGES = np.array(ANSWER[_FIRST_PROJECTION].edges)
_LASTS = {".": 1, "!": 2, "?": 3, ":": 4, ",": 5, "`": 8, "*": 9, "…": 1, "。": 12, "！": 2, "？": 3}
_ENDS = frozenset(".!?:…。！？")


class Read(NamedTuple):
    """One answer, read: its sample, and what says who made it."""

    sample: Sample
    identity: Mapping[str, str]
    text: str
    """What was looked at of its text. Of tool calls alone it is empty."""


class Reader:
    """Reads answers of all streams. `key` is that of the hashes: 1 to 64 bytes; `secrets` must not be shown
    where a provider repeats them."""

    def __init__(self, key: bytes, secrets: Sequence[str] = ()) -> None:
        self._key = key
        self._secrets = secrets
        self._previous: OrderedDict[tuple[str, str, int], npt.NDArray[np.float64]] = OrderedDict()

    def read(self, head: Mapping[str, Any], request: bytes, answer: bytes) -> Read | None:
        """One answer as it left the worker (`link.answers`); None if it cannot be read."""
        dialect, streamed = str(head.get("dialect", "")), head.get("stream") is True
        asked = read_asked(request_in_chat(dialect, request))
        if asked is None:
            return None
        size = head.get("bytes", len(answer))
        answered = read_answered(
            answer_in_chat(dialect, answer, streamed=streamed), streamed=streamed, size=size
        )
        if answered is None:
            return None
        return self.sample(asked, answered, head)

    def sample(self, asked: Asked, answered: Answered, head: Mapping[str, Any]) -> Read:
        """The same of what is read already."""
        stratum = self._hash(b"stratum", *_kind(asked))
        where = (str(head.get("model")), str(head.get("target")), stratum)
        text = clipped(answered.text)
        counts = counted(text)
        previous = self._previous.get(where)
        is_repeat = previous is not None and float(previous @ counts.spectrum) >= _SAME
        self._remember(where, counts.spectrum)
        texts = "\0".join(asked.texts).encode("utf-8", "replace")
        calls = "\0".join((*answered.tool_names, *answered.tool_arguments)).encode("utf-8", "replace")
        said = answered.text.encode("utf-8", "replace")
        sample = Sample(
            at_s=float(head.get("at", 0.0)),
            stratum=stratum,
            prompt=self._hash(b"prompt", asked.system.encode("utf-8", "replace"), texts, asked.tools),
            output=self._hash(b"output", said, calls),
            answer=answer_bins(asked, answered, text, counts, head, is_repeat=is_repeat),
            asked=asked_bins(asked, stratum),
            performance=performance_bins(head),
        )
        headers = head.get("headers")
        told = {**answered.identity, **(headers if isinstance(headers, dict) else {})}
        return Read(sample, {field: self._shown(field, value) for field, value in told.items()}, text)

    def _shown(self, field: str, value: str) -> str:
        """A value of identity as it may be kept: another one is told apart by its hash."""
        if is_plain(field, value, self._secrets):
            return value
        return f"#{self._hash(b'identity', value.encode('utf-8', 'replace')):016x}"

    def _remember(self, where: tuple[str, str, int], spectrum: npt.NDArray[np.float64]) -> None:
        self._previous[where] = spectrum
        self._previous.move_to_end(where)
        if len(self._previous) > STREAMS:
            self._previous.popitem(last=False)

    def _hash(self, kind: bytes, *parts: bytes) -> int:
        told = blake2b(digest_size=8, key=self._key, person=kind)
        for part in parts:
            told.update(b"%d:" % len(part) + part)
        return int.from_bytes(told.digest())


_NO_DIGITS = str.maketrans("0123456789", "0000000000")


def _kind(asked: Asked) -> tuple[bytes, bytes, bytes]:
    """What makes prompts of a kind: system prompt (a date in it makes no other), tools and form, length (4),
    temperature (3)."""
    length = sum(map(len, asked.texts))
    bucket = (length > 256) + (length > 2_048) + (length > 16_384)
    warmth = 2 if asked.temperature is None else int(asked.temperature > 0)
    system = asked.system.translate(_NO_DIGITS).encode("utf-8", "replace")
    return system, asked.tools, bytes([bucket, warmth])


def answer_bins(
    asked: Asked, answered: Answered, text: str, counts: Counted, head: Mapping[str, Any], *, is_repeat: bool
) -> bytes:
    """One byte per channel of `ANSWER`; `text` is the part that is looked at, `counts` its own."""
    stripped = text.strip()
    words = stripped.split()
    scale = answered.chars / max(counts.size, 1)
    many = len(words)
    first = " ".join(words[:100]).lower().split()
    found = bytearray([NOT_TOLD]) * len(ANSWER)

    def tell(name: str, value: float) -> None:
        index = INDEX[name]
        found[index] = ANSWER[index].bin_of(value)

    def put(name: str, cell: int) -> None:
        found[INDEX[name]] = cell

    tell("chars", log2(1 + answered.chars))
    tell("words", log2(1 + many * scale))
    tell("lines", log2(1 + counts.lines * scale))
    tell("word_length", (1 - counts.spaces) * counts.size / many if many else 0.0)
    if many:
        tell("distinct_words", len(set(first)) / len(first))
    tell("non_ascii", counts.non_ascii)
    tell("digits", counts.digits)
    tell("capitals", counts.capitals)
    tell("spaces", counts.spaces)
    tell("punctuation", counts.punctuation)
    tell("list_lines", counts.list_lines / counts.lines)
    tell("compression", counts.compression)
    tell("questions", text.count("?") + text.count("？"))
    tell("exclamations", text.count("!") + text.count("！"))
    put("first_word", crc32(first[0].encode("utf-8", "replace")) % WORDS if many else WORDS)
    phrase = " ".join(first[:3]).encode("utf-8", "replace")
    put("first_words", crc32(phrase) % PHRASES if many else PHRASES)
    put("last_char", _last(stripped))
    put("start", _start(stripped))
    put("script", counts.script)
    _tell_shape(put, stripped, counts)
    _tell_form(put, asked, answered, stripped)
    _tell_tokens(tell, answered, head)
    put("near_repeat", is_repeat)
    bins = np.searchsorted(_EDGES, projections(counts.spectrum), side="right")
    found[_FIRST_PROJECTION : _FIRST_PROJECTION + PROJECTIONS] = bins.astype(np.uint8).tobytes()
    return bytes(found)


def _tell_shape(put: Any, text: str, counts: Counted) -> None:
    at_once, anywhere = refuses(text)
    put("refusal", at_once)
    put("refusal_anywhere", anywhere)
    put("fence", "```" in text)
    put("header", counts.has_header)
    put("bold", "**" in text)
    put("list", counts.list_lines > 0)
    put("math", counts.has_formula)
    put("json_start", text[:1] in ("{", "["))
    put("ends_punctuated", text.rstrip(_CLOSERS)[-1:] in _ENDS and text != "")
    put("short", len(text) < _SHORT)
    put("other_script", counts.is_mixed)


def _tell_form(put: Any, asked: Asked, answered: Answered, text: str) -> None:
    finish = answered.finish_reason
    known = FINISHES.index(finish) if finish in FINISHES else len(FINISHES) - 1
    put("finish_reason", known if finish else 0)
    put("truncated", finish == "length")
    put("empty", not text and not answered.tool_names)
    names = answered.tool_names
    put("tool_names", crc32("\0".join(sorted(names)).encode("utf-8", "replace")) % WORDS if names else WORDS)
    if asked.wants_json and not names:
        value = try_object(text.encode("utf-8", "replace"))
        put("json_valid", value is not None)
        if asked.schema is not None:
            put("schema_valid", value is not None and fits(value, asked.schema))


def _tell_tokens(tell: Any, answered: Answered, head: Mapping[str, Any]) -> None:
    tell("tool_calls", len(answered.tool_names))
    output, prompt = head.get("output"), head.get("input")
    if isinstance(output, int):
        tell("completion_tokens", log2(1 + output))
        if isinstance(prompt, int) and prompt > 0:
            tell("output_input_ratio", log2(max(output, 0.25) / prompt))
    if isinstance(head.get("reasoning"), int):
        tell("reasoning_tokens", log2(1 + head["reasoning"]))
    if answered.first_logprob is not None:
        tell("first_logprob", answered.first_logprob)


def _last(text: str) -> int:
    last = text[-1:]
    if not last:
        return 0
    if last in _LASTS:
        return _LASTS[last]
    if last in ")]}>":
        return LAST.index("bracket")
    if last in "\"'»”’":
        return LAST.index("quote")
    if last.isdigit():
        return LAST.index("digit")
    return LAST.index("letter" if last.isalpha() else "other")


def _start(text: str) -> int:
    first = text[:1]
    if not first:
        return 0
    if first in "{[#":
        return STARTS.index(first)
    if text.startswith("```"):
        return STARTS.index("code fence")
    if text.startswith("**"):
        return STARTS.index("bold")
    if first in "-*+•–" and text[1:2] == " ":
        return STARTS.index("list item")
    if first.isdigit():
        return STARTS.index("digit")
    if first in "\"'“«‘„":
        return STARTS.index("quote")
    if first == "<":
        return STARTS.index("tag")
    if first.isascii():
        kinds = ("capital" if first.isupper() else "small letter") if first.isalpha() else "other"
        return STARTS.index(kinds)
    return STARTS.index("other letter" if first.isalpha() else "other")


def asked_bins(asked: Asked, stratum: int) -> bytes:
    """One byte per channel of `ASKED`."""
    last = clipped(asked.last)
    told: tuple[float, ...] = (
        log2(1 + len(asked.last)),
        log2(1 + len(asked.system) + sum(map(len, asked.texts))),
        len(asked.texts) + bool(asked.system),
        log2(1 + len(last.split())),
        last.count("?") + last.count("？"),
    )
    bins = [channel.bin_of(value) for channel, value in zip(ASKED, told, strict=False)]
    return bytes([*bins, script_of(last), stratum % KINDS, "```" in last, asked.has_tools])


def performance_bins(head: Mapping[str, Any]) -> bytes:
    """One byte per channel of `PERFORMANCE`."""
    first_token, per_token, pace = PERFORMANCE
    first_s, took_s, output = head.get("first_s"), head.get("took_s"), head.get("output")
    found = [NOT_TOLD, NOT_TOLD, NOT_TOLD]
    if isinstance(first_s, float):
        found[0] = first_token.bin_of(first_s * 1000)
    if isinstance(took_s, float) and isinstance(output, int) and output > _FEW_TOKENS:
        if first_s is None:
            found[1] = per_token.bin_of(took_s * 1000 / output)
        elif took_s > first_s:
            found[2] = pace.bin_of(output / (took_s - first_s))
    return bytes(found)
