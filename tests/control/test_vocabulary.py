"""Vocabularies come from the wheel, are the very ones of tiktoken, and give models their first ratio."""

from __future__ import annotations

import gzip
import inspect
import os
from pathlib import Path

import pytest
from tiktoken_ext import openai_public

from gateway.control import vocabulary
from gateway.control.vocabulary import SAMPLE, SHA256, NoVocabulary, bytes_per_token, encoding
from gateway.quota.ratio import MARGIN, START
from tests.quota.vocabulary import NAMES, loaded


@pytest.mark.parametrize("name", NAMES)
def test_hashes_are_tiktokens_own(name: str) -> None:
    assert SHA256[name] in inspect.getsource(getattr(openai_public, name))


@pytest.mark.parametrize("name", NAMES)
def test_encodings_round_trip_without_a_network(name: str) -> None:
    text = "".join(SAMPLE)
    assert loaded(name).decode(loaded(name).encode(text)) == text
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_other_vocabulary_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/o200k_base.tiktoken.gz").write_bytes(gzip.compress(b"aGk= 0\n"))
    (tmp_path / "data/cl100k_base.tiktoken.gz").write_bytes(b"no gzip")
    monkeypatch.setattr(vocabulary, "files", lambda _: tmp_path)
    for name in (*NAMES, "p50k_base"):
        with pytest.raises(NoVocabulary):
            encoding(name, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_vocabulary_that_is_not_there_is_said_and_a_guess_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vocabulary, "files", lambda _: tmp_path)
    vocabulary._ratio.cache_clear()
    try:
        assert [bytes_per_token("gpt-4o"), bytes_per_token("gpt-4o-mini")] == [START, START]
    finally:
        vocabulary._ratio.cache_clear()
    assert capfd.readouterr().err.count("there is no vocabulary o200k_base") == 1


def test_models_start_from_their_vocabulary_and_others_from_a_safe_guess() -> None:
    ratios = {
        name: bytes_per_token(name) for name in ("gpt-4o", "openai/gpt-5-mini", "gpt-4", "llama-3.1-8b")
    }
    assert ratios["llama-3.1-8b"] == START
    assert ratios["gpt-4o"] == ratios["openai/gpt-5-mini"]
    for model, name in (("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")):
        tokens = sum(len(loaded(name).encode_ordinary(text)) for text in SAMPLE)
        assert ratios[model] == sum(len(text.encode()) for text in SAMPLE) / tokens
        # Of the texts that calls are made of none but logs and the like are dearer than what is held.
        held = [len(text.encode()) * MARGIN / ratios[model] for text in SAMPLE]
        real = [len(loaded(name).encode_ordinary(text)) for text in SAMPLE]
        assert sum(held) > sum(real)
