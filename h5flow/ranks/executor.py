"""The thread of a rank that carries out rounds which nobody here waits for, or all of them.

What ranks do together to a file that all of them have open is done by it alone: each rank waits in HDF5 for the others
then, so it has to be done in one order, that of the rounds, and by nobody whom others need meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from h5flow.ranks.rounds import Round


class _End:
    """The last that is submitted."""


class Executor:
    """Calls `execute` with what is submitted, in order; what it raises ends the thread, and is told to `failed`."""

    def __init__(self, execute: Callable[[Round | None], None], failed: Callable[[BaseException], None]) -> None:
        self._execute = execute
        self._failed = failed
        self._submitted: queue.SimpleQueue[Round | _End | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="h5flow executor", daemon=True)
        self._thread.start()

    def submit(self, closed: Round | None) -> None:
        """Carry out a round; `None` stands for those that are closed already."""
        self._submitted.put(closed)

    def close(self) -> None:
        """End when everything has been carried out."""
        self._submitted.put(_End())
        self._thread.join()

    def _work(self) -> None:
        try:
            while not isinstance(submitted := self._submitted.get(), _End):
                self._execute(submitted)
        except BaseException as error:  # noqa: BLE001 - it is handed on
            self._failed(error)
