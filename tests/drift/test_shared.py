"""Gateways on one Redis judge as one would that had all their answers, whoever leads and whoever dies."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from gateway.clock import monotonic_s
from gateway.control.drift.desk import Name
from gateway.control.drift.judge import TABLES, Judge
from gateway.control.drift.shared import WAITING, Shared, log_version, stream_key
from gateway.drift.features import Read
from gateway.drift.identity import Change
from gateway.drift.sample import Sample
from gateway.policy.drift_compile import watch_table
from gateway.policy.drift_spec import DriftSpec
from gateway.stores.drift_log import LEASE_MS, DriftLog
from tests.stores.redis_server import RedisServer

NAME: Name = ("chat", "openai/gpt-4o")
MODELS = {"chat": watch_table(DriftSpec.model_validate({"reference": {"arm_at": 100}}), None)}


class Seen:
    """What a desk's outcomes were."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.streams: list[dict[str, Any]] = []
        self.passed_over: dict[str, int] = {}
        self.taken = 0
        self.alarms: Mapping[tuple[str, ...], int] = {}
        self.changes: list[Change] = []

    def skipped(self, reason: str, answers: int = 1) -> None:
        self.passed_over[reason] = self.passed_over.get(reason, 0) + answers

    def analyzed(self, name: Name) -> None:
        self.taken += 1

    def identity_changed(self, name: Name, change: Change) -> None:
        self.changes.append(change)

    def counts(self, alarms: Mapping[tuple[str, ...], int]) -> None:
        self.alarms = alarms

    def standing(self, streams: list[dict[str, Any]]) -> None:
        self.streams = streams

    def tell(self, alarm: dict[str, Any]) -> None:
        self.told.append(alarm)


class Group:
    """Gateways on one Redis, each looked after in turn, 1.1 seconds from one time to the next."""

    def __init__(self, redis: RedisServer, size: int) -> None:
        self._redis = redis
        self.seen: list[Seen] = []
        self.desks: list[Shared] = []
        self.now_s = monotonic_s()
        for _ in range(size):
            self.join()

    def join(self) -> None:
        seen = Seen()
        desk = Shared(DriftLog(self._redis.url, log_version()), seen)
        desk.use(MODELS)
        self.seen.append(seen)
        self.desks.append(desk)

    def look(self) -> None:
        self.now_s += 1.1
        for desk in self.desks:
            desk.look(self.now_s)

    def kill_leader(self) -> int:
        """Ends the gateway that leads, without a last word: its lease, which would run out, is taken away."""
        lease = self._redis.run("GET", _key("lease"))
        (at,) = (at for at, desk in enumerate(self.desks) if desk._token == lease)
        self.desks.pop(at).close()
        self.seen.pop(at)
        self._redis.run("DEL", _key("lease"))
        return at

    def told(self) -> list[dict[str, Any]]:
        return [alarm for seen in self.seen for alarm in seen.told]

    def close(self) -> None:
        for desk in self.desks:
            desk.close()


def _key(name: str) -> str:
    return f"headgate:{{drift}}:{log_version()}:{name}"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.stop()


def answers(seed: int, count: int, change_at: int | None = None) -> list[Read]:
    """Answers of every channel, a tenth of a bin apart after the change and several in the first ten."""
    draw = np.random.default_rng(seed)
    bins = np.array([channel.bins for channel in TABLES.answers.channels])
    found = []
    for number in range(count):
        moved = np.zeros(len(bins))
        if change_at is not None and number >= change_at:
            moved[:10] = bins[:10] / 4
        told = np.clip(draw.normal(bins / 3 + moved, bins / 8 + 0.3), 0, bins - 1).astype(np.uint8)
        found.append(
            Read(
                Sample(
                    at_s=1_000.0 + number,
                    stratum=int(draw.integers(3)),
                    prompt=int(draw.integers(1 << 62)),
                    output=int(draw.integers(1 << 62)),
                    answer=told.tobytes(),
                    asked=bytes(int(draw.integers(channel.bins)) for channel in TABLES.asked.channels),
                    performance=bytes(
                        int(draw.integers(channel.bins)) for channel in TABLES.performance.channels
                    ),
                ),
                {"model": "gpt-4o-2024-08-06" if number < 50 else "gpt-4o-2024-11-20"},
                "",
            )
        )
    return found


def judged_by_one(reads: list[Read]) -> tuple[Judge, list[str]]:
    judge = Judge(())
    judge.use(MODELS)
    alarms = [alarm.id for read in reads for alarm in judge.take(NAME, read.sample, read.identity).alarms]
    return judge, alarms


def state_in(redis: RedisServer) -> Judge:
    """What the gateways left."""
    log = DriftLog(redis.url, log_version())
    kept = log.state(stream_key(NAME))
    log.close()
    assert kept is not None
    judge = Judge([(*NAME, kept.partition(b" ")[2])])
    judge.use(MODELS)
    return judge


@pytest.mark.parametrize("seed", range(6))
def test_whoever_reads_the_log_comes_to_what_one_gateway_would(redis: RedisServer, seed: int) -> None:
    draw = random.Random(seed)
    group = Group(redis, 4)
    reads = answers(seed, 400, change_at=300)
    order: list[Read] = []
    alarms: dict[str, int] = {}
    while reads:
        desk = draw.choice(group.desks)
        size = draw.randrange(1, 20)
        some, reads = reads[:size], reads[size:]
        for read in some:
            desk.take(NAME, read)
        order += some
        group.look()
        if draw.random() < 0.1:
            # Whoever leads next begins at the last state, reads what came since, and finds the same alarms.
            for alarm in group.told():
                alarms[alarm["id"]] = alarms.get(alarm["id"], 0) + 1
            for seen in group.seen:
                seen.told.clear()
            group.kill_leader()
            group.join()
            group.look()
    group.look()  # for what was appended after the leader had read
    for desk in group.desks:
        desk.look(group.now_s, last=True)
    for alarm in group.told():
        alarms[alarm["id"]] = alarms.get(alarm["id"], 0) + 1
    expected, found = judged_by_one(order)
    assert state_in(redis).told() == expected.told()
    assert found and set(alarms) == set(found)
    counts = group.seen[0].alarms
    assert sum(counts.values()) == len(found), "each is counted once"
    group.close()


def test_four_see_a_change_as_soon_as_one(redis: RedisServer) -> None:
    """In answers, over twenty changes: the 90th percentile is 1.15 times that of one gateway at most."""
    alone, together = [], []
    for seed in range(20):
        reads = answers(100 + seed, 260, change_at=200)
        judge = Judge(())
        judge.use(MODELS)
        alone.append(
            next(number for number, read in enumerate(reads) if judge.take(NAME, read.sample, {}).alarms)
        )
        redis.flush()
        group = Group(redis, 4)
        draw = random.Random(seed)
        for number, read in enumerate(reads):
            draw.choice(group.desks).take(NAME, read)
            # Before the change nobody looks for an alarm, only that none waits: each look is eight questions.
            if number < 195 and number % 64:
                continue
            group.look()
            if group.told():
                together.append(number)
                break
        group.close()
    delays = [np.array(found) - 200 for found in (alone, together)]
    assert len(together) == 20 and min(delays[0]) >= 0
    assert np.quantile(delays[1], 0.9) <= 1.15 * np.quantile(delays[0], 0.9)


def test_an_alarm_that_was_written_and_not_told_is_told_by_the_next_leader(redis: RedisServer) -> None:
    group = Group(redis, 2)
    for read in answers(1, 300, change_at=200):
        group.desks[0].take(NAME, read)
    group.look()
    (alarm,) = group.told()
    group.kill_leader()
    group.look()
    (again,) = group.told()
    assert again == alarm
    group.desks[0].set_told(alarm["id"])
    group.join()
    group.kill_leader()
    group.look()
    assert group.told() == [], "it was told, and is not told again"
    group.close()


def test_who_has_lost_the_lease_changes_nothing(redis: RedisServer) -> None:
    group = Group(redis, 1)
    for read in answers(2, 150):
        group.desks[0].take(NAME, read)
    group.look()
    group.desks[0].look(group.now_s, last=True)
    before = state_in(redis).told()
    redis.run("SET", _key("lease"), "another")
    for read in answers(3, 150, change_at=0):
        group.desks[0].take(NAME, read)
    group.desks[0].look(group.now_s, last=True)
    group.look()
    assert state_in(redis).told() == before and group.told() == []
    group.close()


def test_the_lease_of_a_dead_leader_runs_out(redis: RedisServer) -> None:
    log = DriftLog(redis.url, log_version())
    assert log.lead("one") == 1 and log.lead("one") == 2 and log.lead("two") == 0
    assert 0 < int(redis.run("PTTL", _key("lease"))) <= LEASE_MS
    log.close()


def test_what_comes_while_the_store_is_out_waits_for_it(redis: RedisServer) -> None:
    group = Group(redis, 1)
    (desk,), (seen,) = group.desks, group.seen
    reads = answers(4, 200)
    for read in reads[:100]:
        desk.take(NAME, read)
    group.look()
    redis.kill9()
    for read in reads[100:]:
        desk.take(NAME, read)
    group.look()
    assert seen.passed_over == {}
    redis.start()
    group.look()
    group.look()
    assert seen.streams[0]["answers"] == 200
    redis.kill9()
    for read in reads[:10] * (WAITING // 10 + 1):
        desk.take(NAME, read)
    assert seen.passed_over == {"store_down": 10}
    redis.start()
    group.close()


def test_an_operators_word_to_any_gateway_is_done_by_the_leader(redis: RedisServer) -> None:
    group = Group(redis, 1)
    for read in answers(5, 300, change_at=200):
        group.desks[0].take(NAME, read)
    group.look()
    assert group.seen[0].streams[0]["state"] == "drift"
    at = {"label": "spring", "config": "abc", "at_s": 2_000.0}
    assert group.desks[0].change("pin", NAME, **at).endswith("as spring")
    assert group.desks[0].change("accept", NAME, **at) == "what came since the alarm is the reference"
    with pytest.raises(LookupError, match="no answers of chat on nobody are watched yet"):
        group.desks[0].change("accept", ("chat", "nobody"), **at)
    group.look()
    group.look()
    assert group.seen[0].streams[0]["state"] != "drift"
    group.kill_leader()
    group.join()
    group.look()
    group.look()
    assert group.seen[0].streams[0]["state"] != "drift", "the next leader knows of it"
    assert [each["channel"] for each in group.desks[0].distributions(NAME)]
    group.close()


def test_all_gateways_hash_with_one_key(redis: RedisServer) -> None:
    group = Group(redis, 2)
    keys = {desk.key() for desk in group.desks}
    assert len(keys) == 1 and len(keys.pop() or b"") == 32
    group.close()


@pytest.mark.parametrize("entry", [b"", b"7", b"9:[]", b"0:{}", b"3:[1]", b'14:["a","b",{}]x' + b"y" * 40])
def test_an_entry_that_is_none_is_passed_over(redis: RedisServer, entry: bytes) -> None:
    group = Group(redis, 1)
    log = DriftLog(redis.url, log_version())
    log.append([entry])
    log.close()
    for read in answers(9, 20):
        group.desks[0].take(NAME, read)
    group.look()
    group.look()
    assert group.seen[0].passed_over == {"unreadable": 1}
    assert group.seen[0].streams[0]["answers"] == 20
    group.close()


def test_a_model_that_is_watched_no_more_is_forgotten(redis: RedisServer) -> None:
    group = Group(redis, 1)
    for read in answers(7, 120):
        group.desks[0].take(NAME, read)
    group.look()
    group.desks[0].look(group.now_s, last=True)
    assert redis.run("HLEN", _key("states")) == 1
    group.desks[0].use({})
    group.look()
    group.look()
    assert redis.run("HLEN", _key("states")) == 0
    group.close()


def test_two_gateways_on_one_log_show_the_same(redis: RedisServer) -> None:
    group = Group(redis, 2)
    for number, read in enumerate(answers(8, 130)):
        group.desks[number % 2].take(NAME, read)
    group.look()
    group.look()
    group.look()
    assert group.seen[0].streams == group.seen[1].streams != []
    group.close()
