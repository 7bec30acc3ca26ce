"""The one thread of a rank that uses MPI for the runtime: it sends and receives messages, and never blocks.

A blocking call would burn a core while it waits, and two threads in blocking calls wait for each other. So messages
are looked for with pauses between, which get longer while none come.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

_TAG = 1
# After a message the next one is looked for at once, for so long (seconds); then with pauses from …to.
_EAGER = 100e-6
_SHORTEST = 50e-6
_LONGEST = 1e-3


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
        self._outbox: deque[tuple[int, Any]] = deque()
        self._sending: list[Request] = []
        self._posted = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="h5flow courier", daemon=True)
        self._thread.start()

    def post(self, rank: int, message: Any) -> None:
        """Send a message, soon; those to the same rank arrive in order."""
        self._outbox.append((rank, message))
        self._posted.set()

    @property
    def backlog(self) -> int:
        """How many messages haven't left yet."""
        return len(self._outbox) + len(self._sending)

    def close(self) -> None:
        """End when everything has been sent."""
        self._ending = True
        self._posted.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._deliver()
        except BaseException as error:  # noqa: BLE001 - it is handed on
            self._failed(error)

    def _deliver(self) -> None:
        pause, busy_until = _SHORTEST, 0.0
        while True:
            self._posted.clear()
            active = self._send() + self._look()
            self._between()
            if self._ending and not self.backlog and not active:
                return
            if active:
                pause, busy_until = _SHORTEST, time.perf_counter() + _EAGER
            elif time.perf_counter() < busy_until:
                os.sched_yield()
            else:
                self._posted.wait(pause)
                pause = min(_LONGEST, 2 * pause)

    def _send(self) -> int:
        sent = 0
        while self._outbox:
            rank, message = self._outbox.popleft()
            sent += 1
            if rank == self._rank:
                self._receive(rank, message)
            else:
                self._sending.append(self._comm.isend(message, rank, _TAG))
        if self._sending:
            self._sending = [request for request in self._sending if not request.Test()]
        return sent

    def _look(self) -> int:
        from mpi4py import MPI

        seen = 0
        status = MPI.Status()
        while (message := self._comm.improbe(tag=_TAG, status=status)) is not None:
            self._receive(status.Get_source(), message.recv())
            seen += 1
        return seen
