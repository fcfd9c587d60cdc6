"""The books of gateways that share a Redis."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.link.journal import Journaled
from gateway.quota.contract import MONEY, ROLLING
from gateway.quota.row import Row
from gateway.stores.redis import RedisStore
from tests.shows.books import Books, StateFolder, promised
from tests.stores.redis_server import RedisServer


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


_LOOK = r"""
local found = {redis.call('HGET', KEYS[1], ARGV[1]) or '0'}
local outs = redis.call('HGETALL', KEYS[2])
for at = 1, #outs, 2 do
  local entity, name = string.match(outs[at], '^(.*)\n(.*)$')
  if name == ARGV[1] then
    local out = cmsgpack.unpack(outs[at + 1])
    for _, each in ipairs({entity, out[2], out[4], out[5]}) do
      found[#found + 1] = type(each) == 'number' and string.format('%.0f', each) or each
    end
  end
end
return found
"""
"""What is posted of an account; then each owner, what he used, what he has, and what of that is held."""


class SharedState:
    """What gateways that share a Redis have in it and in their state folders. Of one account each, which must
    be a calendar budget's."""

    def __init__(self, server: RedisServer, folders: Iterable[Path]) -> None:
        self._server = server
        self._folders = [StateFolder(folder, (folder / "host").read_text() + "/") for folder in folders]

    def _owners(self, account: str) -> tuple[int, list[tuple[str, int, int, int]]]:
        keys = "{headgate}:posted", "{headgate}:out"
        posted, *flat = self._server.run("EVAL", _LOOK, 2, *keys, account)
        owners = zip(flat[::4], *(map(int, flat[at::4]) for at in (1, 2, 3)), strict=True)
        return int(posted), list(owners)

    def posted(self, account: str) -> int:
        """Nano-dollars, as far as the store has been told."""
        return self._owners(account)[0]

    def held(self, account: str) -> int:
        """By open calls, as last told."""
        return sum(held for *_, held in self._owners(account)[1])

    def left(self, account: str) -> dict[str, int]:
        """Owner that is gone, and whose journal is gone → what the store still takes to be with him."""
        living = {folder.owner(journal) for folder in self._folders for journal in folder.journals()}
        return {owner: has for owner, _, has, _ in self._owners(account)[1] if has and owner not in living}

    def journals(self) -> list[Journaled]:
        """Of all workers that have not been settled."""
        return [journal for folder in self._folders for journal in folder.journals()]

    def look(self, account: str) -> tuple[int, dict[str, int]]:
        """As `books.Look`."""
        posted, owners = self._owners(account)
        return posted, {owner: used for owner, used, *_ in owners}

    def promised(self, account: str) -> int:
        """See `books.promised`."""
        return promised(self._folders, self.look, account)
