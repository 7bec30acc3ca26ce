"""Mailboxes: how actors hand each other work, no faster than it is taken."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Closed(Exception):
    """There is nothing more to get, and nothing can be put."""


class MailboxStatistics(msgspec.Struct):
    """What has gone through a mailbox; times are in seconds."""

    puts: int = 0
    gets: int = 0
    #: How long the producer waited for room, and the consumer for something to do.
    put_wait: float = 0.0
    get_wait: float = 0.0
    highest: int = 0


class Mailbox(Generic[T]):
    """A queue of at most `depth` items between two actors of one event loop.

    `put` waits for room, `get` for an item. After `close` what is there can still be got. After `fail` both
    sides get the error at once.
    """

    def __init__(self, name: str, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"mailbox '{name}': a depth of {depth} would let nothing through")
        self.name = name
        self.depth = depth
        self.statistics = MailboxStatistics()
        self._items: deque[T] = deque()
        self._closed = False
        self._error: BaseException | None = None
        self._getters: deque[asyncio.Future[None]] = deque()
        self._putters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Add an item, as soon as there is room. Raises `Closed`, or the error of `fail`."""
        started = None
        while self._error is None and not self._closed and len(self._items) >= self.depth:
            started = started or time.perf_counter()
            await woken(self._putters)
        if started is not None:
            self.statistics.put_wait += time.perf_counter() - started
        if self._error is not None:
            raise self._error
        if self._closed:
            raise Closed(self.name)
        self._items.append(item)
        self.statistics.puts += 1
        self.statistics.highest = max(self.statistics.highest, len(self._items))
        wake(self._getters)

    async def get(self) -> T:
        """Take the next item, as soon as there is one. Raises `Closed`, or the error of `fail`."""
        started = None
        while self._error is None and not self._items and not self._closed:
            started = started or time.perf_counter()
            await woken(self._getters)
        if started is not None:
            self.statistics.get_wait += time.perf_counter() - started
        if self._error is not None:
            raise self._error
        if not self._items:
            raise Closed(self.name)
        return self._taken()

    def get_nowait(self) -> T | None:
        """Take the next item, `None` if there is none just now."""
        return self._taken() if self._items and self._error is None else None

    def close(self) -> None:
        """Let nothing more in; what is there can be got."""
        self._closed = True
        wake_all(self._getters)
        wake_all(self._putters)

    def fail(self, error: BaseException) -> None:
        """Give `error` to whoever puts or gets, now and from now on; the first one counts."""
        self._error = self._error or error
        wake_all(self._getters)
        wake_all(self._putters)

    def deepen(self, depth: int) -> None:
        """Make room for more items."""
        while self.depth < depth:
            self.depth += 1
            wake(self._putters)

    def _taken(self) -> T:
        item = self._items.popleft()
        self.statistics.gets += 1
        wake(self._putters)
        return item


async def woken(waiters: deque[asyncio.Future[None]]) -> None:
    """Wait until woken. Who is cancelled when it has been woken already wakes the next one instead."""
    import asyncio  # only here: without a loop it isn't needed

    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        if waiter in waiters:
            waiters.remove(waiter)
        else:
            wake(waiters)
        raise


def wake(waiters: deque[asyncio.Future[None]]) -> None:
    """Wake who has waited longest."""
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


def wake_all(waiters: deque[asyncio.Future[None]]) -> None:
    """Wake all who wait."""
    while waiters:
        wake(waiters)
