"""The write buffer: a dataset overlaid with pages of rows that are in memory.

Extending a dataset and writing eight rows costs HDF5 as much as writing a thousand. So rows are written to
pages, a page being a whole number of chunks, and pages go to the file when they are many. Until then
they answer reads: what a stage has just written is read back from memory. A page that is older than
the budget allows is written and forgotten, so memory doesn't grow with the run.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from h5flow.data.dereference import take_by_pieces
from h5flow.data.storage import StoredDataset

Array = np.ndarray[Any, np.dtype[Any]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

_PAGE_BYTES = 256 * 1024
# From here on a write goes to the file at once: it is chunk-sized already.
_DIRECT_BYTES = 4 << 20

#: What the pages of one data manager may hold before the oldest are written and dropped.
DEFAULT_BUDGET = 48 << 20


class Page:
    """Some consecutive rows; those from `first` to `last` are not in the file yet."""

    __slots__ = ("first", "last", "rows")

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.first = len(rows)
        self.last = 0

    def touch(self, first: int, last: int) -> None:
        """Note that rows `first:last` of the page have changed."""
        if first < self.first:
            self.first = first
        if last > self.last:
            self.last = last


class PageCache:
    """All pages of a data manager, by last use, and the bytes that they take."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self.bytes = 0
        self._by_use: OrderedDict[tuple[PagedDataset, int], int] = OrderedDict()

    def used(self, dataset: PagedDataset, number: int) -> None:
        """Note that a page is in use."""
        self._by_use.move_to_end((dataset, number))

    def add(self, dataset: PagedDataset, number: int, size: int) -> None:
        """Take charge of a new page."""
        self._by_use[dataset, number] = size
        self.bytes += size

    def forget(self, dataset: PagedDataset, number: int) -> None:
        """Let go of a page."""
        self.bytes -= self._by_use.pop((dataset, number))

    def settle(self) -> None:
        """Write and drop the pages that were used longest ago until half the budget is free."""
        if self.bytes <= self.budget:
            return
        while self._by_use and self.bytes > self.budget // 2:
            dataset, number = next(iter(self._by_use))
            dataset.evict(number)


class PagedDataset:
    """A stored dataset as its readers shall see it: the file, and over it the rows that are in memory.

    `length` counts all rows, also those that the file doesn't have yet. `grown` says that there are more
    of them than whoever has to follow suit (and resets it) has seen.
    """

    def __init__(self, name: str, stored: StoredDataset, cache: PageCache) -> None:
        self.name = name
        self.stored = stored
        self.dtype = stored.dtype
        self.row_shape = stored.row_shape
        self._length = stored.length
        self.grown = False
        self._cache = cache
        self._pages: dict[int, Page] = {}
        self._row_bytes = max(1, self.dtype.itemsize * math.prod(self.row_shape))
        chunk_bytes = stored.chunk_rows * self._row_bytes
        self.page_rows = stored.chunk_rows * max(1, _PAGE_BYTES // chunk_bytes)

    @property
    def length(self) -> int:
        """The number of rows."""
        return self._length

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows together."""
        return (self.length, *self.row_shape)

    @property
    def buffered(self) -> bool:
        """Whether rows are kept in pages; values that are Python objects are not."""
        return not self.dtype.hasobject

    def grow(self, length: int) -> None:
        """Have at least `length` rows. New rows hold the dataset's fill value."""
        if length > self._length:
            self._length = length
            self.grown = True
            if not self.buffered:
                self.stored.resize(length)

    # reading

    def read(self, start: int, stop: int) -> Array:
        """A fresh array of rows `start:stop`, which must exist."""
        if not self._pages and stop <= self.stored.length:
            return self.stored.read(start, stop)
        first, last = start // self.page_rows, (stop - 1) // self.page_rows
        if first == last and (page := self._pages.get(first)) is not None:
            self._cache.used(self, first)
            base = first * self.page_rows
            return page.rows[start - base : stop - base].copy()
        return self._overlaid(start, stop)

    def take(self, rows: Rows) -> Array:
        """A fresh array of the given rows: ascending, without repeats, all existing."""
        if not self._pages:
            return take_by_pieces(self.read, rows, self._row_bytes, self.dtype, self.row_shape)
        first = int(rows[0]) // self.page_rows if len(rows) else 0
        page = self._pages.get(first)
        if page is not None and len(rows) and int(rows[-1]) // self.page_rows == first:
            self._cache.used(self, first)
            return page.rows[rows - first * self.page_rows]
        return take_by_pieces(self.read, rows, self._row_bytes, self.dtype, self.row_shape)

    def _overlaid(self, start: int, stop: int) -> Array:
        values = np.empty((stop - start, *self.row_shape), self.dtype)
        missing = start  # rows from here to the current page are to be read from the file
        for number in range(start // self.page_rows, -(-stop // self.page_rows)):
            page = self._pages.get(number)
            if page is None:
                continue
            base = number * self.page_rows
            first, last = max(start, base), min(stop, base + self.page_rows)
            self._read_stored(missing, first, values[missing - start : first - start])
            values[first - start : last - start] = page.rows[first - base : last - base]
            missing = last
        self._read_stored(missing, stop, values[missing - start :])
        return values

    def _read_stored(self, start: int, stop: int, into: Array) -> None:
        there = max(start, min(stop, self.stored.length))
        if there > start:
            into[: there - start] = self.stored.read(start, there)
        if stop > there:
            into[there - start :] = self.stored.handle.fillvalue

    # writing

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on; `values` has the dataset's own type and the rows exist."""
        stop = start + len(values)
        if not self.buffered or values.nbytes >= _DIRECT_BYTES:
            self._write_through(start, values)
            return
        for number in range(start // self.page_rows, -(-stop // self.page_rows)):
            base = number * self.page_rows
            first, last = max(start, base), min(stop, base + self.page_rows)
            page = self._page(number, overwritten=last - first == self.page_rows)
            page.rows[first - base : last - base] = values[first - start : last - start]
            page.touch(first - base, last - base)

    def update(self, rows: Rows, values: Array) -> None:
        """Write to existing rows in any order; of values for the same row the last one stays."""
        if not self.buffered:
            order = np.argsort(rows, kind="stable")
            ascending = rows[order]
            last = np.append(ascending[1:] != ascending[:-1], True)
            self.stored.handle[ascending[last]] = values[order[last]]
            return
        for page, which, within in self.touched(rows):
            page.rows[within] = values[which]

    def touched(self, rows: Rows) -> Iterator[tuple[Page, Rows | slice, Rows]]:
        """The pages that hold `rows`, marked as changed.

        With each page: which of `rows` are on it, in the order given, and where on the page they are.
        """
        if not len(rows):
            return
        low, high = int(rows.min()), int(rows.max())
        if low // self.page_rows == high // self.page_rows:
            yield self._touched_page(low, high, rows, slice(None))
            return
        numbers = rows // self.page_rows
        if high // self.page_rows <= np.iinfo(np.uint16).max:
            numbers = numbers.astype(np.uint16)  # numpy sorts these in linear time
        order = np.argsort(numbers, kind="stable")
        ends = np.flatnonzero(np.diff(numbers[order])) + 1
        for which in np.split(order, ends):
            on_page = rows[which]
            yield self._touched_page(int(on_page.min()), int(on_page.max()), on_page, which)

    def _touched_page(self, low: int, high: int, rows: Rows, which: Rows | slice) -> tuple[Page, Rows | slice, Rows]:
        number = low // self.page_rows
        base = number * self.page_rows
        page = self._page(number)
        page.touch(low - base, high - base + 1)
        return page, which, rows - base

    def _page(self, number: int, overwritten: bool = False) -> Page:
        """A page by number, read from the file unless all of it is going to be `overwritten`."""
        page = self._pages.get(number)
        if page is not None:
            self._cache.used(self, number)
            return page
        start = number * self.page_rows
        shape = (self.page_rows, *self.row_shape)
        fill = self.stored.handle.fillvalue if self.stored.length < start + self.page_rows else None
        if fill is None or overwritten:
            rows = np.empty(shape, self.dtype)
        elif not np.any(np.frombuffer(np.asarray(fill).tobytes(), "u1")):
            rows = np.zeros(shape, self.dtype)
        else:
            rows = np.full(shape, fill, self.dtype)
        there = min(start + self.page_rows, self.stored.length)
        if there > start and not overwritten:
            rows[: there - start] = self.stored.read(start, there)
        page = self._pages[number] = Page(rows)
        self._cache.add(self, number, rows.nbytes)
        return page

    def _write_through(self, start: int, values: Array) -> None:
        self.stretch()
        self.stored.write(start, values)
        stop = start + len(values)
        for number, page in self._pages.items():
            base = number * self.page_rows
            first, last = max(start, base), min(stop, base + self.page_rows)
            if first < last:
                page.rows[first - base : last - base] = values[first - start : last - start]

    # to the file

    def stretch(self) -> None:
        """Give the file as many rows as there are."""
        if self.stored.length < self.length and self.stored.growable:
            self.stored.resize(self.length)

    def flush(self) -> None:
        """Bring the file up to date; the pages stay readable."""
        self.stretch()
        for number in sorted(self._pages):
            self._write_page(number)

    def evict(self, number: int) -> None:
        """Bring the file up to date with one page and drop the page."""
        self._write_page(number)
        del self._pages[number]
        self._cache.forget(self, number)

    def resized(self) -> None:
        """Somebody else has changed the number of rows in the file."""
        self.drop_pages()
        self.stored.length = self._length = self.stored.handle.id.shape[0]

    def drop_pages(self) -> None:
        """Drop all pages, written or not."""
        for number in list(self._pages):
            del self._pages[number]
            self._cache.forget(self, number)

    def _write_page(self, number: int) -> None:
        page = self._pages[number]
        start = number * self.page_rows
        last = min(page.last, self.length - start)
        if page.first < last:
            self.stretch()
            self.stored.write(start + page.first, page.rows[page.first : last])
        page.first, page.last = len(page.rows), 0


class RegionTable(PagedDataset):
    """A region table, which always has at least as many rows as the dataset it belongs to."""

    def __init__(self, name: str, stored: StoredDataset, cache: PageCache, of: PagedDataset) -> None:
        super().__init__(name, stored, cache)
        self.of = of

    @property
    def length(self) -> int:
        """The number of rows."""
        return max(self._length, self.of.length)

    @property
    def highest(self) -> int:
        """The highest row that the table was made to hold."""
        return self._length - 1

    @property
    def dangling(self) -> bool:
        """Whether references point past the end of the dataset."""
        return self._length > self.of.length

    def widen(self, rows: Rows, positions: Rows) -> None:
        """Have the regions of `rows` enclose new references at `positions`.

        `positions` ascend and lie behind all earlier references.
        """
        if not len(rows):
            return
        self.grow(int(rows.max()) + 1)
        for page, which, within in self.touched(rows):
            start, stop = page.rows["start"], page.rows["stop"]
            at = positions[which]
            empty = start[within] == stop[within]
            # Where a row is named several times, the last assignment stays: backwards for the first position.
            start[within[empty][::-1]] = at[empty][::-1]
            stop[within] = at + 1
