"""What the ranks that write one file do together.

Rank 0 owns the file. What changes its structure happens on all ranks, in the same order; rows are appended where the
ranks agree, written to each rank's own buffer, and sent to the owner when that is flushed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from h5flow import mpi
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.collective.calls import (
    Append,
    ChangeStructure,
    EndLoop,
    Publish,
    Reserve,
    Stop,
    TakeCommunicator,
)
from h5flow.data.collective.file_member import FileMember
from h5flow.data.file.changes import Change
from h5flow.data.file.data_file import DataFile
from h5flow.data.file.output_file import OutputFile
from h5flow.data.references.reference import Reference
from h5flow.data.storage import SerialStorage, Storage
from h5flow.data.storage.remote import RankDataset, RemoteStorage
from h5flow.ranks import leaving
from h5flow.ranks.communicators import duplicates
from h5flow.ranks.coordination import Coordination
from h5flow.ranks.member import Components

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")


class SingleWriterRanks:
    """The part that one rank has in a file, which rank 0 writes for all of them.

    It has a method for each of `FileRanks`, and those by which a rank that has failed leaves the others.
    """

    several = True
    #: Whether all ranks have the file open, and change it together.
    all_open = False

    def __init__(self, comm: Intracomm, file: DataFile) -> None:
        self.file = file
        self.comm = comm.Dup()
        self.rank: int = comm.Get_rank()
        self._world = comm
        self._duplicates = duplicates(comm)
        self._taken: list[Intracomm] = []
        self._original: str | None = None
        self.failed = False
        leaving.begin(self)
        #: This rank as the others see it.
        self.member = self._member()
        self.coordination = Coordination(comm.Dup(), file.context.file_changed, self.member)

    def _member(self) -> FileMember:
        return FileMember(self.file, self.rank)

    @property
    def stopping(self) -> bool:
        """Say whether a rank has been asked to stop in time for all of them to know before the loop is over."""
        return self.member.stopping

    def work_for(self, components: Components) -> None:
        """Let calls belong to the components that are at work from now on."""
        self.member.work_for(components)

    def listen_for_stop(self, listener: Callable[[], None]) -> None:
        """Register a function to be called when any rank has been asked to stop."""
        self.member.listen_for_stop(listener)

    def watch(self, names: Sequence[str], warning: float, abort: float | None, *, strict: bool) -> None:
        """Log what ranks have been waiting for so long (seconds), and end all of them after `abort`.

        Where it is `strict`, it is an error that ranks set an attribute to different values.
        """
        self.member.watch(names, warning, abort, strict=strict)

    @property
    def waited(self) -> Mapping[int, float]:
        """Return the seconds that each component has waited for other ranks in the loop, by its position."""
        return self.coordination.waited

    def enter(self, part: int) -> None:
        """Begin the next call of a component's method before or after the loop, or the loop itself."""
        self.coordination.enter(part)

    def ask(self, number: int) -> None:
        """Ask the generator for a slice."""
        self.coordination.ask(number)

    def passed(self, number: int, position: int) -> None:
        """Note that a component is done with a slice."""
        self.coordination.passed(number, position)

    # opening and closing

    def begin(self, output: OutputFile, source: str | None, *, opens: bool) -> None:
        """Begin the output as a copy of a file, or as it is, or empty, and open it. Collective."""
        if self.file.files.is_open:
            return
        original = mpi.on_first_rank(self._world, lambda: output.prepare(source))
        output.is_copy_of(original)
        self.file.begins_as(output.copied)
        if opens:
            self.file.files.open(original)

    def opened(self, original: str | None) -> Storage:
        """Open the file on all ranks together."""
        if self.rank:
            self._original = original
            storage = self.storage(self.file.path, "a")
            self.wait()
            return storage
        self.wait()
        return self.storage(self.file.path, "a")

    def storage(self, path: str, mode: str) -> Storage:
        """Open a file as this rank uses it."""
        if self.rank == 0:
            return SerialStorage(path, mode)
        original, self._original = self._original, None
        skeleton = path if path == self.file.path and Path(path).exists() else None
        return RemoteStorage(path, self.coordination.owner, skeleton, original)

    def wait(self) -> None:
        """Wait until all ranks are here, without burning a core."""
        request, pause = self.comm.Ibarrier(), 50e-6
        while not request.Test():
            time.sleep(pause)
            pause = min(1e-3, 2 * pause)

    def close(self, close: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """Let the owner `close` the file when it has got everything, and then the others theirs. Collective.

        What is done `before` to the file is done by the owner.
        """
        self.fence()
        if self.rank == 0:
            before()
            close()
            self.wait()
        else:
            self.wait()
            close()

    def fail(self) -> None:
        """Note that this rank has failed. If it doesn't leave the others, they end when its process does."""
        self.failed = True
        mpi.end_all_at_exit(leaving.is_waited_for)

    def tell(self, why: str) -> None:
        """Tell the other ranks that this one has failed: whoever waits for any gets an error."""
        self.coordination.tell_failure(why)

    def part(self, patience: float) -> bool:
        """Let go of the file, which stays as it is, when no rank goes on. Collective."""
        if not self.coordination.close(patience):
            return False
        self.comm.Free()
        # There may be messages that nobody has received, so nobody else gets these.
        for comm in self._taken:
            if comm:
                comm.Free()
        self.file.let_go(save=self.rank == 0)
        return True

    def end(self) -> None:
        """End all that is done together. Collective."""
        leaving.end(self)
        self.coordination.close()
        self.comm.Free()
        self._duplicates.give_back(self._taken)
        self._taken = []

    def communicator(self) -> Intracomm:
        """Return a communicator that is its taker's own until the `end`. Collective."""
        with self.file.context.lock:
            # MPI's own waiting can't be broken off when a rank doesn't come, as it has failed.
            self.coordination.join(TakeCommunicator.RESOURCE, TakeCommunicator())
        self._taken.append(self._duplicates.take())
        return self._taken[-1]

    # together

    def commit(self, change: Change) -> None:
        """Make a change on all ranks, each by itself, when they have agreed on it; the lock is let go meanwhile."""
        self.coordination.join(
            ChangeStructure.RESOURCE, ChangeStructure.of(change), lambda: self.file.carry_out(change)
        )

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change of the structure that all ranks make by themselves. The lock is held."""
        return change()

    def append(self, rows: PagedDataset, count: int) -> int:
        """Append rows that all ranks reserve together, in the order of ranks; the number of this rank's first."""
        first: int = self.coordination.join(rows.resource, Append(count))
        return first

    def append_references(self, reference: Reference, pairs: Any) -> None:
        """Append pairs of row numbers in the order of ranks; few of them when it is agreed where they go."""
        rows = reference.pairs
        if rows.goes_through(len(pairs) * rows.dtype.itemsize * 2):
            reference.put(self.append(rows, len(pairs)), pairs)
            return
        # Nobody needs to wait for the others; the caller's array may change until then.
        later, tables = pairs.copy(), (rows, *reference.regions)

        def placed(first: int) -> None:
            for table in tables:
                table.others.agreed(key)
            reference.put(first, later)

        key = self.coordination.join_later(rows.resource, Append(len(later)), placed)
        for table in tables:
            table.others.await_agreement(key)

    def wait_for(self, table: PagedDataset) -> None:
        """Wait until what is to be done to a table later has been done; the lock is held, and let go meanwhile."""
        self.coordination.wait_for(list(table.others.pending))

    def reserve(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Reserve rows up to `stop`, or what other ranks want at least; those from `start` on are for this rank."""
        self.coordination.join(rows.resource, Reserve(start, stop))

    def fetch(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Let this rank see what others have written by now to rows `start:stop`; the lock is held, and let go."""
        written = self.coordination.collect(rows.resource, start, stop)
        stored = rows.stored
        if isinstance(stored, RankDataset):
            stored.others_have_written(stop, [part for parts in written for part in parts])
            rows.renew()

    def all_done(self, stopping: bool = False) -> bool:
        """Say whether each rank has no more slices, or shall stop; asked by one of which that is so."""
        with self.file.context.lock:
            if stopping:
                return bool(self.coordination.join_unasked(Stop.RESOURCE, Stop()))
            return bool(self.coordination.join_undecided(EndLoop.RESOURCE, EndLoop()))

    def fence(self) -> None:
        """Let all ranks see everything that any of them has written up to now."""
        with self.file.context.lock:
            self.coordination.wait_for_all()
            self.file.flush()
            changed = tuple(rows.path for rows in self.file.catalog.pages() if rows.has_changed())
            self.coordination.join(Publish.RESOURCE, Publish(changed, self._too_short()))

    def _too_short(self) -> dict[str, int]:
        """Return the datasets for which the file has too few rows, and how many they need."""
        return {}
