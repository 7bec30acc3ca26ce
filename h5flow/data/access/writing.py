"""Rows and references as components give them, written to a dataset."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from h5flow.data.access.file_context import FileContext
from h5flow.data.access.h5py_objects import BufferedDataset
from h5flow.data.access.observed_dataset import ObservedDataset
from h5flow.data.access.used_file import UsedFile
from h5flow.data.references.reference import Reference
from h5flow.data.rows.casting import Unfit, as_values, check_fields, fit, mismatch
from h5flow.errors import DataMismatch, FileError

Array = np.ndarray[Any, np.dtype[Any]]


def write_rows(
    dataset: ObservedDataset, file: UsedFile, start: int, count: int, indices: Array | None, data: Any
) -> None:
    """Write `count` rows from `start` on, or those of the numbers `indices`; `data` is broadcast to them.

    Raises `DataMismatch` for data of another shape or with other fields, and for values that the type can't hold.
    """
    shape = (count, *dataset.row_shape)
    rows = f"{start}:{start + count}" if indices is None else f"[{count} row numbers]"
    chosen = slice(start, start + count) if indices is None else indices
    try:
        if not dataset.rows.buffered:
            if isinstance(data, np.ndarray) and dataset.dtype.names is not None:
                check_fields(data.dtype, dataset.dtype)
            _write_with_h5py(dataset, file, chosen, data)
            return
        values = as_values(data, dataset.dtype)
        fitted = fit(values, dataset.dtype, shape, dataset.cut)
    except Unfit as error:
        raise DataMismatch(f"dataset '{dataset.name}', rows {rows}: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise mismatch(dataset.name, rows, np.asarray(data), dataset.dtype, shape) from error
    if not count:
        return
    if fitted is not None:
        if indices is None:
            dataset.write(start, fitted)
        else:
            dataset.update(indices, fitted)
        return
    try:
        np.broadcast_to(np.empty(values.shape, "V1"), shape)
        _write_with_h5py(dataset, file, chosen, values)
    except (ValueError, TypeError) as error:
        raise mismatch(dataset.name, rows, values, dataset.dtype, shape) from error


def _write_with_h5py(dataset: ObservedDataset, file: UsedFile, rows: slice | Array, data: Any) -> None:
    handle = BufferedDataset(dataset, file)
    if isinstance(rows, slice):
        handle[rows] = data
        return
    ascending, last = np.unique(rows[::-1], return_index=True)
    values = np.broadcast_to(np.asarray(data), (len(rows), *np.shape(data)[1:]))
    handle[ascending] = values[::-1][last]


def append_references(context: FileContext, reference: Reference, pairs: Array) -> None:
    """Append pairs of row numbers, column 0 the parent's, in the order of ranks. Collective; the lock is held."""
    for table in (reference.pairs, *reference.regions):
        table.changing()
    reference.check_room(len(pairs))
    observer = context.observer
    if len(pairs):
        for column, region in enumerate(reference.regions):
            observer.update(region.resource, pairs[:, column], in_order=True)
            needed = int(pairs[:, column].max()) + 1
            if needed > region.length:
                observer.before_append(region.resource)
                observer.append(region.resource, region.own_length, needed - region.own_length)
    if len(pairs) or context.ranks.several:  # with other ranks, who has none takes part as well
        observer.before_append(reference.pairs.resource)
    context.ranks.append_references(reference, pairs)


def checked_row_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return the shape of a row, which may be given as a number. Raises `DataMismatch`."""
    try:
        lengths = tuple(operator.index(length) for length in (shape if np.ndim(shape) else (shape,)))
    except TypeError:
        lengths = (-1,)
    if any(length < 0 for length in lengths):
        raise DataMismatch(f"dataset '{name}': the shape of a row is a number or numbers, from 0 on, not {shape!r}")
    return lengths


def check_growable(dataset: ObservedDataset, more: int) -> None:
    """Raise an error if a dataset can't get so many rows more."""
    stored = dataset.rows.stored
    if more > 0 and stored.elsewhere:
        raise FileError(f"{stored.elsewhere}, where it can't grow; write to a dataset of the run's own")
    if more > 0 and not stored.growable:
        now = dataset.rows.length
        raise DataMismatch(f"dataset '{dataset.name}' has a fixed size of {now} rows and can't grow to {now + more}")
