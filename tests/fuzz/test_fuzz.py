"""Every target holds for a fixed number of cases, so that none rots; the runner finds a defect."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.run import ALL, Watchdog, counted, fuzz, main
from tests.fuzz.target import Target, case, pieces
from tests.running import ROOT

CASES = 150
SHRUNK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module", params=ALL)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with closing(ALL[request.param]()) as made:
        yield made


def test_target_holds_for_the_first_cases(target: Target) -> None:
    with closing(Watchdog()) as watchdog:
        result = fuzz(target, counted(1, CASES), watchdog)
    assert result.failure == ""
    assert result.execs == CASES


@SHRUNK
@given(data=st.data())
def test_target_holds_for_words_put_together(target: Target, data: st.DataObject) -> None:
    words = st.sampled_from([*target.corpus, *target.tokens]) | st.binary(max_size=8)
    text = b"".join(data.draw(st.lists(words, max_size=6)))
    target.check(text, data.draw(st.randoms(use_true_random=False)))


def test_corpora_are_good_and_mutations_are_not_only_bad() -> None:
    for name, make in ALL.items():
        with closing(make()) as target:
            inputs = {case(target, seed)[0] for seed in range(200)}
            assert target.name == name
            assert len(inputs) > 60, name
            assert inputs & set(target.corpus), name


def test_case_is_the_same_for_the_same_seed() -> None:
    with closing(ALL["sse"]()) as target:
        for seed in range(50):
            (data, draw), (again, draw_again) = case(target, seed), case(target, seed)
            assert data == again
            assert pieces(draw, data) == pieces(draw_again, again)


class Planted:
    """A defect: one byte in two hundred and fifty-six is too much for it."""

    name = "planted"
    corpus = (b"good",)
    tokens = (b"bad",)

    def check(self, data: bytes, draw: random.Random) -> None:
        assert b"bad" not in data, "this is the defect"

    def close(self) -> None: ...


def test_planted_defect_is_found_told_and_seen_again(capsys: pytest.CaptureFixture[str]) -> None:
    planted = {"planted": Planted}
    assert main(["--seconds", "20", "--json"], planted) == 1
    said = capsys.readouterr()
    (result,) = json.loads(said.out)
    seed = result["failed_seed"]
    assert f"make fuzz TARGET=planted SEED={seed}" in said.err
    assert "AssertionError: this is the defect" in said.err
    data, _ = case(Planted(), seed)
    assert f"input: {data!r}" in said.err and b"bad" in data
    assert main(["--target", "planted", "--seed", str(seed)], planted) == 1
    assert "this is the defect" in capsys.readouterr().err
    good = next(seed for seed in range(100) if b"bad" not in case(Planted(), seed)[0])
    assert main(["--target", "planted", "--seed", str(good)], planted) == 0


def test_case_that_does_not_end_is_told_and_ends_the_run() -> None:
    program = """
import sys
from tests.fuzz.run import Watchdog, counted, fuzz
class Endless:
    name, corpus, tokens = "endless", (b"x",), (b"y",)
    def check(self, data, draw):
        while True: pass
fuzz(Endless(), counted(7, 1), Watchdog(0.2))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "make fuzz TARGET=endless SEED=7" in done.stderr and "did not end within 0.2 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--target", "nothing"], "There is no target of that name"), (["--seed", "1"], "give TARGET=name too")],
)
def test_what_cannot_be_run_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
