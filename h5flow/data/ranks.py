"""What the ranks that write one file do together.

Rank 0 owns the file. What changes its structure happens on all ranks, in the same order; rows are appended where the
ranks agree, written to each rank's own buffer, and sent to the owner when that is flushed.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from h5flow import mpi
from h5flow.data.observer import Observer
from h5flow.data.pages import PagedDataset, RegionTable
from h5flow.data.storage import SerialStorage, Storage
from h5flow.data.storage.remote import RemoteDataset, RemoteStorage
from h5flow.errors import H5FlowError, NotInFile
from h5flow.ranks import Coordination, Round, packed, unpacked
from h5flow.telemetry import emit
from h5flow.telemetry.events import CollectiveStalled

if TYPE_CHECKING:
    import threading

    from mpi4py.MPI import Intracomm

# Resources of rounds that are no datasets.
_STRUCTURE = "the structure of the file"
_LOOP = "the end of the loop"
_STOP = "the end that was asked for"
_FENCE = "what all ranks have written"
_CLOSED = "the closing of the file"


class RankedFile(Protocol):
    """The file of which there is a part on each rank."""

    path: str
    lock: threading.RLock
    turn: threading.Condition
    observer: Observer | None

    def paged(self, path: str) -> PagedDataset | None:
        """The dataset at an absolute path, with its buffer."""
        ...

    def pages(self) -> list[PagedDataset]:
        """All datasets that have been used."""
        ...

    def flush(self) -> None:
        """Bring the file up to date."""
        ...


class Ranks:
    """The part that one rank has in a file."""

    def __init__(self, comm: Intracomm, file: RankedFile) -> None:
        self._file = file
        self._comm = comm.Dup()
        self.coordination = Coordination(comm.Dup(), file.turn, self._apply)
        self.coordination.owner = self
        self.rank, self.size = self.coordination.rank, self.coordination.size
        self._original: str | None = None
        #: Called when another rank has been asked to stop.
        self.stop: Callable[[], None] = lambda: None

    def watch_stalls(self, names: Sequence[str], warning: float, abort: float | None) -> None:
        """Log what ranks have been waiting for so long (seconds), and end all of them after `abort`."""
        warned = 0.0

        def stalled(seconds: float, late: Callable[[Sequence[str]], list[str]]) -> None:
            nonlocal warned
            if seconds < warned:
                warned = 0.0
            if abort is not None and seconds > abort:
                emit(CollectiveStalled(seconds=seconds, waiting_for=late(names), ended=True), logging.ERROR)
                mpi.end_all(1)
            if seconds > warned + warning:
                warned = seconds
                emit(CollectiveStalled(seconds=seconds, waiting_for=late(names)))

        self.coordination.stalled = stalled

    # opening and closing

    def opened(self, original: str | None) -> Storage:
        """The file, opened on all ranks together."""
        if self.rank:
            self._original = original
            storage = self.storage(self._file.path, "a")
            self._wait()
            return storage
        self._wait()
        return self.storage(self._file.path, "a")

    def storage(self, path: str, mode: str) -> Storage:
        """A file of this rank."""
        if self.rank == 0:
            return SerialStorage(path, mode)
        original, self._original = self._original, None
        likeness = path if path == self._file.path and Path(path).exists() else None
        return RemoteStorage(path, self.coordination, likeness, original)

    def _wait(self) -> None:
        """Wait until all ranks are here, without burning a core."""
        request, pause = self._comm.Ibarrier(), 50e-6
        while not request.Test():
            time.sleep(pause)
            pause = min(1e-3, 2 * pause)

    def close(self, close: Callable[[], None]) -> None:
        """Have the owner `close` the file when it has got everything, and then the others theirs. Collective."""
        self.fence()
        if self.rank == 0:
            close()
            self._wait()
        else:
            self._wait()
            close()

    def end(self) -> None:
        """Nothing is done together any more. Collective."""
        self.coordination.close()

    # together

    def structure(self, change: Callable[..., None], *arguments: Any) -> None:
        """Make a change of the structure, on all ranks. The lock is held, and let go meanwhile."""
        call = (change.__name__, packed(arguments))
        self.coordination.join(_STRUCTURE, call, functools.partial(change, *arguments))

    def append(self, path: str, count: int) -> int:
        """Append rows that all ranks reserve together, in the order of ranks; the number of this rank's first."""
        first: int = self.coordination.join(path, count)
        return first

    def grow(self, path: str, length: int) -> None:
        """Have at least `length` rows, or what other ranks want at least."""
        self.coordination.join(path, ("length", length))

    def all_done(self, stopping: bool = False) -> bool:
        """Whether all ranks have no more slices, or shall stop; asked when this one hasn't, or shall."""
        with self._file.lock:
            if stopping:
                return bool(self.coordination.join_unasked(_STOP, True))
            return bool(self.coordination.join_undecided(_LOOP, True))

    def fence(self) -> None:
        """Have everything that any rank has written up to now be seen by all of them."""
        with self._file.lock:
            self._file.flush()
            self.coordination.join(_FENCE, True)

    # carried out

    def _apply(self, closed: Round, own: Callable[[], None] | None) -> Any:
        """Do what the ranks have agreed on; the lock is held."""
        calls = closed.calls
        if closed.resource == _STRUCTURE:
            if own is not None:
                return own()
            name, arguments = next(call for call in calls if call is not None)
            return getattr(self._file, name)(*unpacked(arguments, name))
        if closed.resource == _LOOP:
            return None not in calls
        if closed.resource == _STOP:
            self.stop()
            return None not in calls
        if closed.resource == _FENCE:
            return self._forget()
        return self._grow(closed)

    def _grow(self, closed: Round) -> int:
        rows = self._file.paged(closed.resource)
        assert rows is not None
        length = rows.length
        counts = [0 if call is None or isinstance(call, tuple) else int(call) for call in closed.calls]
        stops = [call[1] for call in closed.calls if isinstance(call, tuple)]
        new = max([length + sum(counts), *stops])
        if new > length:
            observer = self._file.observer
            if observer is not None:
                observer.append(closed.resource, length, new - length)
            rows.grow(new)
        return length + sum(counts[: self.rank])

    def _forget(self) -> None:
        """What other ranks have written is the owner's now."""
        if self.rank == 0:
            return
        for rows in self._file.pages():
            rows.drop_pages()
            if isinstance(rows.stored, RemoteDataset):
                rows.stored.forget_original()

    # what other ranks ask the owner for

    def serve(self, request: tuple[Any, ...]) -> Any:
        """Do what another rank asks for; the lock is held."""
        what, path, start, content = request
        rows = self._file.paged(path)
        if rows is None:
            raise NotInFile(f"'{path}' isn't in '{self._file.path}'")
        if what == "read":
            return rows.read(start, content)
        if what == "put":
            return rows.update(start, content)
        if what == "merge":
            assert isinstance(rows, RegionTable)
            return rows.merge(start, content)
        if what != "write":
            raise H5FlowError(f"unknown request '{what}'")
        return rows.write(start, content)
