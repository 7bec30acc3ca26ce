"""What the ranks that write one file do together.

Rank 0 owns the file. What changes its structure happens on all ranks, in the same order; rows are appended where the
ranks agree, written to each rank's own buffer, and sent to the owner when that is flushed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from h5flow import mpi
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.collective.agreement import Difference, agreed
from h5flow.data.collective.calls import (
    Append,
    ChangeStructure,
    EndLoop,
    Publish,
    Reserve,
    Stop,
    TakeCommunicator,
    made,
)
from h5flow.data.file.changes import Change, SetAttributes
from h5flow.data.file.data_file import DataFile
from h5flow.data.file.output_file import OutputFile
from h5flow.data.layout import lies_in
from h5flow.data.references.reference import Reference
from h5flow.data.references.tables import RegionTable
from h5flow.data.resource import Resource
from h5flow.data.storage import SerialStorage, Storage, object_references
from h5flow.data.storage.remote import RankDataset, RemoteStorage
from h5flow.errors import DataMismatch, H5FlowError, NotInFile
from h5flow.ranks import leaving
from h5flow.ranks.communicators import duplicates
from h5flow.ranks.coordination import Coordination
from h5flow.ranks.member import Components, Late, NoComponents
from h5flow.ranks.rounds import Round
from h5flow.ranks.stall_watch import StallWatch

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")

#: The group in which a job is recorded, each rank as it sees it.
_RECORD = "h5flow"
_SAME_FOR_ALL = "give all ranks the same value, as of self.comm.allreduce(count) in finish"

_log = logging.getLogger(__name__)


class SingleWriterRanks:
    """The part that one rank has in a file, which rank 0 writes for all of them."""

    several = True
    #: Whether all ranks have the file open, and change it together.
    all_open = False

    def __init__(self, comm: Intracomm, file: DataFile) -> None:
        self.file = file
        self.comm = comm.Dup()
        self._world = comm
        self.components: Components = NoComponents()
        self._stalls = StallWatch()
        self._duplicates = duplicates(comm)
        self._taken: list[Intracomm] = []
        self._original: str | None = None
        self.failed = False
        leaving.begin(self)
        self._strict = False
        self._told: set[tuple[str, str]] = set()
        #: Whether a rank has been asked to stop in time for all of them to know before the loop is over.
        self.stopping = False
        self._on_stop: list[Callable[[], None]] = []
        self.coordination = Coordination(comm.Dup(), file.context.file_changed, self)
        self.rank, self.size = self.coordination.rank, self.coordination.size

    def work_for(self, components: Components) -> None:
        """Let calls belong to the components that are at work from now on."""
        self.components = components

    def listen_for_stop(self, listener: Callable[[], None]) -> None:
        """Register a function to be called when any rank has been asked to stop."""
        self._on_stop.append(listener)

    def watch(self, names: Sequence[str], warning: float, abort: float | None, *, strict: bool) -> None:
        """Log what ranks have been waiting for so long (seconds), and end all of them after `abort`.

        Where it is `strict`, it is an error that ranks set an attribute to different values.
        """
        self._stalls = StallWatch(names, warning, abort)
        self._strict = strict

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

    def stalled(self, seconds: float, late: Late) -> None:
        """Take note how long the same ranks have been waited for."""
        self._stalls.note(seconds, late)

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

    # carried out

    def apply(self, closed: Round, own: Callable[[], Any] | None) -> Any:
        """Do what the ranks have agreed on; the lock is held."""
        match made(closed.calls)[0]:
            case ChangeStructure() as call:
                if self.set_what_all_want(closed):
                    return None
                return own() if own is not None else self.file.carry_out(call.change())
            case TakeCommunicator():
                return None
            case EndLoop():
                return None not in closed.calls
            case Stop():
                self.stopping = True
                for listener in self._on_stop:
                    listener()
                return None not in closed.calls
            case Publish():
                self.refresh({path for call in closed.calls for path in call.changed})
                return None
        return self._grow(closed)

    def concerns_all(self, _closed: Round) -> bool:
        """Say whether a round is carried out by all ranks at once: none is where one rank writes for all of them."""
        return False

    def carry_out(self, closed: Round, own: Callable[[], Any] | None) -> Any:
        """Do what the ranks have agreed on, at once; never called where no round concerns all."""
        raise NotImplementedError

    def set_what_all_want(self, closed: Round) -> bool:
        """Set the attributes of a round in which ranks want different ones; says whether it is such a round.

        The lowest rank's value is kept, with a warning; raises `DataMismatch` instead where that is an error.
        """
        calls: dict[int, ChangeStructure] = {rank: call for rank, call in enumerate(closed.calls) if call is not None}
        packs = {rank: call.pack for rank, call in calls.items() if call.sets_attributes and call.pack is not None}
        if len(packs) < len(calls) or len(set(packs.values())) < 2:
            return False
        wishes = {}
        for rank in packs:
            change = calls[rank].change()
            assert isinstance(change, SetAttributes)
            wishes[rank] = (change.path, change.attributes)
        if any(lies_in(path, (_RECORD,)) for path, _ in wishes.values()):
            return False
        merged, differences = agreed(wishes)
        for difference in differences:
            self._tell(difference, taking_part=self.rank in wishes)
        if differences and self._strict:
            return True
        for path, attributes in merged.items():
            self.file.carry_out(SetAttributes(path, attributes))
        return True

    def _tell(self, difference: Difference, *, taking_part: bool) -> None:
        if self._strict:
            if taking_part:
                raise DataMismatch(f"{difference}; {_SAME_FOR_ALL}")
            return
        if self.rank == 0 and (difference.path, difference.name) not in self._told:
            self._told.add((difference.path, difference.name))
            _log.warning("%s; that of rank %d is kept: %s", difference, difference.kept, _SAME_FOR_ALL)

    def _grow(self, closed: Round) -> int:
        rows, counts, new = self.growth(closed)
        length, call = rows.length, closed.calls[self.rank]
        first = length + sum(counts[: self.rank])
        own = (call.start, call.stop) if isinstance(call, Reserve) else (first, first + counts[self.rank])
        if new > length:
            self.file.context.observer.append(rows.resource, length, new - length)
            rows.grow(new)
            rows.others.reserved(length, min(own[0], new))
            rows.others.reserved(max(own[1], length), new)
        return first

    def growth(self, closed: Round) -> tuple[PagedDataset, list[int], int]:
        """Return the dataset of a round, the rows that each rank appends, and the length that it gets."""
        rows = self.file.catalog.paged(closed.resource.path)
        assert rows is not None
        counts = [call.count if isinstance(call, Append) else 0 for call in closed.calls]
        stops = [call.stop for call in closed.calls if isinstance(call, Reserve)]
        return rows, counts, max([rows.length + sum(counts), *stops])

    def deliver(self, resource: Resource, start: int, stop: int) -> list[tuple[int, int]]:
        """Let other ranks read what this one has written to rows; the lock is held.

        Returns which of them it has written, where they have to be told.
        """
        rows = self.file.catalog.paged(resource.path)
        if rows is None or not isinstance(rows.stored, RankDataset):
            return []  # of what the owner has others get the pages
        rows.flush()
        return rows.stored.written_between(start, stop)

    def refresh(self, changed: set[str]) -> None:
        """Note that datasets have been changed by some rank, and the file has it."""
        for rows in self.file.catalog.pages():
            rows.others.seen()
            if rows.path in changed and isinstance(rows.stored, RankDataset):
                rows.drop_pages()
                rows.stored.forget_original()

    # what other ranks ask the owner for

    def serve(self, request: tuple[Any, ...]) -> Any:
        """Do what another rank asks for; the lock is held."""
        what, path, start, content = request
        rows = self.file.catalog.paged(path)
        if rows is None:
            raise NotInFile(f"'{path}' isn't in '{self.file.path}'")
        if rows.dtype.hasobject:
            return self._serve_objects(rows, what, start, content)
        if what == "read":
            return rows.read(start, content)
        if what == "merge":
            assert isinstance(rows, RegionTable)
            return rows.merge(start, content)
        rows.changing()
        if what == "put":
            return rows.update(start, content)
        if what != "write":
            raise H5FlowError(f"unknown request '{what}'")
        return rows.write(start, content)

    def _serve_objects(self, rows: PagedDataset, what: str, start: Any, content: Any) -> Any:
        """Serve, as `serve` does, values that are Python objects, of which references lead to objects of a file."""
        file = rows.stored.handle.file
        if what == "read":
            return object_references.portable(rows.read(start, content), file)

        def reference(found: object_references.Lead) -> Any:
            to = None if found.path is None else self.file.catalog.paged(found.path.decode())
            if to is not None:
                to.stored.fix()
            return object_references.reference(found, file)

        rows.changing()
        values = object_references.mapped(content, object_references.Lead, reference).astype(rows.dtype)
        return rows.update(start, values) if what == "put" else rows.write(start, values)
