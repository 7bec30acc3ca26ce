"""A file that one process writes by itself: what ranks would agree on happens at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.file.changes import Change
from h5flow.data.file.data_file import DataFile
from h5flow.data.file.output_file import OutputFile
from h5flow.data.references.reference import Reference
from h5flow.data.storage import SerialStorage, Storage

if TYPE_CHECKING:
    from h5flow.ranks.member import Components

T = TypeVar("T")


class OneRank:
    """The only rank that uses a file. It is called as if there were others."""

    several = False
    all_open = False
    stopping = False
    waited: ClassVar[Mapping[int, float]] = {}

    def __init__(self, file: DataFile, before_opening: Callable[[], None] = lambda: None) -> None:
        self._file = file
        self._context = file.context
        self._before_opening = before_opening

    # opening and closing

    def opened(self, original: str | None) -> Storage:
        """Open the output when it is there."""
        self._before_opening()
        return self.storage(self._file.path, self._file.files.mode)

    def storage(self, path: str, mode: str) -> Storage:
        """Open a file."""
        return SerialStorage(path, mode)

    def begin(self, output: OutputFile, source: str | None, *, opens: bool) -> None:
        """Begin the output as a copy of a file, or as it is, or empty."""
        output.begin(source)
        output.check()
        self._file.begins_as(output.copied)

    def close(self, close: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """Close the file, after what is to be done `before`."""
        before()
        close()

    def end(self) -> None:
        """Do nothing: there are no others."""

    # rows

    def append(self, rows: PagedDataset, count: int) -> int:
        """Append rows; the number of the first."""
        start, observer = rows.length, self._context.observer
        if count or observer.length(rows.resource, start) < start:
            observer.append(rows.resource, start, count)
            rows.grow(start + count)
        return start

    def append_references(self, reference: Reference, pairs: Any) -> None:
        """Append pairs of row numbers."""
        if len(pairs):
            reference.put(self.append(reference.pairs, len(pairs)), pairs)

    def reserve(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Reserve rows up to `stop` at least."""
        now, observer = rows.length, self._context.observer
        if stop > observer.length(rows.resource, now):
            observer.append(rows.resource, now, max(0, stop - now))
            rows.grow(stop)

    def fetch(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Do nothing: all that has been written is here."""

    def wait_for(self, table: PagedDataset) -> None:
        """Do nothing: what has been asked for is done."""

    # a workflow

    def communicator(self) -> Any:
        """Return `None`: components have nobody to talk to."""
        return None

    def watch(self, names: Sequence[str], warning: float, abort: float | None, *, strict: bool) -> None:
        """Do nothing: nobody waits."""

    def work_for(self, components: Components) -> None:
        """Do nothing: it makes no difference whose calls they are."""

    def listen_for_stop(self, listener: Callable[[], None]) -> None:
        """Do nothing: nobody else is asked."""

    def enter(self, part: int) -> None:
        """Do nothing: nobody waits for it."""

    def ask(self, number: int) -> None:
        """Do nothing: nobody waits for it."""

    def passed(self, number: int, position: int) -> None:
        """Do nothing: nobody waits for it."""

    def fail(self) -> None:
        """Do nothing: nobody waits."""

    def all_done(self, stopping: bool = False) -> bool:
        """Say whether there are no more slices: there are none, where this rank says so."""
        return True

    def fence(self) -> None:
        """Do nothing: what has been written is seen."""

    # changes of the structure

    def commit(self, change: Change) -> None:
        """Make a change."""
        self._file.carry_out(change)

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change; returns what it does."""
        return change()
