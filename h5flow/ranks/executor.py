"""The thread of a rank that carries out rounds which nobody here waits for, or all of them.

What ranks do together to a file that all of them have open is done by it alone: each rank waits in HDF5 for the others
then, so it has to be done in one order, that of the rounds, and by nobody whom others need meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from h5flow.ranks.rounds import Round


class Executor:
    """Calls `carry_out` with each round, in order; what it raises ends the thread, and is told to `failed`."""

    def __init__(self, carry_out: Callable[[Round], None], failed: Callable[[BaseException], None]) -> None:
        self._carry_out = carry_out
        self._failed = failed
        self._rounds: queue.SimpleQueue[Round | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="h5flow executor", daemon=True)
        self._thread.start()

    def submit(self, closed: Round) -> None:
        """Carry out a round when those before it are done."""
        self._rounds.put(closed)

    def close(self) -> None:
        """End when all rounds have been carried out."""
        self._rounds.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while (closed := self._rounds.get()) is not None:
                self._carry_out(closed)
        except BaseException as error:  # noqa: BLE001 - it is handed on
            self._failed(error)
