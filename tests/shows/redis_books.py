"""The books of gateways that share a Redis."""

from __future__ import annotations

from gateway.quota.contract import MONEY, ROLLING
from gateway.quota.row import Row
from gateway.stores.redis import RedisStore
from tests.shows.books import Books


async def redis_books(url: str) -> Books:
    """As `books.StateFolder.books`; `told` is not kept apart there."""
    store = RedisStore(url, host_id="shown", deadline_s=5.0)
    try:
        wrong = await store.verify()
        posted = {account: int(amount) for account, amount in (await store._hash("posted")).items()}
        balances = await store.balances()
        rows = [Row(*row)._asdict() async for row in store._rows(0, 1 << 53)]
    finally:
        await store.close()
    held = sum(balance.held for balance in balances if balance.terms.kind in (MONEY, ROLLING))
    return Books(posted, {}, held, rows, wrong)
