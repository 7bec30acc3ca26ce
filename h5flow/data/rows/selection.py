"""Which rows a selection names: a row number, a slice, row numbers in any order, or a mask."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from h5flow.errors import DataMismatch, RowsOutOfRange

Indices = np.ndarray[Any, np.dtype[np.int64]]


class RowSelection(msgspec.Struct, frozen=True):
    """Rows `start:stop`, or where `indices` is given those rows in their order."""

    start: int
    stop: int
    indices: Indices | None = None

    def __len__(self) -> int:
        return self.stop - self.start if self.indices is None else len(self.indices)

    def as_indices(self) -> Indices:
        """Return all rows by number."""
        return np.arange(self.start, self.stop) if self.indices is None else self.indices


def rows_of(selection: Any, length: int, what: str = "dataset", beyond: bool = False) -> RowSelection:
    """Find the rows that `selection` names of `length` rows; negative and open ones count as in numpy.

    A slice is cut at the end, or with `beyond` goes on past it as far as it says. Raises `RowsOutOfRange` for
    row numbers that don't exist, `DataMismatch` for what selects no rows.
    """
    if isinstance(selection, slice):
        return _of_slice(selection, length, beyond)
    if isinstance(selection, bool | np.bool_):
        raise DataMismatch(f"{what}: rows can't be selected with {selection!r}")
    rows = np.atleast_1d(np.asarray(selection))
    if rows.dtype == bool:
        if rows.shape != (length,):
            raise DataMismatch(f"{what}: a mask of shape {rows.shape} can't select from {length} rows")
        return RowSelection(0, 0, np.flatnonzero(rows))
    if rows.size == 0 and rows.ndim == 1:
        return RowSelection(0, 0)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise DataMismatch(f"{what}: rows can't be selected with type {rows.dtype}, shape {rows.shape}")
    rows = rows.astype(np.int64, copy=False)
    if rows.min() < -length or rows.max() >= length:
        wrong = rows[(rows < -length) | (rows >= length)]
        more = ", …" if len(wrong) > 5 else ""
        raise RowsOutOfRange(f"{what} has {length} rows, not {', '.join(map(str, wrong[:5]))}{more}")
    if rows.min() < 0:
        rows = np.where(rows < 0, rows + length, rows)
    return RowSelection(int(rows[0]), int(rows[0]) + 1) if len(rows) == 1 else RowSelection(0, 0, rows)


def counts_from_start(selection: Any) -> bool:
    """Say whether a selection means the same rows however many there are, if it has them."""
    if isinstance(selection, slice):
        bounds = (selection.start or 0, -1 if selection.stop is None else selection.stop)
        return all(bound >= 0 for bound in bounds) and selection.step in (None, 1)
    if isinstance(selection, bool | np.bool_):
        return False
    rows = np.asarray(selection)
    return rows.dtype.kind in "iu" and bool(rows.size) and bool(rows.min() >= 0)


def writable_bounds(rows: slice, length: int) -> tuple[int, int]:
    """Start and stop of a slice of rows that are to be written; the stop isn't cut at `length`."""
    start = 0 if rows.start is None else rows.start
    stop = length if rows.stop is None else rows.stop
    start = max(0, start + length) if start < 0 else start
    stop = max(0, stop + length) if stop < 0 else stop
    return int(start), int(max(start, stop))


def needed_rows(name: str, spec: Any, length: int) -> tuple[int, int]:
    """Return the first row of `spec`, and how many rows a dataset of `length` rows must have to hold it.

    Slices are read as numpy reads them, one without a stop ends at the end; what selects nothing needs nothing.
    """
    if isinstance(spec, slice):
        if spec.step == 0:
            raise DataMismatch(f"dataset '{name}': rows can't be reserved in steps of 0")
        if spec.step is not None and spec.step < 0:
            last = length if spec.start is None else max(length, spec.start + 1)
            rows = range(*spec.indices(last))
            return (rows[-1], max(length, rows[0] + 1)) if rows else (length, length)
        start, stop = writable_bounds(spec, length)
        return (start, max(length, stop)) if start < stop else (length, length)
    if isinstance(spec, list | tuple) and any(isinstance(item, slice) for item in spec):
        firsts, lengths = zip(*(needed_rows(name, item, length) for item in spec), strict=True)
        return min(firsts), max(lengths)
    numbers = np.asarray(spec)
    if numbers.dtype == bool or not (numbers.size == 0 or np.issubdtype(numbers.dtype, np.integer)):
        raise DataMismatch(f"dataset '{name}': rows are reserved by number, slice or row numbers, not by {spec!r}")
    if numbers.size and numbers.min() < 0:
        raise RowsOutOfRange(f"dataset '{name}': can't reserve row {numbers.min()}")
    return (int(numbers.min()), max(length, int(numbers.max()) + 1)) if numbers.size else (length, length)


def _of_slice(selection: slice, length: int, beyond: bool) -> RowSelection:
    if beyond and selection.stop is not None and selection.stop > length and (selection.start or 0) >= 0:
        length = int(selection.stop)
    start, stop, step = selection.indices(length)
    if step == 1:
        return RowSelection(start, max(start, stop))
    return RowSelection(0, 0, np.arange(start, stop, step))
