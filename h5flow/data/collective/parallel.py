"""What ranks do together where all of them have the file open, through HDF5 with MPI.

A change of the structure or of the number of rows is made by all ranks at once, and each of them waits in HDF5, with
h5py's lock, until the others are there. So nobody may enter it whom another rank needs to get there: the others
enter it with their own lock, when none of their threads waits for an answer of rank 0, and rank 0 is the last one to
lock, since until then it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from h5flow import mpi
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.collective.calls import ChangeStructure, Publish, made
from h5flow.data.collective.file_member import FileMember
from h5flow.data.collective.single_writer import SingleWriterRanks
from h5flow.data.file.changes import Change, CreateReference
from h5flow.data.file.data_file import DataFile
from h5flow.data.layout import data_path, is_rows
from h5flow.data.references.tables import RegionTable
from h5flow.data.storage import SerialStorage, Storage
from h5flow.data.storage.parallel import ParallelStorage, Together, room
from h5flow.ranks.rounds import Round

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

T = TypeVar("T")


class ParallelMember(FileMember):
    """One of the ranks of a file that all of them have open; `wait` returns when all have come to it."""

    all_open = True

    def __init__(self, file: DataFile, rank: int, wait: Callable[[], None]) -> None:
        super().__init__(file, rank)
        self._wait = wait
        self._storage: ParallelStorage | None = None
        # The datasets that have been made longer, on all ranks alike.
        self._longer: set[str] = set()

    def writes_to(self, storage: ParallelStorage | None) -> None:
        """Say in which storage rows are, `None` when it is closed."""
        self._storage = storage

    def longer(self) -> set[str]:
        """Return the datasets that have been made longer than they need to be since this was asked last."""
        longer, self._longer = self._longer, set()
        return longer

    def concerns_all(self, closed: Round) -> bool:
        """Say whether a round is carried out by all ranks at once, which all of them find alike; the lock is held."""
        calls = made(closed.calls)
        match calls[0]:
            case ChangeStructure():
                return True
            case Publish():
                return any(call.changed or call.too_short for call in calls)
        if closed.resource.kind != "rows":
            return False
        rows, _, length = self.growth(closed)
        return isinstance(rows.stored, Together) and length > rows.stored.length

    def carry_out(self, closed: Round, own: Callable[[], Any] | None) -> Any:
        """Do what the ranks have agreed on, at once."""
        with self._in_step():
            match made(closed.calls)[0]:
                case ChangeStructure() as call:
                    return self._change(closed, call, own)
                case Publish():
                    return self._publish(closed)
            rows, _, length = self.growth(closed)
            self._make_room(rows, length)
            return self.grow(closed)

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Keep all ranks in the block together, each with its lock."""
        if self.rank == 0:
            self._wait()
            with self.file.context.lock:
                yield
        else:
            with self.file.context.lock:
                self._wait()
                yield

    def _change(self, closed: Round, call: ChangeStructure, own: Callable[[], Any] | None) -> Any:
        """Change the structure, as the first rank that asks for it wants to have it."""
        if self.set_what_all_want(closed):
            return None
        if call.pack is None and own is not None:
            return own()
        change: Change = call.change()
        self.file.carry_out(change)
        if isinstance(change, CreateReference):
            for dataset in (change.parent, change.child):
                rows = self.file.catalog.paged(data_path(dataset))
                assert rows is not None
                self._extend_regions(rows)
        return None

    def _make_room(self, rows: PagedDataset, length: int) -> None:
        """Make room in the file for so many rows, and for some more, also in the region tables for them."""
        row_bytes = max(1, rows.dtype.itemsize)
        self._extend(rows, room(length, rows.stored.length, row_bytes))
        if is_rows(rows.path):
            self._extend_regions(rows)

    def _extend_regions(self, rows: PagedDataset) -> None:
        for table in self.file.catalog.regions_of(rows.name):
            self._extend(table, rows.stored.length)

    def _extend(self, rows: PagedDataset, length: int) -> None:
        stored = rows.stored
        if isinstance(stored, Together) and length > stored.length:
            stored.extend(length)
            self._longer.add(rows.path)

    def _publish(self, closed: Round) -> None:
        """Let the file hold what ranks have changed, and make room for what is missing."""
        missing: dict[str, int] = {}
        for call in made(closed.calls):
            missing |= {path: max(length, missing.get(path, 0)) for path, length in call.too_short.items()}
        for path, length in sorted(missing.items()):
            rows = self.file.catalog.paged(path)
            if rows is not None:
                rows.grow(length)
                self._extend(rows, length)
        self.file.flush()
        assert self._storage is not None
        self._storage.flush()
        self._wait()
        self.refresh({path for call in made(closed.calls) for path in call.changed})


class ParallelRanks(SingleWriterRanks):
    """The part that one rank has in a file that all of them have open."""

    all_open = True

    member: ParallelMember

    def __init__(self, comm: Intracomm, file: DataFile) -> None:
        super().__init__(comm, file)
        self._alone = False

    def _member(self) -> ParallelMember:
        return ParallelMember(self.file, self.rank, self.wait)

    # opening and closing

    def opened(self, original: str | None) -> Storage:
        """Open the file on all ranks together."""
        if self._alone:
            return SerialStorage(self.file.path, "r+")
        exists = mpi.on_first_rank(self.comm, lambda: Path(self.file.path).exists())
        self.wait()
        storage = ParallelStorage(self.file.path, "r+" if exists else "w", self.comm, self.coordination.owner, original)
        self.member.writes_to(storage)
        return storage

    def part(self, patience: float) -> bool:
        """Return false: HDF5 closes the file with all ranks, and each of them may have left it elsewhere."""
        return False

    def close(self, close: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """Close the file, on all ranks at once; then the first one cuts off what is too much. Collective.

        It opens the file by itself for that, and for what is to be done `before` the last closing: HDF5 fails when
        ranks together make datasets shorter (MPI_ERR_TRUNCATE in 1.10), and waits with the GIL when they delete.
        """
        self.fence()
        lengths = {path: self._length(path) for path in self.member.longer()}
        self.wait()
        close()
        self.member.writes_to(None)
        self.wait()
        if self.rank == 0:
            self._alone = True
            for path, length in lengths.items():
                self._cut(path, length)
            before()
            close()
            self._alone = False
        self.wait()

    def _length(self, path: str) -> int:
        rows = self.file.catalog.paged(path)
        return 0 if rows is None else rows.length

    def _cut(self, path: str, length: int) -> None:
        rows = self.file.catalog.paged(path)
        if rows is not None:
            rows.stored.resize(length)
            rows.resized()

    # together

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change of the structure that all ranks make by themselves. The lock is held, and let go meanwhile."""
        result: T = self.coordination.join(ChangeStructure.RESOURCE, ChangeStructure("a change by h5py"), change)
        return result

    def _too_short(self) -> dict[str, int]:
        return {
            rows.path: rows.length
            for rows in self.file.catalog.pages()
            if isinstance(rows.stored, Together) and (rows.length > rows.stored.length or _is_dangling(rows))
        }


def _is_dangling(rows: PagedDataset) -> bool:
    return isinstance(rows, RegionTable) and rows.dangling
