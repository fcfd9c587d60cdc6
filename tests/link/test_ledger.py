"""What is said over the ledger link survives being written and read."""

from __future__ import annotations

from gateway.link.ledger import encode, exchange_of, reply_of
from gateway.quota.contract import MONEY, Exchange, Recall, Refusal, Reply, Terms, Want


def test_an_exchange_comes_out_as_it_went_in() -> None:
    said = Exchange(
        "worker-0",
        17,
        3,
        terms={"b": Terms(MONEY, 5)},
        used={"b": 2},
        returned={"b": 1},
        rows=[["x", 1, None]],
        wants=[Want(7, "app", {"b": 4}, {"b": 1})],
        wishes={"b": 9},
        held={"b": 2},
        final=True,
    )
    assert exchange_of(encode(said)) == said
    assert exchange_of(encode(Exchange("w", 1, 1))) == Exchange("w", 1, 1)


def test_a_reply_comes_out_as_it_went_in() -> None:
    said = Reply(
        0,
        [1],
        [Refusal(2, "b", -1, 2, True, 30)],
        {3: ["b"]},
        {"b": [Recall("worker-1", 1, 7)]},
        {"b": 4},
        {"c": 0},
        ["b"],
        ["s"],
        {"b": Terms(MONEY, 6)},
        4,
    )
    assert reply_of(encode(said)) == said
    assert reply_of(encode(Reply(5))) == Reply(5)
