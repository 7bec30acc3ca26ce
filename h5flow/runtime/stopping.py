"""Signals: the first one lets what is in flight finish, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
        """Whether there shall be no new slices."""
        return self.signal is not None

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called when the request is made."""
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
        """Another rank has been asked to stop."""
        if self.signal is None:
            self._elsewhere = True
            self._begin(signal.SIGTERM)

    def _begin(self, number: int) -> None:
        self.signal = number
        for listener in self._listeners:
            listener()


@contextmanager
def stopped_by_signals() -> Iterator[StopRequest]:
    """During a loop, SIGINT and SIGTERM ask it to stop; raises `Stopped` when it has.

    Only the main thread can do that, and only signals that the program handles anyway are caught.
    """
    request = StopRequest()
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if callable(signal.getsignal(number)):
                previous[number] = signal.signal(number, lambda raised, _: request.make(raised))
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if request.signal is not None:
        raise Stopped(request.signal)
