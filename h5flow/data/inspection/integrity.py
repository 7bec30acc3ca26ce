"""Whether the references of a file lead somewhere, and whether their region tables say where they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from h5flow.data import layout
from h5flow.data.storage.walk import objects_below

_ROWS = 1 << 18


def unsound(file: h5py.File) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with references of an open file."""
    for path, found in objects_below(file["/"]):
        if isinstance(found, h5py.Dataset) and layout.is_reference(f"/{path}"):
            yield from _of_reference(file, f"/{path}")


def _of_reference(file: h5py.File, path: str) -> Iterator[str]:
    parent, _, child = path[1:].removesuffix("/ref").partition("/ref/")
    what = f"references '{parent}' → '{child}'"
    pairs = file[path]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        yield f"{what}: '{path}' has shape {pairs.shape} and type {pairs.dtype}, not pairs of row numbers"
        return
    for column, name in enumerate((parent, child)):
        dataset = file.get(layout.data_path(name))
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            yield f"{what}: dataset '{name}' isn't there"
            continue
        rows = dataset.shape[0]
        wrong, first = 0, None
        for start in range(0, len(pairs), _ROWS):
            beyond = np.flatnonzero(pairs[start : start + _ROWS, column] >= rows)
            if len(beyond) and first is None:
                first = start + int(beyond[0])
            wrong += len(beyond)
        if wrong:
            yield f"{what}: {wrong:,} of {len(pairs):,} point past the {rows:,} rows of '{name}', first entry {first}"
    # References within one dataset have one table for both columns.
    sides = ((parent, child, 0), (child, parent, 1)) if parent != child else ((parent, child, None),)
    for of, other, side in sides:
        yield from _of_regions(file.get(layout.region_path(of, other)), pairs, side, what, of)


def _of_regions(table: Any, pairs: h5py.Dataset, column: int | None, what: str, of: str) -> Iterator[str]:
    if not isinstance(table, h5py.Dataset) or table.dtype.names != ("start", "stop"):
        yield f"{what}: there is no region table for the rows of '{of}'"
        return
    regions = table[:]
    start, stop = regions["start"].astype("i8"), regions["stop"].astype("i8")
    wrong = np.flatnonzero((start > stop) | (start < 0) | (stop > len(pairs)))
    if len(wrong):
        row = int(wrong[0])
        yield f"{what}: the region of row {row} of '{of}' is {start[row]}:{stop[row]}, there are {len(pairs):,} entries"
        return
    for begin in range(0, len(pairs), _ROWS):
        part = pairs[begin : begin + _ROWS].astype("i8")
        rows = part.ravel() if column is None else part[:, column]
        positions = begin + np.arange(len(part))
        positions = np.repeat(positions, 2) if column is None else positions
        there = rows < len(regions)
        outside = np.flatnonzero(there & ((start[rows * there] > positions) | (stop[rows * there] <= positions)))
        if not there.all():
            row = int(rows[~there][0])
            yield f"{what}: the region table of '{of}' has {len(regions):,} rows, and none for row {row}"
            return
        if len(outside):
            entry = int(positions[outside[0]])
            yield f"{what}: entry {entry} lies outside the region of row {int(rows[outside[0]])} of '{of}'"
            return
