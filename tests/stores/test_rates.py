"""What every store must do: rates, tickets, rolling windows."""

from __future__ import annotations

import random

from gateway.quota.contract import RATE, ROLLING, Store, Terms
from tests.stores.teller import MINUTE, ROLL, RPM, TEN_A_SECOND, Clock, Teller, balance, free, row


async def test_a_rate_refills_up_to_its_burst(store: Store, clock: Clock) -> None:
    owner = Teller(store, "w0")
    assert (await owner.tell({RPM: 10}, terms={RPM: TEN_A_SECOND})).granted
    await owner.tell(used={RPM: 10})
    await clock.advance(500)
    assert await free(store, RPM) == 5
    await clock.advance(5_000)
    assert await free(store, RPM) == 10


async def test_no_window_of_a_rate_is_passed_whatever_lies_in_purses_how_long(
    store: Store, clock: Clock
) -> None:
    """Every window of 10 s, while three owners hold slices, return some and use the rest late."""
    dice = random.Random(7)
    rate = Terms(RATE, 600, burst=60, window_ms=MINUTE)
    owners = [Teller(store, f"w{number}") for number in range(3)]
    purses = dict.fromkeys(range(3), 0)
    spent: list[tuple[int, int]] = []
    for _ in range(600):
        await clock.advance(dice.choice((0, 50, 300, 1000)))
        number = dice.randrange(3)
        owner, terms = owners[number], {RPM: rate}
        need = dice.randint(1, 8)
        use = dice.randint(0, purses[number])
        back = dice.randint(0, purses[number] - use) if dice.random() < 0.3 else 0
        spent.append((clock.now_ms, use))
        purses[number] -= use + back
        reply = await owner.tell(
            {RPM: need},
            terms=terms,
            used={RPM: use},
            returned={RPM: back},
            held={RPM: 0},
            wishes={RPM: 30},
            who=owner.name,
        )
        purses[number] += need * len(reply.granted) + reply.slices.get(RPM, 0)
    for start, _ in spent:
        used = sum(amount for at, amount in spent if start < at <= start + 10_000)
        assert used <= 60 + 100
    assert sum(amount for _, amount in spent) > 1_000


async def test_who_comes_when_its_ticket_says_is_let_in_and_who_pushes_in_is_not(
    store: Store, clock: Clock
) -> None:
    owner = Teller(store, "w0")

    async def call(who: str) -> int | None:
        """None if it was let in, else how long it is to wait."""
        reply = await owner.tell({RPM: 1}, terms={RPM: TEN_A_SECOND}, who=who)
        if reply.granted:
            await owner.tell(used={RPM: 1})
            return None
        assert reply.refused[0].dry_ms == 0
        return reply.refused[0].wait_ms

    assert [await call("a") for _ in range(10)] == [None] * 10
    assert [await call("a"), await call("a")] == [100, 200]
    await clock.advance(99)
    assert await call("b") is not None
    await clock.advance(1)
    assert await call("b") is not None
    assert await call("a") is None
    await clock.advance(100)
    assert await call("c") is not None
    assert await call("a") is None


async def test_what_is_beyond_the_horizon_gets_no_ticket(store: Store, clock: Clock) -> None:
    owner = Teller(store, "w0")
    slow = {RPM: Terms(RATE, 1, burst=1, window_ms=10 * MINUTE)}
    await owner.tell({RPM: 1}, terms=slow)
    refusal = (await owner.tell({RPM: 1}, used={RPM: 1})).refused[0]
    assert refusal.wait_ms == MINUTE and 0 < refusal.dry_ms <= 250


async def test_a_ticket_that_is_not_claimed_lapses_after_a_second(store: Store, clock: Clock) -> None:
    owner = Teller(store, "w0")
    await owner.tell({RPM: 10}, terms={RPM: TEN_A_SECOND}, who="a")
    assert (await owner.tell({RPM: 10}, used={RPM: 10}, who="a")).refused[0].wait_ms == 1_000
    await clock.advance(2_001)
    assert (await owner.tell({RPM: 10}, who="b")).granted
    # Whoever let one lapse is only told when it might get in, and nothing is kept for it.
    refusal = (await owner.tell({RPM: 1}, used={RPM: 10}, who="a")).refused[0]
    assert (refusal.wait_ms, refusal.dry_ms > 0) == (100, True)
    await clock.advance(100)
    assert (await owner.tell({RPM: 1}, who="c")).granted


async def test_what_was_spent_leaves_a_rolling_window_with_its_slice_and_never_early(
    store: Store, clock: Clock
) -> None:
    owner = Teller(store, "w0")
    rolling = Terms(ROLLING, 1000, window_ms=60 * MINUTE)
    await owner.tell({ROLL: 800}, terms={ROLL: rolling})
    account = f"{ROLL}#{clock.now_ms // MINUTE}"
    await owner.tell(used={account: 800}, rows=[row({account: 800})])
    into = clock.now_ms % MINUTE
    await clock.advance(60 * MINUTE - into)
    assert (await balance(store, ROLL)).spent == 800
    await clock.advance(MINUTE)
    assert ((await balance(store, ROLL)).spent, await free(store, ROLL)) == (0, 1000)
    assert await store.verify() == []
