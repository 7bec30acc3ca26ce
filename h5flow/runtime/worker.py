"""Threads that components have for life, and their way back to the event loop."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Outcome(Generic[T]):
    """What a call in another thread has given: a value or an error."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    def result(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # or else the traceback would refer to itself
        return self.value  # type: ignore[return-value]


def tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function on an event loop, unless nobody is there any more because the run was stopped at once."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise


class Worker:
    """One thread that makes calls, one after the other, in the context that each was given in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon, because a run that is stopped at once can't wait for what a user's function does.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._begun = False

    @property
    def thread(self) -> threading.Thread:
        """Return the thread, which begins with the first call."""
        return self._thread

    def start(self, function: Callable[[], T], done: Callable[[Outcome[T]], None]) -> None:
        """Make a call; `done` gets what came of it, in the worker's thread."""
        context = contextvars.copy_context()

        def call() -> None:
            try:
                outcome = Outcome(context.run(function))
            except BaseException as error:  # noqa: BLE001 - it is handed on
                outcome = Outcome(error=error)
            done(outcome)

        self._calls.put(call)
        if not self._begun:
            self._begun = True
            self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Make a call and wait for it; its value is returned, its error raised."""
        return self.outcome(function).result()

    def outcome(self, function: Callable[[], T]) -> Outcome[T]:
        """Make a call, wait for it, and return what came of it."""
        answer: queue.SimpleQueue[Outcome[T]] = queue.SimpleQueue()
        self.start(function, answer.put)
        return answer.get()

    async def run(self, function: Callable[[], T]) -> T:
        """Make a call without holding up the event loop."""
        import asyncio  # only here: without a loop it isn't needed

        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Outcome[T]] = loop.create_future()

        def arrived(outcome: Outcome[T]) -> None:
            if not waiter.done():
                waiter.set_result(outcome)

        self.start(function, lambda outcome: tell(loop, arrived, outcome))
        return (await waiter).result()

    @property
    def begun(self) -> bool:
        """Say whether it has been given a call."""
        return self._begun

    def rest(self) -> None:
        """Wait until it has made the calls that it was given."""
        if self._begun:
            self.call(lambda: None)

    def close(self, wait: bool = True) -> None:
        """End the thread when it has made the calls that it was given."""
        self._calls.put(None)
        if wait and self._begun and threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            call()
            del call  # what it refers to is to be freed now
