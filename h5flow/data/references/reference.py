"""References between two datasets: the pairs of rows, and the region tables that find them again."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from h5flow.data import layout
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.references.tables import RegionTable
from h5flow.errors import InvalidReference

Array = np.ndarray[Any, np.dtype[Any]]

# References that are looked through at a time.
_PORTION = 1 << 20

_MOST_ROWS = np.iinfo(layout.ref_dtype).max
_MOST_REFERENCES = np.iinfo(layout.ref_region_dtype["stop"]).max


class Reference:
    """References between rows of `parent`, the side that created them, and rows of `child`."""

    def __init__(self, parent: str, child: str, pairs: PagedDataset, regions: tuple[RegionTable, RegionTable]) -> None:
        self.parent = parent
        self.child = child
        self.pairs = pairs
        self.regions = regions

    def direction(self, start: str) -> tuple[int, int]:
        """Return the columns of row and related row when walking from dataset `start`."""
        return (0, 1) if start == self.parent else (1, 0)

    def complete(self) -> None:
        """Widen the regions of both sides until they enclose the references of rows for which the file has none.

        Files that others have written may lack region tables, or have them shorter than the datasets.
        """
        if all(table.stored.length >= table.of.found for table in self.regions) or not self.pairs.length:
            return
        beyond = tuple(table.stored.length for table in self.regions)
        for first in range(0, self.pairs.length, _PORTION):
            pairs = self.pairs.read(first, min(first + _PORTION, self.pairs.length)).astype(np.int64)
            self._widen(first, pairs, beyond)

    def _widen(self, first: int, pairs: Array, beyond: tuple[int, ...] = (0, 0)) -> None:
        """Widen the regions to enclose pairs from a position on, those of rows `beyond` a number for either side."""
        positions = np.arange(first, first + len(pairs))
        sides: list[tuple[RegionTable, Array, Array]]
        if self.regions[0] is self.regions[1]:
            # References within one dataset: a row's region encloses those in which it stands on either side.
            sides = [(self.regions[0], pairs.ravel(), np.repeat(positions, 2))]
        else:
            sides = [(table, pairs[:, column], positions) for column, table in enumerate(self.regions)]
        for (table, rows, where), least in zip(sides, beyond, strict=False):
            if least:
                there = rows >= least
                rows, where = rows[there], where[there]
            table.widen(rows, where)

    def append(self, pairs: Array) -> None:
        """Add pairs, column 0 the parent's rows, and have the regions of both sides enclose them."""
        first = self.pairs.length
        self.check_room(len(pairs))
        self.pairs.grow(first + len(pairs))
        self.put(first, pairs)

    def check_room(self, count: int) -> None:
        """Raise `InvalidReference` if there can't be so many more."""
        there = self.pairs.length
        if there + count > _MOST_REFERENCES:
            raise InvalidReference(
                f"references '{self.parent}' → '{self.child}' would become {there + count:,},"
                f" region tables can count {_MOST_REFERENCES:,}"
            )

    def put(self, first: int, pairs: Array) -> None:
        """Write pairs from a row on which there is room for, and have the regions of both sides enclose them."""
        self.pairs.changing()
        self.pairs.write(first, pairs.astype(layout.ref_dtype))
        self._widen(first, pairs)


def checked_pairs(refs: object, parent: str, child: str) -> Array:
    """Return `refs` as an int64 array (K, 2). A row with a masked entry is no reference.

    Raises `InvalidReference` for anything that isn't pairs of row numbers, before a file is touched.
    """
    what = f"references '{parent}' → '{child}'"
    pairs = refs[()] if isinstance(refs, h5py.Dataset) else refs
    if type(pairs) is not np.ndarray and isinstance(pairs, np.ma.MaskedArray):
        keep = ~np.ma.getmaskarray(pairs).any(axis=tuple(range(1, pairs.ndim)))
        pairs = pairs.data[keep]
    array = np.asarray(pairs)
    if array.size == 0 and array.ndim <= 2:
        return np.empty((0, 2), np.int64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise InvalidReference(f"{what}: expected pairs, an array of shape (K, 2), got shape {array.shape}")
    if array.dtype.kind not in "iuf":
        raise InvalidReference(f"{what}: row numbers are integers, got type {array.dtype}")
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())
    if not (whole and array.min() >= 0 and array.max() <= _MOST_ROWS):
        wrong = (array < 0) | (array > _MOST_ROWS) | (array != np.floor(array))
        first = int(np.flatnonzero(wrong.any(axis=1))[0])
        raise InvalidReference(
            f"{what}: entry {first} is {array[first].tolist()}, row numbers are integers from 0 to {_MOST_ROWS}"
        )
    return array.astype(np.int64, copy=False)
