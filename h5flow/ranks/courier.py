"""The messages of a rank: one thread receives them, and never blocks; one at a time uses MPI for the runtime.

A blocking call would burn a core while it waits, and two threads in blocking calls wait for each other. So messages
are looked for when this rank is rung for, and with pauses between, which get longer while none come.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from h5flow.ranks.doorbell import Doorbell
from h5flow.ranks.messages import Farewell, Message, decoded, encoded

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request, Status

_TAG = 1
# Messages come in bursts, so the next one is looked for after a short pause first, and then after ever longer ones.
_SHORTEST = 50e-6  # seconds
_LONGEST = 500e-6
_LONGER = 1.2
# Who is woken when there is something looks all the same: MPI may need it to go on with a long message.
_LONGEST_IF_WOKEN = 10e-3
_LONGER_IF_WOKEN = 4


class Courier:
    """Sends messages between the ranks of a communicator, which nobody else may use. Making it is collective.

    `receive(rank, message)` is called for each message, in the courier's thread or, for one to this rank itself, in
    that of who posts it; `between()` whenever something has been sent or received, after `wake`, and soon again when it
    returns true. Never two calls at once. What they raise in the courier's thread ends it, and is told to `failed`.
    """

    def __init__(
        self,
        comm: Intracomm,
        receive: Callable[[int, Message], None],
        between: Callable[[], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._comm = comm
        self._rank: int = comm.Get_rank()
        self._receive = receive
        self._between = between
        self._failed = failed
        self._outbox: queue.SimpleQueue[tuple[int, Message]] = queue.SimpleQueue()
        self._sending: list[Request] = []
        # Held by who uses MPI; nobody waits for it but the courier's thread.
        self._using = threading.Lock()
        self._user = 0
        self._ending = self._farewell = False
        self._posting = threading.Lock()
        self._others_going_on = comm.Get_size() - 1
        self._doorbell = Doorbell(comm)
        self._woken = self._doorbell.everywhere
        self._longest = _LONGEST_IF_WOKEN if self._woken else _LONGEST
        self._longer = _LONGER_IF_WOKEN if self._woken else _LONGER
        # Whether it looks at the outbox again before it waits.
        self._awake = True
        self._thread = threading.Thread(target=self._work, name="h5flow courier", daemon=True)

    def start(self) -> None:
        """Begin to send and receive."""
        self._thread.start()

    def post(self, rank: int, message: Message) -> None:
        """Send a message, now or soon; those to the same rank arrive in order. After the end it goes nowhere."""
        with self._posting:
            if self._farewell:
                return  # nobody would receive it, but who gets such a communicator next
            self._outbox.put((rank, message))
        if self._user == threading.get_ident():
            return  # it is sending
        # To wake another thread for it would take longer.
        if self._using.acquire(blocking=False):
            try:
                self._send()
            finally:
                self._using.release()
        if self._sending or not (self._woken and self._outbox.empty()):
            self.wake()

    def wake(self) -> None:
        """Make the courier call `between` soon."""
        if not self._awake:
            self._awake = True
            self._doorbell.ring(self._rank)

    @property
    def backlog(self) -> int:
        """Count the messages that haven't left yet."""
        return self._outbox.qsize() + len(self._sending)

    def close(self, patience: float | None = None) -> bool:
        """End when everything has been sent, and everything received that others have sent before they end.

        Collective: else something could be left for the next one who gets such a communicator. Says whether that has
        worked, in so many seconds.
        """
        self._ending = True
        self.wake()
        self._thread.join(patience)
        if self._thread.is_alive() or self._others_going_on:
            return False
        self._doorbell.close()
        return True

    def _work(self) -> None:
        try:
            self._deliver()
        except BaseException as error:  # noqa: BLE001 - it is handed on
            self._failed(error)

    def _deliver(self) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        pause, rung = _SHORTEST, False
        while True:
            self._awake = True
            with self._using:
                sent, seen, again = self._send(), self._look(status), self._between()
            if self._ending and not self._farewell:
                with self._posting:
                    self._farewell = True
                    for other in range(self._comm.Get_size()):
                        if other != self._rank:
                            self._outbox.put((other, Farewell()))
                continue
            if self._farewell and not self.backlog and not self._others_going_on:
                return
            if seen:
                continue
            longest = _LONGEST if self._sending else self._longest
            # What somebody rings for may need a moment to get here, and who sends something often gets an answer soon.
            pause = _SHORTEST if sent or again or rung else min(longest, self._longer * pause)
            self._awake = False
            # What has been posted before is seen here, and who posts from now on rings.
            rung = self._outbox.empty() and self._doorbell.wait(pause)

    def _send(self) -> bool:
        """Send what there is; says whether there was anything."""
        sent, last, code = False, None, None
        self._user = threading.get_ident()
        try:
            while not self._outbox.empty():
                rank, message = self._outbox.get()
                sent = True
                if rank == self._rank:
                    self._receive(rank, message)
                    continue
                if message is not last:  # the same is often sent to all ranks
                    last, code = message, encoded(message)
                self._sending.append(self._comm.isend(code, rank, _TAG))
                self._doorbell.ring(rank)
        finally:
            self._user = 0
        if self._sending:
            self._sending = [request for request in self._sending if not request.Test()]
        return sent

    def _look(self, status: Status) -> int:
        """Take what has come; returns how many messages that were."""
        seen = 0
        while (message := self._comm.improbe(tag=_TAG, status=status)) is not None:
            content = decoded(message.recv())
            if isinstance(content, Farewell):
                self._others_going_on -= 1
            else:
                self._receive(status.Get_source(), content)
            seen += 1
        return seen
