"""The trace of a job: a part for each rank, on one clock, and one file in the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from h5flow.errors import UsageError
from h5flow.telemetry.trace import FLUSH, Trace, clocks_apart, merge, now

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

    from h5flow.telemetry import Journal

_log = logging.getLogger(__name__)

_EXCHANGES = 8


@contextmanager
def drawn(journal: Journal, path: str, comm: Intracomm | None) -> Iterator[None]:
    """Draw a job for the duration of the block.

    Collective; where it fails, each rank that does joins the parts there are.
    """
    rank, size = journal.identity.rank, journal.identity.size
    zero = journal.began
    if comm is not None and size > 1:
        ahead = _ahead_of_first(comm)
        zero = comm.bcast(zero) - ahead
    try:
        trace = Trace(path, rank, zero, f"rank {rank} on {journal.identity.host}", _log.warning)
    except OSError as error:
        raise UsageError(f"trace '{path}' can't be written: {error.strerror}") from error
    journal.draw_on(trace)
    try:
        yield
    except BaseException:
        journal.draw_on(None)
        trace.close()
        if size > 1:
            time.sleep(2 * FLUSH)  # what the others have gathered is in their parts then
        _merged(path, size, keep=size > 1)
        raise
    journal.draw_on(None)
    trace.close()
    if comm is not None:
        comm.barrier()
    if rank == 0:
        _merged(path, size, keep=False)


def _merged(path: str, size: int, *, keep: bool) -> None:
    try:
        merge(path, size, keep=keep)
    except OSError as error:
        _log.warning("trace '%s' can't be written: %s; its parts are beside it", path, error.strerror)


def _ahead_of_first(comm: Intracomm) -> float:
    """Say how far the clock of rank 0 is ahead of that of this rank, in seconds. Collective."""
    exchanges: list[tuple[float, float, float]] = []
    for other in range(1, comm.Get_size()):
        for _ in range(_EXCHANGES):
            if comm.Get_rank() == other:
                sent = now()
                comm.send(None, 0)
                shown = comm.recv(source=0)
                exchanges.append((sent, now(), shown))
            elif comm.Get_rank() == 0:
                comm.recv(source=other)
                comm.send(now(), other)
    return clocks_apart(exchanges) if exchanges else 0.0
