"""What the simulator saw: a bounded list of things that tests can wait for instead of sleeping."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Captured:
    """One request as it arrived."""

    method: str
    path: str
    """With its query."""
    headers: list[tuple[str, str]]
    """Names and values as sent, in order."""
    body: Any
    """Parsed JSON; None if it was none."""
    raw: bytes
    connection: int
    """Equal for requests that came over the same connection."""

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Departure:
    """A caller that left before its answer was complete."""

    id: str
    model: str
    time_s: float
    monotonic_s: float
    """When it was noticed, on the clock that all processes of a host share."""
    chunks: int
    """Events sent by then; 0 for a plain answer."""


class Seen(Generic[T]):
    """Things in the order they were seen; the oldest go when there are more than `keep`."""

    def __init__(self, keep: int) -> None:
        self._items: deque[T] = deque(maxlen=keep)
        self.total = 0
        """How many there ever were."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def add(self, item: T) -> None:
        """See one more, and wake those who waited for it."""
        self._items.append(item)
        self.total += 1
        for count, future in self._waiting:
            if self.total >= count and not future.done():
                future.set_result(None)
        self._waiting = [(count, future) for count, future in self._waiting if not future.done()]

    async def wait(self, count: int = 1, timeout_s: float = 5.0) -> T:
        """Wait until `count` were ever seen; returns the newest. Raises `TimeoutError`."""
        if self.total < count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((count, future))
            await asyncio.wait_for(future, timeout_s)
        return self._items[-1]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items))

    def __getitem__(self, index: int) -> T:
        return self._items[index]
