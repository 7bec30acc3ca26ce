"""Telling now and then how a loop is doing."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from h5flow.telemetry.events import Progress, QueueStats
from h5flow.telemetry.journal import Journal, emit, is_heard
from h5flow.telemetry.pace import PaceMaker
from h5flow.telemetry.state import RunState

#: How often queues and progress are told, in seconds.
QUEUES, PROGRESS = 5.0, 30.0

Due = tuple[float, Callable[[RunState | None], None]]


def tell_queues(state: RunState | None) -> None:
    """Tell what each queue has seen."""
    if state is None or not is_heard(QueueStats, QueueStats.LEVEL):
        return
    for queue in state.queues:
        emit(
            QueueStats(
                queue=queue.name,
                depth=queue.depth,
                occupancy=queue.occupancy,
                highest=queue.highest,
                puts=queue.puts,
                gets=queue.gets,
                put_wait_s=queue.put_wait,
                get_wait_s=queue.get_wait,
            )
        )


def telling_progress() -> Callable[[RunState | None], None]:
    """Return a function that tells, each time it is called, how far the loop is."""
    maker = PaceMaker()

    def tell(state: RunState | None) -> None:
        if state is None:
            return
        emit(
            Progress(
                slices=state.slices,
                rows=state.rows,
                seconds=state.seconds,
                in_flight=state.in_flight,
                in_flight_bytes=state.in_flight_bytes,
                total=state.total,
                left_s=maker.pace(state).left_s,
            )
        )

    return tell


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
        """Run the ticker for the duration of the block."""
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
