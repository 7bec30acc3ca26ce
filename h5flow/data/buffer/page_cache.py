"""The pages of a data manager: rows in memory, by last use, and which of them go to the file when they are too many."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

if TYPE_CHECKING:
    from h5flow.data.storage.chunks.writer import ChunkWriter

Array = np.ndarray[Any, np.dtype[Any]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

#: What the pages of one data manager may hold before the oldest are written and dropped. With 8 MiB, 128 processes on a
#: node take 1 GiB for it, and a run is no slower than with 48.
DEFAULT_BUDGET = 8 << 20


class Page:
    """Some consecutive rows; those from `first` to `last` are not in the file yet."""

    __slots__ = ("changed", "first", "last", "rows", "version")

    def __init__(self, rows: Array, exact: bool = False) -> None:
        self.rows = rows
        #: Which rows are changed, where those between them may be another rank's.
        self.changed = np.zeros(len(rows), bool) if exact else None
        #: Grows with each change.
        self.version = 0
        self.first = len(rows)
        self.last = 0

    def touch(self, first: int, last: int, which: Rows | None = None) -> None:
        """Note that rows `first:last` of the page are changed, or `which` among these."""
        self.version += 1
        if self.changed is not None:
            self.changed[slice(first, last) if which is None else which] = True
        if first < self.first:
            self.first = first
        if last > self.last:
            self.last = last

    def spans(self, length: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of changed rows among the first `length`; from now on none of these is."""
        last = min(self.last, max(0, length))
        if self.changed is None:
            if self.first < last:
                yield self.first, last
        else:
            edges = np.flatnonzero(np.diff(self.changed[:last], prepend=False, append=False))
            yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
            self.changed[:last] = False
        if last < self.last:
            self.first = max(self.first, last)
        else:
            self.first, self.last = len(self.rows), 0


class Deflatable(msgspec.Struct, frozen=True):
    """A page as it is now, to be compressed without the lock."""

    page: Page
    version: int
    writer: ChunkWriter

    def deflate(self) -> Deflated:
        """Compress the page; if it is changed meanwhile, that is found out later."""
        return Deflated(self.version, self.writer, self.writer.deflate(self.page.rows))


class Deflated(msgspec.Struct, frozen=True):
    """The chunks of a page as it was."""

    version: int
    writer: ChunkWriter
    chunks: list[bytes | memoryview]


class Paged(Protocol):
    """Whose pages they are; the lock is held when it is asked."""

    @property
    def length(self) -> int:
        """Return the number of rows."""
        ...

    def writes_again(self, number: int) -> bool:
        """Say whether a page has compressed chunks that are in the file already, and move when written again."""
        ...

    def deflatable(self, number: int) -> Deflatable | None:
        """Return a page that can be compressed before it is written."""
        ...

    def write_page(self, number: int, length: int, deflated: Deflated | None = None) -> None:
        """Bring the file up to date with one page, as far as its rows are among the first `length`."""
        ...

    def evict(self, number: int, deflated: Deflated | None = None) -> None:
        """Bring the file up to date with one page, and drop it."""
        ...


class PageCache:
    """All pages of a data manager, by last use, and the bytes that they take."""

    def __init__(
        self, file_changed: threading.Condition, budget: int = DEFAULT_BUDGET, *, others: bool = False
    ) -> None:
        self.file_changed = file_changed
        self.budget = budget
        #: Whether other ranks write to the same datasets.
        self.others = others
        #: Whether chunks may be read and compressed without HDF5, which pays where several threads are at work.
        self.raw_chunks = False
        self.bytes = 0
        self._by_use: OrderedDict[tuple[Paged, int], int] = OrderedDict()

    def use_raw_chunks(self, wanted: bool) -> None:
        """Say whether chunks may be read and compressed without HDF5."""
        self.raw_chunks = wanted

    def used(self, dataset: Paged, number: int) -> None:
        """Note that a page is in use."""
        self._by_use.move_to_end((dataset, number))

    def add(self, dataset: Paged, number: int, size: int) -> None:
        """Take charge of a new page."""
        self._by_use[dataset, number] = size
        self.bytes += size

    def forget(self, dataset: Paged, number: int) -> None:
        """Let go of a page."""
        self.bytes -= self._by_use.pop((dataset, number))

    def settle(self) -> None:
        """Write and drop the pages that were used longest ago until half the budget is free."""
        chosen = []
        with self.file_changed:
            rest = self.bytes
            for page, size in self._by_use.items():
                if rest <= self.budget // 2:
                    break
                chosen.append(page)
                rest -= size
        for dataset, number, deflated in self._deflated(chosen):
            with self.file_changed:
                dataset.evict(number, deflated)

    def deflate(self) -> None:
        """Write the pages that are compressed, as far as they are whole."""
        with self.file_changed:
            pages = list(self._by_use)
        for dataset, number, deflated in self._deflated(pages):
            if deflated is not None:
                with self.file_changed:
                    dataset.write_page(number, dataset.length, deflated)

    def _deflated(self, pages: list[tuple[Paged, int]]) -> Iterator[tuple[Paged, int, Deflated | None]]:
        """Yield pages that are going to be written, whose chunks are compressed without the lock.

        What is written again comes last, so that little is written to the places that it leaves.
        """
        with self.file_changed:
            pages = sorted(pages, key=lambda page: page[0].writes_again(page[1]))
        for dataset, number in pages:
            with self.file_changed:
                deflatable = dataset.deflatable(number)
            yield dataset, number, None if deflatable is None else deflatable.deflate()

    @property
    def full(self) -> bool:
        """Say whether there is something to settle."""
        return self.bytes > self.budget
