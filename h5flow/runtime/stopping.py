"""Signals: the first one lets what is in flight finish, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from h5flow.telemetry.forks import renewed_in_forks

Handler = Callable[[int, FrameType | None], object]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal has ended the run; `at_once` if it was the second one, and threads may still be at work."""

    def __init__(self, number: int, at_once: bool = False) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)
        self.at_once = at_once
        #: How far the run got, in words.
        self.progress = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"stopped by {self.signal.name}", self.progress) if part)


class _Handlers:
    """Handlers of signals that are in use, by signal: that of the program, and each that took the place of another."""

    def __init__(self) -> None:
        self.of: dict[int, list[Any]] = {}
        renewed_in_forks(self)

    def forked(self) -> None:
        """Give signals back to the program: nobody asks a fork, such as a worker of a component, for a stop."""
        for number, (programs, *ours) in self.of.items():
            if signal.getsignal(number) in ours:
                signal.signal(number, programs)
        if self.of:
            signal.set_wakeup_fd(-1)  # it leads to the event loop of the parent
        self.of = {}


_handlers = _Handlers()


@contextmanager
def handling(handler: Handler, numbers: Iterable[int]) -> Iterator[None]:
    """Handle signals by a function for the duration of the block. Only the main thread can do that."""
    taken = {}
    for number in numbers:
        taken[number] = signal.signal(number, handler) or signal.SIG_DFL
        _handlers.of.setdefault(number, [taken[number]]).append(handler)
    try:
        yield
    finally:
        for number, before in taken.items():
            handlers = _handlers.of.get(number, [])
            if handlers[-1:] == [handler]:  # not so in a fork
                signal.signal(number, before)
                handlers.pop()
                if len(handlers) == 1:
                    del _handlers.of[number]


def handled_anyway() -> list[int]:
    """List the signals that the program handles by itself, and that this thread may handle."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in SIGNALS if callable(signal.getsignal(number))]


class StopRequest:
    """Whether somebody wants the run to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        #: Whether nothing shall be waited for.
        self.at_once = False
        self._elsewhere = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def made(self) -> bool:
        """Say whether there shall be no new slices."""
        return self.signal is not None

    def listen(self, listener: Callable[[], None]) -> None:
        """Register a function to be called when the request is made."""
        self._listeners.append(listener)

    def make(self, number: int) -> None:
        """Ask to stop."""
        if self._elsewhere:
            # The same signal, which launchers send to all ranks.
            self._elsewhere, self.signal = False, number
            return
        if self.signal is not None:
            self.at_once = True
            raise Stopped(number, at_once=True)
        self._begin(number)

    def make_elsewhere(self) -> None:
        """Note that another rank has been asked to stop."""
        if self.signal is None:
            self._elsewhere = True
            self._begin(signal.SIGTERM)

    def _begin(self, number: int) -> None:
        self.signal = number
        for listener in self._listeners:
            listener()


@contextmanager
def stopped_by_others() -> Iterator[StopRequest]:
    """Let whoever has the request ask the loop in the block to stop; raises `Stopped` when it has."""
    request = StopRequest()
    yield request
    if request.signal is not None:
        raise Stopped(request.signal)


@contextmanager
def stopped_by_signals() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM ask the loop in the block to stop; raises `Stopped` when it has.

    Only the main thread can do that, and only signals that the program handles anyway are caught.
    """
    with stopped_by_others() as request, handling(lambda number, _: request.make(number), handled_anyway()):
        yield request
