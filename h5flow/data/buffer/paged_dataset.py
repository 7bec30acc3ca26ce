"""The write buffer: a dataset overlaid with pages of rows that are in memory.

Extending a dataset and writing eight rows costs HDF5 as much as writing a thousand. So rows are written to
pages, a page being a whole number of chunks, and pages go to the file when they are many. Until then
they answer reads: what a stage has just written is read back from memory. A page that is older than
the budget allows is written and forgotten, so memory doesn't grow with the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from h5flow.data.buffer.other_ranks import OtherRanks
from h5flow.data.buffer.page_cache import Deflatable, Deflated, Page, PageCache
from h5flow.data.buffer.stored_rows import StoredRows
from h5flow.data.resource import Resource
from h5flow.data.rows.taking import take_by_pieces
from h5flow.data.storage import StoredDataset

Array = np.ndarray[Any, np.dtype[Any]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

_PAGE_BYTES = 128 * 1024
# From here on a write goes to the file at once: it is chunk-sized already.
_DIRECT_BYTES = 4 << 20


class PagedDataset:
    """A stored dataset as its readers shall see it: the file, and over it the rows that are in memory.

    `length` counts all rows, also those that the file doesn't have yet. Whoever changes rows calls `changing` first.
    The class is long, since whatever is done to rows looks at pages and at the file together.
    """

    def __init__(self, name: str, path: str, stored: StoredDataset, cache: PageCache) -> None:
        self.name = name
        self.path = path
        self.resource = Resource("rows", path)
        self.dtype = stored.dtype
        self.row_shape = stored.row_shape
        self._length = stored.length
        #: How many rows the file had when the dataset was found.
        self.found = stored.length
        self._grown = False
        self._changed = False
        self._told_of_cut = False
        self.others = OtherRanks()
        #: Why the dataset can't be used any more.
        self.gone = ""
        self.cache = cache
        self._pages: dict[int, Page] = {}
        self._row_bytes = max(1, self.dtype.itemsize * math.prod(self.row_shape))
        #: The rows that the file has.
        self.in_file = StoredRows(stored, cache, self._row_bytes)
        # Also if the chunks become longer, a page holds whole ones.
        chunk_rows = stored.long_rows or stored.chunk_rows
        self.page_rows = chunk_rows * max(1, _PAGE_BYTES // (chunk_rows * self._row_bytes))

    @property
    def stored(self) -> StoredDataset:
        """Return the dataset in the file."""
        return self.in_file.dataset

    @property
    def length(self) -> int:
        """Return the number of rows."""
        return self._length

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of all rows together."""
        return (self.length, *self.row_shape)

    @property
    def buffered(self) -> bool:
        """Say whether rows are kept in pages; values that are Python objects are not."""
        return not self.dtype.hasobject

    @cached_property
    def fill(self) -> Any:
        """Return what a row holds before it is written."""
        return self.stored.handle.fillvalue

    def grow(self, length: int) -> None:
        """Make room for at least `length` rows. New rows hold the dataset's fill value."""
        if length > self._length:
            self._length = length
            self._grown = True
            if not self.buffered:
                self.stretch(length)

    def is_of_others(self, rows: tuple[int, int] | Rows) -> bool:
        """Say whether other ranks have reserved any of rows `start, stop`, or of the given ones."""
        return self.others.have_any(rows)

    def has_grown(self) -> bool:
        """Say whether there are more rows than when this was asked last."""
        grown, self._grown = self._grown, False
        return grown

    def has_changed(self) -> bool:
        """Say whether rows have been written since this was asked last."""
        changed, self._changed = self._changed, False
        return changed

    def tell_of_cut(self) -> bool:
        """Say whether it is still to be told that fractions are cut off; true once."""
        told, self._told_of_cut = self._told_of_cut, True
        return not told

    @property
    def told_of_cut(self) -> bool:
        """Say whether it has been told that fractions are cut off."""
        return self._told_of_cut

    # reading

    def is_in_file(self, start: int, stop: int) -> bool:
        """Say whether the file alone has rows `start:stop`, so that they can be read without looking at pages."""
        if stop > self.stored.length or self.in_file.is_being_written:
            return False
        if not self._pages:
            return True
        first, last = start // self.page_rows, -(-stop // self.page_rows)
        if last - first > len(self._pages):
            return not any(first <= number < last for number in self._pages)
        return not any(number in self._pages for number in range(first, last))

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop`, which must exist, into a fresh array."""
        if not self._pages and stop <= self.stored.length:
            return self.stored.read(start, stop)
        first, last = start // self.page_rows, (stop - 1) // self.page_rows
        if first == last and (page := self._pages.get(first)) is not None:
            self.cache.used(self, first)
            base = first * self.page_rows
            return page.rows[start - base : stop - base].copy()
        return self._overlaid(start, stop)

    def take(self, rows: Rows) -> Array:
        """Read the given rows into a fresh array: ascending, without repeats, all existing."""
        if not self._pages:
            return take_by_pieces(self.read, rows, self._row_bytes, self.dtype, self.row_shape)
        first = int(rows[0]) // self.page_rows if len(rows) else 0
        page = self._pages.get(first)
        if page is not None and len(rows) and int(rows[-1]) // self.page_rows == first:
            self.cache.used(self, first)
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
            into[there - start :] = self.fill

    def goes_through(self, size: int) -> bool:
        """Say whether a write of so many bytes goes to the file at once."""
        return not self.buffered or size >= _DIRECT_BYTES

    # writing

    def changing(self) -> None:
        """Note that somebody writes, here or with h5py: the chunks may move, and be in HDF5's memory only."""
        self.in_file.changing()
        self._changed = True

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on; `values` has the dataset's own type and the rows exist."""
        stop = start + len(values)
        if self.goes_through(values.nbytes):
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
            self.in_file.wait_for_readers()
            self.stored.put(ascending[last], values[order[last]])
            return
        for page, which, within in self.touched(rows):
            page.rows[within] = values[which]

    def touched(self, rows: Rows) -> Iterator[tuple[Page, Rows | slice, Rows]]:
        """Yield the pages that hold `rows`, marked as changed.

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
        page.touch(low - base, high - base + 1, rows - base)
        return page, which, rows - base

    def _page(self, number: int, overwritten: bool = False) -> Page:
        """Return a page by number, read from the file unless all of it is going to be `overwritten`."""
        page = self._pages.get(number)
        if page is not None:
            self.cache.used(self, number)
            return page
        start = number * self.page_rows
        shape = (self.page_rows, *self.row_shape)
        fill = self.fill if self.stored.readable < start + self.page_rows else None
        if fill is None or overwritten:
            rows = np.empty(shape, self.dtype)
        elif not np.any(np.frombuffer(np.asarray(fill).tobytes(), "u1")):
            rows = np.zeros(shape, self.dtype)
        else:
            rows = np.full(shape, fill, self.dtype)
        there = min(start + self.page_rows, self.stored.readable)
        if there > start and not overwritten:
            rows[: there - start] = self.stored.read(start, there)
        page = self._pages[number] = Page(rows, exact=self.stored.shared)
        self.cache.add(self, number, rows.nbytes)
        return page

    def _write_through(self, start: int, values: Array) -> None:
        self.in_file.wait_for_readers()
        stop = start + len(values)
        self.stretch(stop)
        self.stored.write(start, values)
        for number, page in self._pages.items():
            base = number * self.page_rows
            first, last = max(start, base), min(stop, base + self.page_rows)
            if first < last:
                page.version += 1
                page.rows[first - base : last - base] = values[first - start : last - start]

    # to the file

    def stretch(self, length: int) -> None:
        """Give the file so many rows, as far as there are."""
        self.in_file.stretch(min(length, self.length))

    def flush(self, last_chunk: bool = True, again: bool = True) -> None:
        """Bring the file up to date; the pages stay readable.

        Of compressed datasets, the last chunk may be left out where it isn't whole, and chunks that would be written
        once `again`.
        """
        length = self.length
        if self.in_file.compressed and not last_chunk:
            self.in_file.lengthen_chunks(length)
            length = max(self.stored.length, length - length % self.stored.chunk_rows)
        pages = [number for number in sorted(self._pages) if again or not self.writes_again(number)]
        self.stretch(length)
        for number in pages:
            self.write_page(number, length)

    def writes_again(self, number: int) -> bool:
        """Say whether a page has compressed chunks that are in the file already, and move when written again."""
        return self.in_file.compressed and number * self.page_rows < self.stored.length

    def deflatable(self, number: int) -> Deflatable | None:
        """Return a page that can be compressed before it is written: a changed one, of rows that all exist."""
        page = self._pages.get(number)
        whole = (number + 1) * self.page_rows <= self.length
        if page is None or not whole or page.first >= page.last or not self.cache.raw_chunks:
            return None
        self.in_file.lengthen_chunks(self.length)
        writer = self.in_file.chunk_writer()
        return Deflatable(page, page.version, writer) if writer else None

    def evict(self, number: int, deflated: Deflated | None = None) -> None:
        """Bring the file up to date with one page and drop the page; `deflated` saves compressing it."""
        self.write_page(number, self.length, deflated)
        page = self._pages.get(number)
        if page is not None and page.first >= page.last:
            self._forget(number)

    def resized(self) -> None:
        """Note that somebody else has changed the number of rows in the file."""
        self.changing()
        self.drop_pages()
        before = self._length
        self.stored.length = self._length = self.stored.handle.id.shape[0]
        self._grown = self._grown or self._length > before

    def renew(self) -> None:
        """Take over what other ranks have written: rows that this one hasn't changed come from the storage again."""
        for number, page in list(self._pages.items()):
            if page.first >= page.last:
                self._forget(number)
                continue
            assert page.changed is not None
            start = number * self.page_rows
            stored = self.stored.read(start, min(start + self.page_rows, self.stored.readable))
            others = ~page.changed[: len(stored)]
            page.rows[: len(stored)][others] = stored[others]

    def drop_pages(self) -> None:
        """Drop all pages, written or not."""
        for number in list(self._pages):
            self._forget(number)

    def _forget(self, number: int) -> None:
        del self._pages[number]
        self.cache.forget(self, number)

    def die(self, why: str) -> None:
        """End all use of the dataset, for the reason given; what isn't written is lost."""
        self.gone = why
        self.drop_pages()

    def write_page(self, number: int, length: int, deflated: Deflated | None = None) -> None:
        """Bring the file up to date with one page, as far as its rows are among the first `length`."""
        self.in_file.wait_for_readers()
        page = self._pages.get(number)
        if page is None:
            return  # written by somebody else meanwhile
        start = number * self.page_rows
        if page.first >= min(page.last, length - start):
            return
        self.stretch(min(length, start + self.page_rows))
        if self.stored.shared:
            # Where ranks make room together, there may be less than is needed until they do.
            length = min(length, self.stored.length)
        for first, last in page.spans(length - start):
            current = deflated is not None and deflated.version == page.version
            if deflated is not None and current and self.in_file.is_up_to_date(deflated.writer):
                deflated.writer.store(start, deflated.chunks)
            else:
                self._store(start + first, page.rows[first:last])

    def _store(self, start: int, values: Array) -> None:
        self.stored.write(start, values)
