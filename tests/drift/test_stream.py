"""What a stream of answers notices, and what it does not."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest

from gateway.drift.alarm import Alarm
from gateway.drift.detector import Growth
from gateway.drift.sample import Sample
from gateway.drift.state import OtherState, dump, load
from gateway.drift.stream import Settings, Stream
from gateway.drift.verdict import Level
from tests.drift.tables import TABLES, Law

GROWN = 2_000
"""Answers of the reference in most tests."""


def stream(**settings: object) -> Stream:
    return Stream("chat", "openai/gpt-4o", TABLES, Settings(**settings))  # type: ignore[arg-type]


def feed(to: Stream, samples: object) -> tuple[list[Alarm], int]:
    """Until the first alarm; the alarms, and how many answers that took."""
    for count, sample in enumerate(samples, 1):  # type: ignore[call-overload]
        if alarms := to.take(sample):
            return alarms, count
    return [], count


@cache
def _learnt(count: int, kinds: tuple[float, ...]) -> tuple[Law, Stream]:
    law, watched = Law(0), stream()
    alarms, _ = feed(watched, law.answers(count, kinds=kinds))
    assert not alarms
    return law, watched


def learnt(seed: int, count: int = GROWN, kinds: tuple[float, ...] = (1.0,)) -> tuple[Law, Stream]:
    """A stream that has learnt from so many answers, and the law of what comes next, which `seed` draws.
    Streams that begin alike are copies: an answer costs 0.4 ms, most of what a test here does is learning."""
    law, watched = deepcopy(_learnt(count, kinds))
    law.random = np.random.default_rng(seed)
    return law, watched


def test_it_learns_then_watches_then_sounds_the_alarm() -> None:
    law, watched = Law(1), stream()
    feed(watched, law.answers(499))
    assert watched.level is Level.LEARNING
    feed(watched, law.answers(GROWN - 499))
    assert watched.level is Level.OK
    (alarm,), after = feed(watched, law.answers(1_000, shift=6))
    assert watched.level is Level.DRIFT and after < 40
    assert (alarm.kind, alarm.cause, alarm.model, alarm.target) == (
        "answers",
        "model",
        "chat",
        "openai/gpt-4o",
    )
    assert alarm.moved[0].channel.startswith("size_") and alarm.moved[0].after > alarm.moved[0].before + 4
    assert abs(alarm.since_s - (GROWN + 1)) <= 5
    assert alarm.evidence > 6.3 and alarm.answers == after


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_nothing_is_said_while_nothing_changes(seed: int) -> None:
    watched = stream()
    alarms, _ = feed(watched, Law(seed).answers(20_000, kinds=(0.7, 0.2, 0.1)))
    assert not alarms and watched.level in (Level.OK, Level.NOTICE)


def test_a_rise_of_refusals_by_ten_points_is_named() -> None:
    law, watched = learnt(2)
    (alarm,), after = feed(watched, law.answers(3_000, refusals=0.14))
    assert alarm.moved[0].channel == "refusal" and after < 600
    assert alarm.moved[0].before == pytest.approx(0.04, abs=0.02)
    assert alarm.moved[0].after == pytest.approx(0.14, abs=0.08), "what sounds early is above its mean"


def test_other_questions_are_no_other_answers() -> None:
    """The mix of prompts turns round; the model answers each as before."""
    law, watched = learnt(3, 4_000, (0.8, 0.1, 0.1))
    alarms, _ = feed(watched, law.answers(6_000, kinds=(0.1, 0.1, 0.8)))
    assert not alarms
    assert watched.asked_at_s and watched.asked_at_s[0][1] < 4_100


def test_a_change_of_both_is_called_mixed() -> None:
    law, watched = learnt(4, 4_000, (0.8, 0.1, 0.1))
    (alarm,), _ = feed(watched, law.answers(1_000, kinds=(0.1, 0.1, 0.8), shift=2.5))
    assert alarm.cause == "mixed"


def test_a_change_in_a_tenth_of_the_traffic_is_found() -> None:
    law, watched = Law(5), stream()
    feed(watched, law.answers(6_000, kinds=(0.5, 0.4, 0.1)))
    (alarm,), after = feed(watched, law.answers(4_000, kinds=(0.5, 0.4, 0.1), shift=6, shifted_kind=2))
    assert after < 600
    assert alarm.strata[0][0] == f"{1002:016x}"


def test_a_slower_target_is_told_apart_from_another_answer() -> None:
    law, watched = learnt(6)
    (alarm,), _ = feed(watched, law.answers(2_000, slow=6))
    assert alarm.kind == "performance" and alarm.moved[0].channel == "first_token_ms"
    assert watched.level is Level.OK


def test_bursts_of_one_prompt_and_the_same_answer_again_are_not_judged() -> None:
    law, watched = Law(7), stream()
    (first,) = law.answers(1)
    for _ in range(3):
        watched.take(first)
    assert watched.taken == 1 and watched.skipped == {"burst": 2}
    feed(watched, law.answers(200))
    watched.take(first)
    assert watched.skipped == {"burst": 2, "repeat": 1}


def test_sessions_raise_no_alarm() -> None:
    """Each prompt comes up to twenty times in a row, and has answers of its own: 17,607 false alarms in a
    million without what `Repeats` leaves out."""
    law, watched = Law(8), stream()
    for session in law.answers(600):
        own = np.frombuffer(session.answer, np.uint8)
        for turn in range(20):
            told = np.clip(own + law.random.integers(-1, 2, own.size), 0, 1 if turn < 0 else 23).astype(
                np.uint8
            )
            told[5:] = own[5:]
            sample = Sample(
                session.at_s,
                session.stratum,
                session.prompt,
                session.output + turn,
                told.tobytes(),
                session.asked,
                session.performance,
            )
            assert not watched.take(sample)


def test_an_alarm_stands_until_it_is_accepted() -> None:
    law, watched = learnt(9)
    feed(watched, law.answers(1_000, shift=6))
    alarms, _ = feed(watched, law.answers(1_000, shift=6))
    assert not alarms and watched.alarm is not None and watched.level is Level.DRIFT
    watched.accept()
    assert watched.alarm is None and watched.level is Level.OK
    alarms, _ = feed(watched, law.answers(1_000, shift=6))
    assert not alarms and watched.level is Level.OK
    (alarm,), _ = feed(watched, law.answers(1_000))
    assert alarm.moved[0].after < alarm.moved[0].before - 4


def test_the_policy_may_accept_by_itself() -> None:
    law, watched = Law(10), stream(rebaseline=700)
    feed(watched, law.answers(GROWN))
    feed(watched, law.answers(1_000, shift=6))
    feed(watched, law.answers(800, shift=6))
    assert watched.alarm is None and watched.level is Level.OK
    assert watched.alarms == {"model": 1}


def test_another_fingerprint_is_no_alarm_but_named_in_the_next_one() -> None:
    law, watched = learnt(11)
    watched.see("system_fingerprint", "fp_1", 0.0)
    assert watched.see("system_fingerprint", "fp_1", 10.0) is None
    change = watched.see("system_fingerprint", "fp_2", law.at_s)
    assert change is not None and (change.before, change.after) == ("fp_1", "fp_2")
    assert watched.see("system_fingerprint", "fp_1", law.at_s) is None, "a build that was there before"
    (alarm,), _ = feed(watched, law.answers(1_000, shift=6))
    assert alarm.cause == "fingerprint"


def test_probes_confirm() -> None:
    law, watched = learnt(12)
    watched.probed(law.at_s)
    (alarm,), _ = feed(watched, law.answers(1_000, shift=6))
    assert alarm.cause == "confirmed"


def test_a_slow_creep_is_found_against_the_pinned_baseline() -> None:
    """A 25th of a bin in a thousand answers: against last week's answers it never shows."""
    law, watched = Law(13), stream(growth=Growth(grow_to=200_000))
    feed(watched, law.answers(5_000))
    watched.pin("march", "policy", law.at_s)
    found: list[Alarm] = []
    for week in range(40):
        alarms, _ = feed(watched, law.answers(1_000, shift=week * 0.04))
        found += alarms
        if alarms:
            break
    assert [alarm.kind for alarm in found] == ["creep"]
    assert found[0].baseline == "march" and found[0].moved[0].channel.startswith("size_")
    assert found[0].moved[0].effect > 0.08


def test_no_creep_without_a_change() -> None:
    law, watched = Law(14), stream()
    feed(watched, law.answers(5_000))
    watched.pin("march", "policy", law.at_s)
    alarms, _ = feed(watched, law.answers(15_000))
    assert not alarms and watched.creep.evidence < 1


def test_a_disabled_channel_is_not_heard() -> None:
    law, watched = Law(15), stream(disabled=frozenset({"refusal"}))
    feed(watched, law.answers(GROWN))
    alarms, _ = feed(watched, law.answers(2_000, refusals=0.5))
    assert not alarms


RESTARTS = (100, 1_500, 2_030, 2_400)


@cache
def course() -> tuple[list[Sample], list[tuple[int, Alarm]], dict[int, bytes], bytes]:
    """A change and its alarm, without a restart: the answers, after how many there was which alarm, what was
    written down after so many answers, and at the end."""
    whole, alarms, written = stream(), [], {}
    samples = [*Law(16).answers(2_000, kinds=(0.6, 0.4)), *Law(17).answers(500, kinds=(0.6, 0.4), shift=5)]
    for count, sample in enumerate(samples, 1):
        alarms += [(count, alarm) for alarm in whole.take(sample)]
        if count in RESTARTS:
            written[count] = dump(whole)
    return samples, alarms, written, dump(whole)


@pytest.mark.parametrize("at", RESTARTS)
def test_a_restart_changes_no_number(at: int) -> None:
    """Written down and read again in the middle, a stream goes on as if nothing had been."""
    samples, alarms, written, at_the_end = course()
    assert len(alarms) == 1
    parted = load(written[at], TABLES, Settings())
    again = [
        (count, alarm) for count, sample in enumerate(samples[at:], at + 1) for alarm in parted.take(sample)
    ]
    assert again == [(count, alarm) for count, alarm in alarms if count > at]
    assert dump(parted) == at_the_end


def test_a_state_that_is_none_is_refused() -> None:
    watched = stream()
    feed(watched, Law(18).answers(100))
    data = dump(watched)
    for broken in (b"", b"junk", data[:-100], data[:200] + bytes(100) + data[300:]):
        with pytest.raises(OtherState):
            load(broken, TABLES, Settings())
    with pytest.raises(OtherState, match="others now"):
        load(data, TABLES, Settings(strata=4))


def test_a_sample_is_bytes_and_back() -> None:
    (sample,) = Law(19).answers(1)
    assert Sample.unpack(sample.pack()) == sample
    for broken in (b"", sample.pack()[:-1], b"\x09" + sample.pack()[1:]):
        with pytest.raises(ValueError, match="sample"):
            Sample.unpack(broken)


def test_one_off_prompts_share_a_stratum_and_frequent_ones_get_their_own() -> None:
    from gateway.drift.strata import OFTEN, Strata

    strata = Strata(2)
    assert {strata.place(key)[0] for key in range(100, 300)} == {2}
    assert [strata.place(7)[0] for _ in range(OFTEN + 1)] == [2] * (OFTEN - 1) + [0, 0]
    for _ in range(50):
        strata.place(8)
    assert strata.places == {7: 0, 8: 1}
    places = [strata.place(9) for _ in range(200)]
    assert (0, True) in places and strata.places == {8: 1, 9: 0}, "the rarest one makes room"


def test_another_name_makes_it_attentive_and_is_no_alarm_alone() -> None:
    """A small change is found sooner if a fingerprint changed with it; without a change nothing is found."""
    plain, told = [], []
    for seed in range(8):
        grown = Law(100 + seed), stream()
        grown[1].see("system_fingerprint", "fp_1", 0.0)
        feed(grown[1], grown[0].answers(4_000))
        for is_named, delays in ((False, plain), (True, told)):
            law, watched = deepcopy(grown)
            if is_named:
                assert watched.see("system_fingerprint", "fp_2", law.at_s) is not None
                assert watched.level in (Level.OK, Level.NOTICE)
            alarms, after = feed(watched, law.answers(2_000, shift=1.5))
            assert alarms
            delays.append(after)
    assert np.median(told) <= 0.8 * np.median(plain)


def test_names_that_change_all_the_time_are_not_believed() -> None:
    law, watched = Law(7), stream()
    for build in range(60):
        watched.see("system_fingerprint", f"fp_{build}", law.at_s)
        alarms, _ = feed(watched, law.answers(250))
        assert not alarms
    assert watched.level is Level.OK
