"""Numbers that ranks take from a queue, until there are none left.

Rank 0 deals them out, in a thread of its own, since it works like the others. Whoever waits looks for messages with
pauses between, because a blocking call would burn a core.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

T = TypeVar("T")

_ASK, _ANSWER, _END, _FAILED = 1, 2, 3, 4
# Between two looks for a message (seconds); doubled from … to.
_SHORTEST, _LONGEST = 50e-6, 10e-3


class Dealer(Generic[T]):
    """Deals out numbers, each once, and hands the results on to `received`, one at a time.

    Where `received` returns true, no more are dealt out.
    """

    def __init__(self, numbers: Iterable[int], received: Callable[[T], bool]) -> None:
        self._numbers = deque(numbers)
        self._received = received
        self._lock = threading.Lock()

    def take(self, result: T | None) -> int | None:
        """Take the next number, `None` if there is none; with the result of the last one."""
        with self._lock:
            if result is not None and self._received(result):
                self._numbers.clear()
            return self._numbers.popleft() if self._numbers else None


class RankQueue(Generic[T]):
    """The queue as a rank of `comm` sees it, which nobody else may use; rank 0 has the `dealer`.

    Ranks that don't `take` may `leave` as well.
    """

    def __init__(self, comm: Intracomm, dealer: Dealer[T] | None) -> None:
        self._comm = comm
        self._dealer = dealer
        self._waiting_for = comm.Get_size() - 1
        if dealer is not None:
            self._all_left = threading.Event()
            threading.Thread(target=self._serve, args=(dealer,), name="h5flow queue", daemon=True).start()

    def take(self, result: T | None) -> int | None:
        """Take the next number, `None` if there is none; with the result of the last one."""
        if self._dealer is not None:
            return self._dealer.take(result)
        sent(self._comm.isend((result,), 0, _ASK))
        answer: int | None = received(self._comm, 0, _ANSWER)[1]
        return answer

    def leave(self, ended: Callable[[], int]) -> int:
        """Wait until no rank takes numbers any more; return what `ended` gives on rank 0."""
        if self._dealer is None:
            sent(self._comm.isend(None, 0, _ASK))
            answer: int = received(self._comm, 0, _END)[1]
            return answer
        self._all_left.wait()
        value = ended()
        for request in [self._comm.isend(value, rank, _END) for rank in range(1, self._comm.Get_size())]:
            sent(request)
        return value

    def _serve(self, dealer: Dealer[T]) -> None:
        """Answer the other ranks until all of them have left."""
        try:
            while self._waiting_for:
                rank, question = received(self._comm, None, _ASK)
                if question is None:
                    self._waiting_for -= 1
                else:
                    sent(self._comm.isend(dealer.take(*question), rank, _ANSWER))
        except BaseException:  # noqa: BLE001 - the other ranks would wait forever
            _end_all()
        self._all_left.set()


class Group:
    """Ranks that do the same at the same time; the first one says what."""

    def __init__(self, comm: Intracomm) -> None:
        self._comm = comm
        self._others = range(1, comm.Get_size())
        self.leads: bool = comm.Get_rank() == 0

    def gathered(self, value: T) -> list[T]:
        """Return on the first rank what all of them have, elsewhere nothing."""
        if not self.leads:
            sent(self._comm.isend(value, 0, _ASK))
            return []
        return [value, *(received(self._comm, rank, _ASK)[1] for rank in self._others)]

    def told(self, value: T | None = None) -> T | None:
        """Return what the first rank says."""
        if not self.leads:
            heard: T | None = received(self._comm, 0, _ANSWER)[1]
            return heard
        for request in [self._comm.isend(value, rank, _ANSWER) for rank in self._others]:
            sent(request)
        return value

    def failed(self, why: str | None, patience: float) -> list[str | None] | None:
        """Return why each of the ranks has failed, when all have; `None` if one goes on for so many seconds."""
        until = time.monotonic() + patience
        try:
            if self.leads:
                all_of_them = [why, *(received(self._comm, rank, _FAILED, until)[1] for rank in self._others)]
                for request in [self._comm.isend(all_of_them, rank, _FAILED) for rank in self._others]:
                    sent(request)
                return all_of_them
            sent(self._comm.isend(why, 0, _FAILED))
            heard: list[str | None] = received(self._comm, 0, _FAILED, until)[1]
        except TimeoutError:
            return None
        return heard

    def another_comm(self) -> Intracomm:
        """Return a communicator of these ranks on which nothing has been sent. Collective."""
        return self._comm.Dup()


def received(comm: Intracomm, source: int | None, tag: int, until: float | None = None) -> tuple[int, Any]:
    """Receive the next message and the rank that it is from, without burning a core until it comes.

    Raises `TimeoutError` if none comes `until` a moment of `time.monotonic`.
    """
    from mpi4py import MPI

    status, pause = MPI.Status(), _SHORTEST
    while (message := comm.improbe(MPI.ANY_SOURCE if source is None else source, tag, status)) is None:
        if until is not None and time.monotonic() > until:
            raise TimeoutError
        time.sleep(pause)
        pause = min(_LONGEST, 2 * pause)
    return status.Get_source(), message.recv()


def sent(request: Request) -> None:
    """Wait until a message has left, without burning a core."""
    pause = _SHORTEST
    while not request.Test():
        time.sleep(pause)
        pause = min(_LONGEST, 2 * pause)


def _end_all() -> None:
    """End all ranks, with the error that is being handled."""
    from mpi4py import MPI

    traceback.print_exc()
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
    os._exit(1)
