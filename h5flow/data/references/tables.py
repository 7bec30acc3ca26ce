"""The tables in which references are stored: pairs of rows, and for each row the region of the pairs that name it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from h5flow.data.buffer.page_cache import Page, PageCache
from h5flow.data.buffer.paged_dataset import PagedDataset

if TYPE_CHECKING:
    from h5flow.data.storage import StoredDataset

Array = np.ndarray[Any, np.dtype[Any]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


class PairTable(PagedDataset):
    """References, of which other ranks append some.

    Who reads them row by row gets those as well. Who follows regions gets others' references for others' rows, with
    the regions of these; other references that lie between, and haven't come yet, lead nowhere.
    """

    @cached_property
    def fill(self) -> Any:
        """Return what a row holds before it is written."""
        return np.iinfo(self.dtype).max if self.cache.others else super().fill

    def _page(self, number: int, overwritten: bool = False) -> Page:
        new = number not in self._pages
        page = super()._page(number, overwritten)
        if new and self.cache.others and page.changed is None:
            page.touch(0, len(page.rows))
        return page


class RegionTable(PagedDataset):
    """A region table, which always has at least as many rows as the dataset it belongs to."""

    def __init__(
        self, path: str, stored: StoredDataset, cache: PageCache, of: PagedDataset, pairs: PagedDataset
    ) -> None:
        super().__init__(path, path, stored, cache)
        self.of = of
        self.pairs = pairs

    @property
    def length(self) -> int:
        """Return the number of rows."""
        return max(self._length, self.of.length)

    @property
    def own_length(self) -> int:
        """Say how many rows the table was made to hold for references, also to rows that don't exist."""
        return self._length

    @property
    def dangling(self) -> bool:
        """Say whether references point past the end of the dataset."""
        return self._length > self.of.length

    def is_of_others(self, rows: tuple[int, int] | Rows) -> bool:
        """Say whether other ranks have reserved any of rows `start, stop` of the dataset, or of the given ones."""
        return self.of.is_of_others(rows)

    def merge(self, first: int, regions: Array) -> None:
        """Widen rows from `first` on to enclose the regions that another rank has found for them as well."""
        given = np.flatnonzero(regions["start"] != regions["stop"])
        if not len(given):
            return
        self.changing()
        rows = first + given
        if rows[-1] >= self.of.length:
            self.grow(int(rows[-1]) + 1)
        for page, which, within in self.touched(rows):
            known, new = page.rows[within], regions[given[which]]
            empty = known["start"] == known["stop"]
            page.rows["start"][within] = np.where(empty, new["start"], np.minimum(known["start"], new["start"]))
            page.rows["stop"][within] = np.where(empty, new["stop"], np.maximum(known["stop"], new["stop"]))

    def _store(self, start: int, values: Array) -> None:
        self.stored.merge(start, values)

    def widen(self, rows: Rows, positions: Rows) -> None:
        """Widen the regions of `rows` to enclose new references at `positions`.

        `positions` ascend and lie behind all earlier references.
        """
        if not len(rows):
            return
        self.changing()
        needed = int(rows.max()) + 1
        if needed > self.of.length:
            self.grow(needed)  # the references survive until their rows exist
        for page, which, within in self.touched(rows):
            start, stop = page.rows["start"], page.rows["stop"]
            at = positions[which]
            empty = start[within] == stop[within]
            # Where a row is named several times, the last assignment stays: backwards for the first position.
            start[within[empty][::-1]] = at[empty][::-1]
            stop[within] = at + 1
