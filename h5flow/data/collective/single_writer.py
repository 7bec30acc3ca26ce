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
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from h5flow import mpi
from h5flow.data.access.observer import Observer
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.collective.agreement import Difference, agreed
from h5flow.data.layout import lies_in
from h5flow.data.references.tables import RegionTable
from h5flow.data.storage import SerialStorage, Storage, object_references
from h5flow.data.storage.remote import RankDataset, RemoteStorage
from h5flow.errors import DataMismatch, H5FlowError, NotInFile
from h5flow.ranks.communicators import duplicates
from h5flow.ranks.coordination import Coordination, packed, unpacked
from h5flow.ranks.leaving import is_waited_for, parties
from h5flow.ranks.member import Components, Late, NoComponents
from h5flow.ranks.rounds import Round
from h5flow.ranks.stall_watch import StallWatch

if TYPE_CHECKING:
    import threading

    from mpi4py.MPI import Intracomm

T = TypeVar("T")

#: Resources of rounds that are no datasets.
STRUCTURE = "the structure of the file"
COMMUNICATOR = "a communicator of a component's own"
FENCE = "what all ranks have written"
_LOOP = "the end of the loop"
_STOP = "the end that was asked for"

#: The group in which a job is recorded, each rank as it sees it.
_RECORD = "h5flow"
_SAME_FOR_ALL = "give all ranks the same value, as of self.comm.allreduce(count) in finish"

_log = logging.getLogger(__name__)


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

    def regions_of(self, name: str) -> list[RegionTable]:
        """The region tables that have as many rows as a dataset."""
        ...

    def set_attributes(self, path: str, attributes: dict[str, Any], carried_out: bool = False) -> None:
        """Set attributes of a group."""
        ...

    def flush(self) -> None:
        """Bring the file up to date."""
        ...

    def let_go(self, *, save: bool) -> None:
        """Close the file after a failure, which is on its way already."""
        ...


class Ranks:
    """The part that one rank has in a file, which rank 0 writes for all of them."""

    #: Whether all ranks have the file open, and change it together.
    all_open = False

    def __init__(self, comm: Intracomm, file: RankedFile) -> None:
        self.file = file
        self.comm = comm.Dup()
        self.components: Components = NoComponents()
        self._stalls = StallWatch()
        self._duplicates = duplicates(comm)
        self._taken: list[Intracomm] = []
        self._original: str | None = None
        self.failed = False
        parties.append(self)
        #: Whether it is an error that ranks set an attribute to different values.
        self.strict = False
        self._told: set[tuple[str, str]] = set()
        #: Whether a rank has been asked to stop in time for all of them to know before the loop is over.
        self.stopping = False
        self._on_stop: list[Callable[[], None]] = []
        self.coordination = Coordination(comm.Dup(), file.turn, self)
        self.rank, self.size = self.coordination.rank, self.coordination.size

    def work_for(self, components: Components) -> None:
        """Have calls belong to the components that are at work from now on."""
        self.components = components

    def listen_for_stop(self, listener: Callable[[], None]) -> None:
        """Have a function called when any rank has been asked to stop."""
        self._on_stop.append(listener)

    def watch_stalls(self, names: Sequence[str], warning: float, abort: float | None) -> None:
        """Log what ranks have been waiting for so long (seconds), and end all of them after `abort`."""
        self._stalls = StallWatch(names, warning, abort)

    def stalled(self, seconds: float, late: Late) -> None:
        """Take note how long the same ranks have been waited for."""
        self._stalls.note(seconds, late)

    # opening and closing

    def opened(self, original: str | None) -> Storage:
        """The file, opened on all ranks together."""
        if self.rank:
            self._original = original
            storage = self.storage(self.file.path, "a")
            self.wait()
            return storage
        self.wait()
        return self.storage(self.file.path, "a")

    def storage(self, path: str, mode: str) -> Storage:
        """A file of this rank."""
        if self.rank == 0:
            return SerialStorage(path, mode)
        original, self._original = self._original, None
        likeness = path if path == self.file.path and Path(path).exists() else None
        return RemoteStorage(path, self.coordination.owner, likeness, original)

    def wait(self) -> None:
        """Wait until all ranks are here, without burning a core."""
        request, pause = self.comm.Ibarrier(), 50e-6
        while not request.Test():
            time.sleep(pause)
            pause = min(1e-3, 2 * pause)

    def close(self, close: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """Have the owner `close` the file when it has got everything, and then the others theirs. Collective.

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
        """This rank has failed. If it doesn't part from the others, they end when its process does."""
        self.failed = True
        mpi.end_all_at_exit(is_waited_for)

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
        """Nothing is done together any more. Collective."""
        parties.remove(self)
        self.coordination.close()
        self.comm.Free()
        self._duplicates.give_back(self._taken)
        self._taken = []

    def communicator(self) -> Intracomm:
        """One that is its taker's own until the `end`. Collective."""
        with self.file.lock:
            # MPI's own waiting can't be broken off when a rank doesn't come, as it has failed.
            self.coordination.join(COMMUNICATOR, True)
        self._taken.append(self._duplicates.take())
        return self._taken[-1]

    # together

    def structure(self, change: Callable[..., None], *arguments: Any) -> None:
        """Make a change of the structure, on all ranks. The lock is held, and let go meanwhile."""
        call = (change.__name__, packed(arguments))
        self.coordination.join(STRUCTURE, call, functools.partial(change, *arguments))

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change of the structure that all ranks make by themselves. The lock is held."""
        return change()

    def append(self, path: str, count: int) -> int:
        """Append rows that all ranks reserve together, in the order of ranks; the number of this rank's first."""
        first: int = self.coordination.join(path, count)
        return first

    def append_later(self, tables: Sequence[PagedDataset], count: int, then: Callable[[int], None]) -> None:
        """As `append` to the first of some tables; `then`, which changes all of them, is called when it is done."""

        def placed(first: int) -> None:
            for table in tables:
                table.pending.remove(key)
            then(first)

        key = self.coordination.join_later(tables[0].path, count, placed)
        for table in tables:
            table.pending.append(key)

    def wait_for(self, table: PagedDataset) -> None:
        """Wait until what is to be done to a table later has been done; the lock is held, and let go meanwhile."""
        self.coordination.wait_for(list(table.pending))

    def reserve(self, path: str, start: int, stop: int) -> None:
        """Have rows up to `stop`, or what other ranks want at least; those from `start` on are for this rank."""
        self.coordination.join(path, (start, stop))

    def bring(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Have this rank see what others have written by now to rows `start:stop`; the lock is held, and let go."""
        written = self.coordination.collect(rows.path, rows.path, start, stop)
        stored = rows.stored
        if isinstance(stored, RankDataset):
            stored.others_have_written(stop, [part for parts in written for part in parts])
            rows.renew()

    def all_done(self, stopping: bool = False) -> bool:
        """Whether all ranks have no more slices, or shall stop; asked when this one hasn't, or shall."""
        with self.file.lock:
            if stopping:
                return bool(self.coordination.join_unasked(_STOP, True))
            return bool(self.coordination.join_undecided(_LOOP, True))

    def fence(self) -> None:
        """Have everything that any rank has written up to now be seen by all of them."""
        with self.file.lock:
            self.coordination.wait_for_all()
            self.file.flush()
            changed = [rows for rows in self.file.pages() if rows.changed]
            for rows in changed:
                rows.changed = False
            self.coordination.join(FENCE, ([rows.path for rows in changed], self._missing_room()))

    def _missing_room(self) -> dict[str, int]:
        """The datasets for which the file has too few rows, and how many they need."""
        return {}

    # carried out

    def apply(self, closed: Round, own: Callable[[], None] | None) -> Any:
        """Do what the ranks have agreed on; the lock is held."""
        calls = closed.calls
        if closed.resource == STRUCTURE:
            if self.set_what_all_want(closed):
                return None
            if own is not None:
                return own()
            name, arguments = next(call for call in calls if call is not None)
            return getattr(self.file, name)(*unpacked(arguments, name))
        if closed.resource == COMMUNICATOR:
            return None
        if closed.resource == _LOOP:
            return None not in calls
        if closed.resource == _STOP:
            self.stopping = True
            for listener in self._on_stop:
                listener()
            return None not in calls
        if closed.resource == FENCE:
            self.refresh({path for changed, _ in calls for path in changed})
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
        calls = {rank: call for rank, call in enumerate(closed.calls) if call is not None}
        packs = {rank: pack for rank, (name, pack) in calls.items() if name == "set_attributes" and pack is not None}
        if len(packs) < len(calls) or len(set(packs.values())) < 2:
            return False
        wishes = {rank: unpacked(pack, "set_attrs")[:2] for rank, pack in packs.items()}
        if any(lies_in(path, (_RECORD,)) for path, _ in wishes.values()):
            return False
        merged, differences = agreed(wishes)
        for difference in differences:
            self._tell(difference, taking_part=self.rank in wishes)
        if differences and self.strict:
            return True
        for path, attributes in merged.items():
            self.file.set_attributes(path, attributes, True)
        return True

    def _tell(self, difference: Difference, *, taking_part: bool) -> None:
        if self.strict:
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
        own = call if isinstance(call, tuple) else (first, first + counts[self.rank])
        if new > length:
            observer = self.file.observer
            if observer is not None:
                observer.append(closed.resource, length, new - length)
            rows.grow(new)
            rows.of_others.add(length, min(own[0], new))
            rows.of_others.add(max(own[1], length), new)
        return first

    def growth(self, closed: Round) -> tuple[PagedDataset, list[int], int]:
        """The dataset of a round, the rows that each rank appends, and the length that it gets."""
        rows = self.file.paged(closed.resource)
        assert rows is not None
        counts = [0 if call is None or isinstance(call, tuple) else int(call) for call in closed.calls]
        stops = [call[1] for call in closed.calls if isinstance(call, tuple)]
        return rows, counts, max([rows.length + sum(counts), *stops])

    def deliver(self, request: tuple[Any, ...]) -> list[tuple[int, int]]:
        """Have other ranks be able to read what this one has written to rows; the lock is held.

        Returns which of them it has written, where they have to be told.
        """
        path, start, stop = request
        rows = self.file.paged(path)
        if rows is None or not isinstance(rows.stored, RankDataset):
            return []  # of what the owner has others get the pages
        rows.flush()
        return rows.stored.written_between(start, stop)

    def refresh(self, changed: set[str]) -> None:
        """Datasets have been changed by some rank, and the file has it."""
        for rows in self.file.pages():
            rows.of_others.clear()
            if rows.path in changed and isinstance(rows.stored, RankDataset):
                rows.drop_pages()
                rows.stored.forget_original()

    # what other ranks ask the owner for

    def serve(self, request: tuple[Any, ...]) -> Any:
        """Do what another rank asks for; the lock is held."""
        what, path, start, content = request
        rows = self.file.paged(path)
        if rows is None:
            raise NotInFile(f"'{path}' isn't in '{self.file.path}'")
        if rows.dtype.hasobject:
            return self._serve_objects(rows, what, start, content)
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

    def _serve_objects(self, rows: PagedDataset, what: str, start: Any, content: Any) -> Any:
        """As `serve`, for values that are Python objects, of which references lead to objects of a file."""
        file = rows.stored.handle.file
        if what == "read":
            return object_references.portable(rows.read(start, content), file)

        def reference(found: object_references.Lead) -> Any:
            to = None if found.path is None else self.file.paged(found.path.decode())
            if to is not None:
                to.stored.fix()
            return object_references.reference(found, file)

        values = object_references.mapped(content, object_references.Lead, reference).astype(rows.dtype)
        return rows.update(start, values) if what == "put" else rows.write(start, values)
