"""The rows of a dataset that its file has: read by many without the lock, and written while nobody reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5flow.data.buffer.page_cache import PageCache
from h5flow.data.rows.taking import take_by_pieces
from h5flow.data.storage import StoredDataset
from h5flow.errors import FileError

if TYPE_CHECKING:
    from h5flow.data.storage.chunks.reader import RawChunks
    from h5flow.data.storage.chunks.writer import ChunkWriter

Array = np.ndarray[Any, np.dtype[Any]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


class StoredRows:
    """A stored dataset, which is another object as soon as it gets longer chunks.

    Who reads says so, with the lock, before (`reading`) and after (`has_read`); everything else is called with it.
    """

    def __init__(self, dataset: StoredDataset, cache: PageCache, row_bytes: int) -> None:
        self.dataset = dataset
        self._cache = cache
        self._row_bytes = row_bytes
        self._writer: ChunkWriter | Literal[False] | None = None
        #: Where the chunks are in the file, for as long as nobody writes to the dataset.
        self._chunks: RawChunks | Literal[False] | None = None
        self._readers = 0
        self._writers = 0

    @cached_property
    def compressed(self) -> bool:
        """Say whether chunks are compressed, or filtered otherwise."""
        return bool(self.dataset.handle.id.get_create_plist().get_nfilters())

    # reading, without the lock

    @property
    def is_being_written(self) -> bool:
        """Say whether somebody writes, or waits until nobody reads."""
        return self._writers > 0

    def reading(self) -> None:
        """Note that somebody starts to read without holding the lock; until `has_read` the rows aren't written."""
        if self._chunks is None and self._cache.raw_chunks:
            from h5flow.data.storage.chunks.reader import RawChunks

            self._chunks = (self.dataset.raw_handle is not None and RawChunks.of(self.dataset.raw_handle)) or False
        self._readers += 1

    def has_read(self) -> None:
        """Note that somebody has read without holding the lock."""
        self._readers -= 1
        if not self._readers:
            self._cache.file_changed.notify_all()

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop`, which must exist, into a fresh array; without the lock."""
        chunks = self._chunks
        if chunks and stop <= chunks.length:
            touched = -(-stop // chunks.chunk_rows) - start // chunks.chunk_rows
            # Chunks are inflated whole; HDF5 keeps them, so that what the next read needs of them costs nothing.
            if 5 * (stop - start) >= 4 * touched * chunks.chunk_rows:
                return chunks.read(start, stop)
        return self.dataset.read(start, stop)

    def take(self, rows: Rows) -> Array:
        """Read the given rows into a fresh array: ascending, without repeats, all existing; without the lock."""
        dataset = self.dataset
        return take_by_pieces(dataset.read, rows, self._row_bytes, dataset.dtype, dataset.row_shape)

    # writing

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep others from reading without the lock during the block; lets the lock go to wait for those who do."""
        self._writers += 1
        try:
            self._cache.file_changed.wait_for(lambda: not self._readers)
            yield
        finally:
            self._writers -= 1

    def wait_for_readers(self) -> None:
        """Wait until nobody reads without holding the lock, which is let go meanwhile."""
        if self._readers:
            with self.exclusively():
                pass

    def changing(self) -> None:
        """Note that somebody writes, here or with h5py: the chunks may move, and be in HDF5's memory only.

        Raises `FileError` where the rows are another file's.
        """
        if self.dataset.elsewhere:
            raise FileError(f"{self.dataset.elsewhere}, where rows are only read; write to a dataset of the run's own")
        if self._chunks is not False:
            self.wait_for_readers()
            self._chunks = False

    def stretch(self, length: int) -> None:
        """Make room for at least so many rows, where the dataset can grow."""
        if self.dataset.length < length and self.dataset.growable:
            self.lengthen_chunks(length)
            self.dataset.resize(length)

    def lengthen_chunks(self, length: int) -> None:
        """Keep the dataset in longer chunks, if so many rows are worth it."""
        if self.dataset.long_rows is None or length < self.dataset.long_rows:
            return
        self.wait_for_readers()
        self._writer = None
        self._chunks = False
        if self.dataset.is_in_use:
            self.dataset.fix()
            return
        self.dataset = self.dataset.lengthened()

    def chunk_writer(self) -> ChunkWriter | None:
        """Return what compresses and stores whole chunks without HDF5, where that is possible."""
        if self._writer is None:
            from h5flow.data.storage.chunks.writer import ChunkWriter

            self._writer = (not self.dataset.shared and ChunkWriter.of(self.dataset.handle)) or False
        return self._writer or None

    def is_up_to_date(self, writer: ChunkWriter) -> bool:
        """Say whether the chunks are still those that a writer was made for."""
        return writer is self._writer
