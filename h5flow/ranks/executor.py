"""The thread of a rank that does what other ranks wait for, and nobody here does.

What ranks do together to a file that all of them have open is done by it alone: each rank waits in HDF5 for the others
then, so it has to be done in one order, that of the rounds, and by nobody whom others need meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class _End:
    """The last that is submitted."""


class Executor:
    """Makes the calls that are submitted, in order; what one raises ends the thread, and is told to `failed`."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._submitted: queue.SimpleQueue[Callable[[], None] | _End] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="h5flow executor", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None]) -> None:
        """Make a call when those before it have returned."""
        self._submitted.put(call)

    def close(self, patience: float | None = None) -> bool:
        """End when all calls have been made; says whether they have, in so many seconds."""
        self._submitted.put(_End())
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            while not isinstance(call := self._submitted.get(), _End):
                call()
        except BaseException as error:  # noqa: BLE001 - it is handed on
            self._failed(error)
