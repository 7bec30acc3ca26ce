"""Datasets as components use them: from several threads, and watched by an observer."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from h5flow.data.casting import Cut
from h5flow.data.observer import Observer
from h5flow.data.pages import PagedDataset
from h5flow.data.reference_tables import PairTable, RegionTable
from h5flow.data.selection import Indices, RowSelection, counts_from_start, rows_of
from h5flow.errors import Gone, RowsOutOfRange

Array = np.ndarray[Any, np.dtype[Any]]

_log = logging.getLogger(__name__)


class Ranks(Protocol):
    """The ranks that append to the datasets together; the lock is held, and let go while waiting for them."""

    def append(self, path: str, count: int) -> int:
        """Append rows that all ranks reserve together; the number of this rank's first."""
        ...

    def reserve(self, path: str, start: int, stop: int) -> None:
        """Have rows up to `stop`, or what other ranks want at least; those from `start` on are for this rank."""
        ...

    def bring(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Have this rank see what others have written by now to rows `start:stop`."""
        ...

    def wait_for(self, table: PagedDataset) -> None:
        """Wait until what is to be done to a table later has been done."""
        ...


class Sharing(Protocol):
    """What all datasets of a file have in common."""

    lock: threading.RLock
    observer: Observer | None

    def same_rows(self, resource: str, other: str) -> None:
        """The rows of a resource are those of another one, and appended with them."""
        ...

    @property
    def ranks(self) -> Ranks | None:
        """The ranks that append together, if there are several."""
        ...


class SharedDataset:
    """The rows of a dataset. All methods may be called from any thread.

    An observer is told of each access, may let it wait, and may hide rows that have been appended. As a
    `lookup`, tables are read to follow references: a region table to find positions in another one, where the observer
    hides what is too new, and pairs at such positions, for which regions have brought what there is of other ranks.
    """

    def __init__(self, rows: PagedDataset, sharing: Sharing, lookup: bool = False) -> None:
        self.rows = rows
        self.name = rows.name
        self.path = rows.path
        self.dtype = rows.dtype
        self.row_shape = rows.row_shape
        self._sharing = sharing
        self._lock = sharing.lock
        self._lookup = lookup and isinstance(rows, RegionTable)
        self._brings = not (lookup and isinstance(rows, PairTable))
        self._rows_of = rows.of.path if isinstance(rows, RegionTable) else rows.path
        if self._rows_of != rows.path:
            sharing.same_rows(rows.path, self._rows_of)

    # how many

    @property
    def length(self) -> int:
        """The number of rows."""
        with self._lock:
            self._check_there()
            observer = self._sharing.observer
            if observer is not None:
                for path in {self.path, self._rows_of}:
                    observer.counted(path)
            return self._visible(observer)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows together; the first number may be outdated when `has` is asked."""
        with self._lock:
            return (self._visible(self._sharing.observer), *self.row_shape)

    def has(self, row: int) -> bool:
        """Whether a row exists."""
        return row < self.shape[0] or row < self.length

    @property
    def hides_rows(self) -> bool:
        """Whether the dataset has rows that the component is not to see; the lock is held."""
        return self._visible(self._sharing.observer) < self.rows.length

    def select(self, selection: Any, beyond: bool = False) -> RowSelection:
        """The rows that a selection names, as `rows_of`."""
        what = f"dataset '{self.name}'"
        if counts_from_start(selection):
            try:
                rows = rows_of(selection, self.shape[0], what, beyond)
            except RowsOutOfRange:
                return rows_of(selection, self.length, what, beyond)
            if not isinstance(selection, slice) or beyond or rows.stop == selection.stop:
                return rows
        return rows_of(selection, self.length, what, beyond)

    def _check_there(self) -> None:
        if self.rows.gone:
            raise Gone(self.rows.gone)
        if self.rows.pending and self._sharing.ranks is not None:
            self._sharing.ranks.wait_for(self.rows)

    def _visible(self, observer: Observer | None) -> int:
        self._check_there()
        if observer is None:
            return self.rows.length
        if isinstance(self.rows, RegionTable):
            of = self.rows.of
            return max(observer.length(of.path, of.length), observer.length(self.path, self.rows.own_length))
        return observer.length(self.path, self.rows.length)

    # reading

    def read(self, start: int, stop: int, wanted: Indices | None = None) -> Array:
        """A fresh array of rows `start:stop`, cut at the end; those that aren't `wanted` may hold anything."""
        brought = self._bring((start, stop) if wanted is None else wanted)
        values = self._read(start, stop)
        if brought:
            self._bring_pairs(values)
        return values

    def _read(self, start: int, stop: int) -> Array:
        rows = self.rows
        with self._lock:
            stop = self._observed(start, stop)
            if not rows.in_file(start, stop):
                return rows.read(start, stop)
            rows.reading()
        try:
            return rows.read_stored(start, stop)
        finally:
            with self._lock:
                rows.has_read()

    def take(self, indices: Indices) -> Array:
        """A fresh array of the given rows: ascending, without repeats; cut at the end."""
        brought = self._bring(indices)
        values = self._take(indices)
        if brought:
            self._bring_pairs(values)
        return values

    def _take(self, indices: Indices) -> Array:
        rows = self.rows
        with self._lock:
            if len(indices):
                stop = self._observed(int(indices[0]), int(indices[-1]) + 1, indices)
                indices = indices[: np.searchsorted(indices, stop)]
            if not len(indices) or not rows.in_file(int(indices[0]), int(indices[-1]) + 1):
                return rows.take(indices)
            rows.reading()
        try:
            return rows.take_stored(indices)
        finally:
            with self._lock:
                rows.has_read()

    def selected(self, selection: Any) -> Array:
        """A fresh array of the rows that a selection names, in its order."""
        if isinstance(selection, slice) and selection.step is None:
            start, stop = selection.start, selection.stop
            if type(start) is int and type(stop) is int and 0 <= start <= stop:
                values = self.read(start, stop)
                if len(values) == stop - start:
                    return values
        rows = self.select(selection)
        if rows.indices is None:
            return self.read(rows.start, rows.stop)
        ascending, where = np.unique(rows.indices, return_inverse=True)
        return self.take(ascending)[where]

    def whole(self) -> None:
        """Note that all of the dataset is going to be read, in another way; the lock is held."""
        self._bring((0, self.rows.length))
        self._check_there()
        observer = self._sharing.observer
        if observer is not None:
            observer.read(self.path, None)

    def _bring(self, rows: tuple[int, int] | Indices) -> bool:
        """See what other ranks have written to `rows`, if they have reserved any of them; says whether they have."""
        ranks = self._sharing.ranks
        if ranks is None or not self._brings:
            return False
        with self._lock:
            if not self.rows.is_of_others(rows):
                return False
            self._check_there()
            start, stop = rows if isinstance(rows, tuple) else (int(rows.min()), int(rows.max()) + 1)
            ranks.bring(self.rows, start, min(stop, self.rows.length))
            return True

    def _bring_pairs(self, regions: Array) -> None:
        """See the references that lie in some regions, if they are regions."""
        ranks, table = self._sharing.ranks, self.rows
        if ranks is None or not isinstance(table, RegionTable):
            return
        some = regions[regions["stop"] > regions["start"]]
        if len(some):
            with self._lock:
                ranks.bring(table.pairs, int(some["start"].min()), int(some["stop"].max()))

    def _observed(self, start: int, stop: int, indices: Indices | None = None) -> int:
        """Tell the observer of a read of rows `start:stop`, or `indices` among these; returns the stop, cut at the end.

        Who wants to know whether rows are missing has to ask for the `length` as well; a look-up always does.
        """
        observer = self._sharing.observer
        visible = self._visible(observer)
        if observer is None:
            return max(start, min(stop, visible))
        if self._lookup and stop > visible:
            observer.counted(self._rows_of)
            visible = self._visible(observer)
        cut = max(start, min(stop, visible))
        if indices is not None and cut < stop:
            indices = indices[: np.searchsorted(indices, cut)]
        if cut > start and (indices is None or len(indices)):
            observer.read(self.path, (start, cut) if indices is None else indices, self._lookup)
        return cut

    # writing

    def append(self, count: int) -> int:
        """Add rows that hold the fill value; returns the number of the first."""
        with self._lock:
            self.before_append()
            if self._sharing.ranks is not None:
                return self._sharing.ranks.append(self.path, count)
            start = self.rows.length
            self.grow(start, start + count)
            return start

    def before_append(self) -> None:
        """Wait until it is this component's turn to append; the lock is held, and not let go before it has."""
        self._check_there()
        observer = self._sharing.observer
        if observer is not None:
            observer.before_append(self.path)

    def grow(self, start: int, length: int) -> None:
        """Have at least `length` rows, after `before_append`; those from `start` on are for this rank."""
        if self._sharing.ranks is not None:
            self._sharing.ranks.reserve(self.path, start, length)
            return
        now, observer = self.rows.length, self._sharing.observer
        if length > self._visible(observer):
            if observer is not None:
                observer.append(self.path, now, max(0, length - now))
            self.rows.grow(length)

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on, which exist; `values` has the dataset's own type."""
        with self._writing(values.nbytes):
            if len(values):
                self.changing((start, start + len(values)))
            self.rows.write(start, values)

    def update(self, indices: Indices, values: Array) -> None:
        """Write to existing rows in any order; of values for the same row the last one stays."""
        with self._writing(0):
            if len(indices):
                self.changing(indices)
            self.rows.update(indices, values)

    @property
    def cut(self) -> Cut | None:
        """Who is to be told that a value loses its fraction, `None` where that has been told."""
        return None if self.rows.told_of_cut else self._tell_of_cut

    def _tell_of_cut(self, field: str, value: Any, cut: Any) -> None:
        self.rows.told_of_cut = True
        what = f"dataset '{self.name}'" + (f", field '{field}'" if field else "")
        _log.warning(
            "%s holds integers: %s is cut to %s, and others may be (this is said once); write rounded values,"
            " as of np.rint, or make it of a type such as 'f8'",
            what,
            value,
            cut,
        )

    @contextlib.contextmanager
    def _writing(self, size: int) -> Iterator[None]:
        """With the lock, which isn't let go between the note that rows are written and their writing."""
        with self._lock:
            self.rows.changing()
            if self.rows.goes_through(size):
                with self.rows.exclusively():
                    yield
            else:
                yield

    def changing(self, rows: tuple[int, int] | Indices | None) -> None:
        """Note that rows are going to be written; the lock is held."""
        # What others have written to them before is older, also where it is on its way.
        self._bring((0, self.rows.length) if rows is None else rows)
        self._check_there()
        observer = self._sharing.observer
        if observer is not None:
            observer.update(self.path, rows)
