"""The one thread of a rank that uses MPI for the runtime: it sends and receives messages, and never blocks.

A blocking call would burn a core while it waits, and two threads in blocking calls wait for each other. So messages
are looked for with pauses between, which get longer while none come.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request, Status

_TAG = 1
# Messages come in bursts, so the next one is looked for after a short pause first, and then after ever longer ones.
_SHORTEST = 50e-6  # seconds
_LONGEST = 500e-6
_LONGER = 1.2


class Courier:
    """Sends messages between the ranks of a communicator, which nobody else may use.

    `receive(rank, message)` and `between()`, which is called again and again, run in the courier's thread. What
    they raise ends the courier, and is told to `failed`.
    """

    def __init__(
        self,
        comm: Intracomm,
        receive: Callable[[int, Any], None],
        between: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._comm = comm
        self._rank: int = comm.Get_rank()
        self._receive = receive
        self._between = between
        self._failed = failed
        self._outbox: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._sending: list[Request] = []
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="h5flow courier", daemon=True)
        self._thread.start()

    def post(self, rank: int, message: Any) -> None:
        """Send a message, soon; those to the same rank arrive in order."""
        self._outbox.put((rank, message))

    @property
    def backlog(self) -> int:
        """How many messages haven't left yet."""
        return self._outbox.qsize() + len(self._sending)

    def close(self) -> None:
        """End when everything has been sent."""
        self._ending = True
        self._outbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._deliver()
        except BaseException as error:  # noqa: BLE001 - it is handed on
            self._failed(error)

    def _deliver(self) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        pause = _SHORTEST
        while True:
            self._send(pause)
            seen = self._look(status)
            self._between()
            pause = 0 if seen else min(_LONGEST, max(_SHORTEST, _LONGER * pause))
            if self._ending and not self.backlog and not seen:
                return

    def _send(self, pause: float) -> None:
        """Send what there is, after a pause if there is nothing yet."""
        try:
            while True:
                posted = self._outbox.get(timeout=pause) if pause else self._outbox.get_nowait()
                pause = 0
                if posted is not None:
                    rank, message = posted
                    if rank == self._rank:
                        self._receive(rank, message)
                    else:
                        self._sending.append(self._comm.isend(message, rank, _TAG))
        except queue.Empty:
            pass
        if self._sending:
            self._sending = [request for request in self._sending if not request.Test()]

    def _look(self, status: Status) -> int:
        """Take what has come; returns how many messages that were."""
        seen = 0
        while (message := self._comm.improbe(tag=_TAG, status=status)) is not None:
            self._receive(status.Get_source(), message.recv())
            seen += 1
        return seen
