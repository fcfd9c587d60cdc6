"""Recorded answers as samples: `TASK__MODEL.jsonl.gz` files whose rows have snapshot, pid, output, and
perhaps prompt, tokens and temperature."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.drift.answer import Answered, Asked
from gateway.drift.features import Reader
from gateway.drift.sample import Sample

_KEY = b"benchmark"


class Answers(NamedTuple):
    """The answers of one model to one task at one time."""

    task: str
    model: str
    snapshot: str
    texts: list[str]
    samples: list[Sample]

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.task} {self.snapshot}"

    def bins(self) -> npt.NDArray[np.uint8]:
        """Answers × channels."""
        return np.stack([np.frombuffer(sample.answer, np.uint8) for sample in self.samples])


def read_folder(folder: Path, most: int = 10_000) -> list[Answers]:
    """All of a folder, `most` rows of a snapshot at most, in the files' order."""
    found: list[Answers] = []
    for file in sorted(folder.glob("*__*.jsonl.gz")):
        task, _, model = file.name.removesuffix(".jsonl.gz").partition("__")
        rows: dict[str, list[dict[str, Any]]] = {}
        with gzip.open(file, "rt") as lines:
            for line in lines:
                row = json.loads(line)
                kept = rows.setdefault(row["snapshot"], [])
                if len(kept) < most and isinstance(row.get("output"), str):
                    kept.append(row)
        for snapshot, kept in rows.items():
            samples = list(_samples(task, kept))
            found.append(Answers(task, model, snapshot, [row["output"] for row in kept], samples))
    return found


def _samples(task: str, rows: list[dict[str, Any]]) -> Iterator[Sample]:
    reader = Reader(_KEY)
    for row in rows:
        prompt = row.get("prompt") or row["pid"]
        yield sample_of(reader, row["output"], prompt, task, row.get("tokens"))


def sample_of(reader: Reader, text: str, prompt: str, system: str, tokens: int | None = None) -> Sample:
    """One answer as the gateway would have seen it: the task stands for the system prompt."""
    asked = Asked(system=system, texts=(prompt,), last=prompt, tools=b"", temperature=None)
    head: dict[str, Any] = {"model": "bench", "target": "bench"}
    if isinstance(tokens, int):
        head["output"] = tokens
    return reader.sample(asked, Answered(text, len(text), "stop"), head).sample


def renamed(sample: Sample, number: int) -> Sample:
    """The same answer as if it were another: drawn twice, it is no repeat."""
    return replace(sample, prompt=number, output=number, at_s=float(number))
