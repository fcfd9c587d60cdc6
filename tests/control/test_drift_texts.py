"""Texts of answers are kept only for an alarm, and only for so long."""

from __future__ import annotations

from gateway.control.drift.texts import LATEST, MOST_HELD, TEXT_CHARS, Texts

NAME = ("chat", "one/small")


def hash_of(number: int) -> str:
    return f"{number:016x}"


def test_what_an_alarm_names_is_told_until_its_time_is_up() -> None:
    texts = Texts(60.0)
    for number in range(3):
        texts.keep(NAME, number, f"answer {number}", now_s=number)
    assert texts.told([hash_of(1)], now_s=3) == [], "no alarm names it"
    texts.hold(NAME, [hash_of(1), hash_of(2), hash_of(9)])
    assert texts.told([hash_of(2), hash_of(9), hash_of(1)], now_s=3) == [
        {"hash": hash_of(2), "text": "answer 2"},
        {"hash": hash_of(1), "text": "answer 1"},
    ]
    assert texts.told([hash_of(1)], now_s=60.9) != []
    assert texts.told([hash_of(1)], now_s=61) == []
    texts.expire(now_s=62)
    texts.hold(NAME, [hash_of(2)])
    assert texts.told([hash_of(2)], now_s=62) == []


def test_only_the_latest_of_a_stream_wait_for_an_alarm_and_long_ones_are_cut() -> None:
    texts = Texts(60.0)
    for number in range(LATEST + 1):
        texts.keep(NAME, number, "x" * (TEXT_CHARS + 1), now_s=0)
    texts.keep(("chat", "two/small"), 7, "another stream's", now_s=0)
    texts.hold(NAME, [hash_of(0), hash_of(1), hash_of(7)])
    told = texts.told([hash_of(0), hash_of(1), hash_of(7)], now_s=0)
    assert [(exemplar["hash"], len(exemplar["text"])) for exemplar in told] == [
        (hash_of(1), TEXT_CHARS),
        (hash_of(7), TEXT_CHARS),
    ]


def test_no_more_are_held_than_there_is_room_for() -> None:
    texts = Texts(60.0)
    for number in range(MOST_HELD + 1):
        texts.keep(NAME, number, "x", now_s=0)
        texts.hold(NAME, [hash_of(number)])
    assert texts.told([hash_of(0)], now_s=0) == []
    assert len(texts.told([hash_of(number) for number in range(MOST_HELD + 1)], now_s=0)) == MOST_HELD
