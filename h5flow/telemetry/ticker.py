"""Telling now and then how a loop is doing."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from h5flow.telemetry.journal import Journal
from h5flow.telemetry.state import RunState, tell_progress, tell_queues

#: How often queues and progress are told, in seconds.
QUEUES, PROGRESS = 5.0, 30.0


Due = tuple[float, Callable[[RunState | None], None]]


def _in_loop(tell: Callable[[RunState], None]) -> Callable[[RunState | None], None]:
    return lambda state: None if state is None else tell(state)


#: Progress is told once to all who take it, queues to log files.
PROGRESS_DUE: Due = (PROGRESS, _in_loop(tell_progress))
QUEUES_DUE: Due = (QUEUES, _in_loop(tell_queues))


class Ticker:
    """Calls functions every so many seconds, in a thread of its own, with the state of the journal's loop.

    Before and after a loop, while components are made or finish, there is none.
    """

    def __init__(self, journal: Journal, dues: Sequence[Due]) -> None:
        self._journal = journal
        self._dues = dues
        self._ended = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it does."""
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: context.run(self._work), name="h5flow ticker", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _work(self) -> None:
        last = [time.monotonic()] * len(self._dues)
        while not self._ended.wait(0.5):
            state = self._journal.state
            for number, (period, tell) in enumerate(self._dues):
                if time.monotonic() - last[number] >= period:
                    last[number] = time.monotonic()
                    tell(None if state is None else state())
