"""Event loops that tell when they have been blocked: asyncio's and uvloop's, in debug mode."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

try:
    import uvloop
except ImportError:  # the extra `fast` isn't installed
    uvloop = None

#: A loop that takes longer than this for one callback has been blocked, in seconds.
LIMIT = 0.02


def debugged(make: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes loops that log each callback that takes longer than `LIMIT`."""

    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.set_debug(True)
        loop.slow_callback_duration = LIMIT
        return loop

    return made


#: What makes the loops that there are here.
LOOPS = {"asyncio": debugged(asyncio.new_event_loop)}
if uvloop is not None:
    LOOPS["uvloop"] = debugged(uvloop.new_event_loop)


class Blocked(logging.Handler):
    """Collects what has blocked loops of this process.

    What a busy machine takes doesn't count: the time for which the loop's thread has been waiting for a core. Nor does
    Python's collection of garbage, which is that of all tests before.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.callbacks: list[str] = []
        #: How long garbage has been collected, and since when it is again: one object, since threads change places.
        self._collecting: tuple[float, float | None] = (0.0, None)
        #: The clock, and by then: for how long garbage has been collected, and each thread has waited for a core.
        self._excused: deque[tuple[float, float, dict[int, float]]] = deque(maxlen=1000)
        self._ended = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="test of blocked loops", daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(LIMIT / 4):
            self._note()

    def _note(self) -> None:
        waited = waited_for_cores()
        collected, since = self._collecting
        now = time.monotonic()
        self._excused.append((now, collected + (0.0 if since is None else now - since), waited))

    def _excuse(self, began: float) -> float:
        """How many of the seconds since then were none of this thread's."""
        thread = threading.get_native_id()
        noted = list(self._excused)
        before = next((note for note in reversed(noted) if note[0] <= began), noted[0])
        self._note()
        _, collected, waited = self._excused[-1]
        return collected - before[1] + waited.get(thread, 0.0) - before[2].get(thread, 0.0)

    def _collects(self, phase: str, _: dict[str, int]) -> None:
        collected, since = self._collecting
        if phase == "start":
            self._collecting = (collected, time.monotonic())
        elif since is not None:
            self._collecting = (collected + time.monotonic() - since, None)

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a callback that has just ended."""
        if "took %.3f seconds" not in str(record.msg) or not isinstance(record.args, tuple):
            return
        seconds = float(str(record.args[-1]))
        if seconds - self._excuse(time.monotonic() - seconds) > LIMIT:
            self.callbacks.append(record.getMessage())

    def __enter__(self) -> Blocked:
        self._note()
        self._watching.start()
        logging.getLogger("asyncio").addHandler(self)
        gc.callbacks.append(self._collects)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._collects)
        logging.getLogger("asyncio").removeHandler(self)
        self._ended.set()
        self._watching.join()


def waited_for_cores() -> dict[int, float]:
    """For how many seconds each thread of this process has been ready to run while cores were busy with others."""
    waited = {}
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended meanwhile
            waited[int(thread.parent.name)] = int(thread.read_text().split()[1]) / 1e9
    return waited
