"""Datasets as components use them: from several threads, and watched by an observer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from h5flow.data.access.file_context import FileContext
from h5flow.data.access.observer import Observer
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.references.tables import PairTable, RegionTable
from h5flow.data.rows.casting import Cut
from h5flow.data.rows.selection import Indices, RowSelection, counts_from_start, rows_of
from h5flow.errors import Gone, RowsOutOfRange

Array = np.ndarray[Any, np.dtype[Any]]

_log = logging.getLogger(__name__)


class ObservedDataset:
    """The rows of a dataset. All methods may be called from any thread.

    An observer is told of each access, may let it wait, and may hide rows that have been appended. As a
    `lookup`, tables are read to follow references: a region table to find positions in another one, where the observer
    hides what is too new, and pairs at such positions, for which regions have fetched what there is of other ranks.
    The class has a method for each way in which rows are used, since each takes the lock and tells the observer.
    """

    def __init__(self, rows: PagedDataset, context: FileContext, lookup: bool = False) -> None:
        self.rows = rows
        self.name = rows.name
        self.path = rows.path
        self.dtype = rows.dtype
        self.row_shape = rows.row_shape
        self._context = context
        self._lock = context.lock
        self._lookup = lookup and isinstance(rows, RegionTable)
        self._fetches = not (lookup and isinstance(rows, PairTable))
        self._resource = rows.resource
        self._rows_of = rows.of.resource if isinstance(rows, RegionTable) else rows.resource
        if self._rows_of != rows.resource:
            context.watching.same_rows(rows.resource, self._rows_of)

    # the object of HDF5

    @property
    def id(self) -> h5py.h5d.DatasetID:
        """Return what h5py works on, which is another object as soon as the dataset gets longer chunks."""
        return self.rows.stored.handle.id

    def stay(self) -> None:
        """Keep the dataset the same object of HDF5, since somebody may keep what leads to it."""
        with self._lock:
            self.rows.stored.fix()

    @property
    def is_elsewhere(self) -> bool:
        """Say whether the rows are with another rank, so that h5py can't do anything with them here."""
        return self.rows.stored.shared

    @property
    def gone(self) -> str:
        """Say why the dataset can't be used any more; empty while it can."""
        return self.rows.gone

    # how many

    def count_rows(self) -> int:
        """Return the number of rows, and note that somebody wants to know it; may wait for other components."""
        with self._lock:
            self._check_there()
            observer = self._context.observer
            for resource in {self._resource, self._rows_of}:
                observer.counted(resource)
            return self._visible(observer)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of all rows together; the first number may be outdated when `has` is asked."""
        with self._lock:
            return (self._visible(self._context.observer), *self.row_shape)

    def has(self, row: int) -> bool:
        """Say whether a row exists."""
        return row < self.shape[0] or row < self.count_rows()

    @property
    def hides_rows(self) -> bool:
        """Say whether the dataset has rows that the component is not to see; the lock is held."""
        return self._visible(self._context.observer) < self.rows.length

    def select(self, selection: Any, beyond: bool = False) -> RowSelection:
        """Find the rows that a selection names, as `rows_of`."""
        what = f"dataset '{self.name}'"
        if counts_from_start(selection):
            try:
                rows = rows_of(selection, self.shape[0], what, beyond)
            except RowsOutOfRange:
                return rows_of(selection, self.count_rows(), what, beyond)
            if not isinstance(selection, slice) or beyond or rows.stop == selection.stop:
                return rows
        return rows_of(selection, self.count_rows(), what, beyond)

    def _check_there(self) -> None:
        if self.rows.gone:
            raise Gone(self.rows.gone)
        if self.rows.others.pending:
            self._context.ranks.wait_for(self.rows)

    def _visible(self, observer: Observer) -> int:
        self._check_there()
        if isinstance(self.rows, RegionTable):
            of = self.rows.of
            return max(observer.length(of.resource, of.length), observer.length(self._resource, self.rows.own_length))
        return observer.length(self._resource, self.rows.length)

    # reading

    def read(self, start: int, stop: int, wanted: Indices | None = None) -> Array:
        """Read rows `start:stop` into a fresh array, cut at the end; those that aren't `wanted` may hold anything."""
        fetched = self._fetch((start, stop) if wanted is None else wanted)
        values = self._read(start, stop)
        if fetched:
            self._fetch_pairs(values)
        return values

    def _read(self, start: int, stop: int) -> Array:
        rows = self.rows
        with self._lock:
            stop = self._observed(start, stop)
            if not rows.is_in_file(start, stop):
                return rows.read(start, stop)
            rows.in_file.reading()
        try:
            return rows.in_file.read(start, stop)
        finally:
            with self._lock:
                rows.in_file.has_read()

    def take(self, indices: Indices) -> Array:
        """Read the given rows into a fresh array: ascending, without repeats; cut at the end."""
        fetched = self._fetch(indices)
        values = self._take(indices)
        if fetched:
            self._fetch_pairs(values)
        return values

    def _take(self, indices: Indices) -> Array:
        rows = self.rows
        with self._lock:
            if len(indices):
                stop = self._observed(int(indices[0]), int(indices[-1]) + 1, indices)
                indices = indices[: np.searchsorted(indices, stop)]
            if not len(indices) or not rows.is_in_file(int(indices[0]), int(indices[-1]) + 1):
                return rows.take(indices)
            rows.in_file.reading()
        try:
            return rows.in_file.take(indices)
        finally:
            with self._lock:
                rows.in_file.has_read()

    def selected(self, selection: Any) -> Array:
        """Read the rows that a selection names into a fresh array, in its order."""
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
        self._fetch((0, self.rows.length))
        self._check_there()
        self._context.observer.read(self._resource, None)

    def _fetch(self, rows: tuple[int, int] | Indices) -> bool:
        """See what other ranks have written to `rows`, if they have reserved any of them; says whether they have."""
        if not self._fetches or not self._context.ranks.several:
            return False
        with self._lock:
            if not self.rows.is_of_others(rows):
                return False
            self._check_there()
            start, stop = rows if isinstance(rows, tuple) else (int(rows.min()), int(rows.max()) + 1)
            self._context.ranks.fetch(self.rows, start, min(stop, self.rows.length))
            return True

    def _fetch_pairs(self, regions: Array) -> None:
        """See the references that lie in some regions, if they are regions."""
        table = self.rows
        if not isinstance(table, RegionTable):
            return
        some = regions[regions["stop"] > regions["start"]]
        if len(some):
            with self._lock:
                self._context.ranks.fetch(table.pairs, int(some["start"].min()), int(some["stop"].max()))

    def _observed(self, start: int, stop: int, indices: Indices | None = None) -> int:
        """Tell the observer of a read of rows `start:stop`, or `indices` among these; returns the stop, cut at the end.

        Who wants to know whether rows are missing has to `count_rows` as well; a look-up always does.
        """
        observer = self._context.observer
        visible = self._visible(observer)
        if self._lookup and stop > visible:
            observer.counted(self._rows_of)
            visible = self._visible(observer)
        cut = max(start, min(stop, visible))
        if indices is not None and cut < stop:
            indices = indices[: np.searchsorted(indices, cut)]
        if cut > start and (indices is None or len(indices)):
            observer.read(self._resource, (start, cut) if indices is None else indices, self._lookup)
        return cut

    # writing

    def append(self, count: int) -> int:
        """Add rows that hold the fill value; returns the number of the first."""
        with self._lock:
            self.before_append()
            return self._context.ranks.append(self.rows, count)

    def before_append(self) -> None:
        """Wait until it is this component's turn to append; the lock is held, and not let go before it has."""
        self._check_there()
        self._context.observer.before_append(self._resource)

    def grow(self, start: int, length: int) -> None:
        """Make room for at least `length` rows, after `before_append`; those from `start` on are for this rank."""
        self._context.ranks.reserve(self.rows, start, length)

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
        """Return who is to be told that a value loses its fraction, `None` where that has been told."""
        return None if self.rows.told_of_cut else self._tell_of_cut

    def _tell_of_cut(self, field: str, value: Any, cut: Any) -> None:
        if not self.rows.tell_of_cut():
            return
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
        """Hold the lock in the block, in which rows are written, and note first that they are."""
        with self._lock:
            self.rows.changing()
            if self.rows.goes_through(size):
                with self.rows.in_file.exclusively():
                    yield
            else:
                yield

    def changing(self, rows: tuple[int, int] | Indices | None) -> None:
        """Note that rows are going to be written; the lock is held."""
        # What others have written to them before is older, also where it is on its way.
        self._fetch((0, self.rows.length) if rows is None else rows)
        self._check_there()
        self._context.observer.update(self._resource, rows)
