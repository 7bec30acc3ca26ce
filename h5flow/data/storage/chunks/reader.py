"""Chunks as they are in the file: read and inflated without HDF5's lock, see `chunk_format`."""

from __future__ import annotations

import os
import weakref
import zlib
from typing import Any

import h5py
import msgspec
import numpy as np
from h5py import h5d

from h5flow.data.storage.base import Array
from h5flow.data.storage.chunks.format import (
    DEFLATE,
    HEADER,
    SHUFFLE,
    TOKEN,
    Bytes,
    ChunkFormat,
    Unsupported,
    calls,
    codec,
    format_of,
    transposed,
)
from h5flow.errors import FileError, RowsOutOfRange

# Of one Blosc call; its header counts in 32 bits, and so much memory is enough for the wait for the GIL not to matter.
_CALL_BYTES = 32 << 20

# Looking up the chunks takes 1 ms and more, in which HDF5 inflates 0.3 MB, Blosc 0.6 MB; and what is small stays in
# HDF5's cache of inflated chunks.
_MIN_READ_BYTES = 1 << 20
# A read waits for the GIL twice, in h5py once. Beside pure Python (5 ms a wait) one thread gains from about 4 MB on.
_GOOD_READ_BYTES = 4 << 20

# Reading over other data up to this size costs less than a system call more.
_GAP_BYTES = 128 << 10
_MAX_VIEWS = 1024  # IOV_MAX of Linux and macOS

# Without `chunk_iter` (HDF5 before 1.10.10 and 1.12.3) looking up a chunk takes time linear in their number.
_CAN_ITERATE = hasattr(h5d.DatasetID, "chunk_iter")
_MAX_LOOK_UPS = 1024

# Of a header: zlib, blocks that aren't split.
_ZLIB, _NOT_SPLIT, _SHUFFLED = 3 << 5, 0x10, 0x01


class _Chunk(msgspec.Struct, frozen=True):
    """Where a chunk is in the file; bit `n` of `skipped` says that filter `n` was not applied."""

    offset: int
    size: int
    skipped: int


def _chunks_of(dataset: h5py.Dataset, kind: ChunkFormat) -> list[_Chunk | None]:
    """List all chunks by number, `None` for those that were never written."""
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size()
        return [_Chunk(dataset.id.get_offset(), kind.chunk_bytes, 0) if stored else None]
    chunks: list[_Chunk | None] = [None] * -(-dataset.shape[0] // kind.chunk_rows)

    def add(info: Any) -> None:
        chunks[info.chunk_offset[0] // kind.chunk_rows] = _Chunk(info.byte_offset, info.size, info.filter_mask)

    if _CAN_ITERATE:
        dataset.id.chunk_iter(add)
    else:
        count = dataset.id.get_num_chunks()
        if count > _MAX_LOOK_UPS:
            raise Unsupported(f"this HDF5 takes too long to look up {count} chunks")
        for number in range(count):
            add(dataset.id.get_chunk_info(number))
    return chunks


class RawChunks:
    """Reads rows of a dataset that nobody writes to, without h5py.

    Only making one takes h5py's lock. Any number of threads may read at the same time, until `close` is called. The
    chunks are looked up once: rows that are added later are out of range, those written later may be read wrong.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        """Look up where the chunks are. Raises `Unsupported`."""
        self._format = format_of(dataset)
        if dataset.file.mode != "r":
            dataset.flush()
        self.length: int = dataset.shape[0]
        self.chunk_rows = self._format.chunk_rows
        #: As many rows as a read should have at least to be faster than h5py also beside pure Python.
        self.good_rows = self.chunk_rows * -(-_GOOD_READ_BYTES // self._format.chunk_bytes)
        self._chunks = _chunks_of(dataset, self._format)
        try:
            self._file = os.open(self._format.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Unsupported(f"its file can't be opened once more: {error.strerror}") from error
        self._close = weakref.finalize(self, os.close, self._file)
        try:
            self._base = self._check_place(dataset)
            self._check_edge(dataset)
        except (Unsupported, FileError):
            self.close()
            raise

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> RawChunks | None:
        """Return the chunks of a dataset, `None` where only h5py can read it or is faster."""
        if dataset.size is None or dataset.size * dataset.dtype.itemsize < _MIN_READ_BYTES:
            return None
        try:
            return cls(dataset)
        except Unsupported:
            return None

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop` into a fresh array, of the type and shape that `dataset[start:stop]` has.

        Chunks with filters are inflated whole at each read, and the array keeps them in memory: ask for whole
        chunks, best for `good_rows` at a time. Raises `RowsOutOfRange` for rows that the dataset didn't have when
        its chunks were looked up, and `FileError`, which is an `OSError`, for a file that is damaged or truncated.
        """
        if not 0 <= start <= stop <= self.length:
            raise RowsOutOfRange(f"dataset '{self._format.name}' has {self.length} rows, not {start}:{stop}")
        kind = self._format
        if start == stop:
            return np.empty((0, *kind.row_shape), kind.dtype.base)
        if not kind.filters:
            plain = np.empty((stop - start) * kind.row_bytes, np.uint8)
            self._copy(start, stop, plain)
            return kind.rows(plain)
        first, last = start // kind.chunk_rows, -(-stop // kind.chunk_rows)
        whole = np.empty((last - first) * kind.chunk_bytes, np.uint8)
        for number, until, values in calls(first, last, kind, whole, _CALL_BYTES):
            self._inflate(number, until, values)
        base = first * kind.chunk_rows
        return kind.rows(whole[(start - base) * kind.row_bytes : (stop - base) * kind.row_bytes])

    def close(self) -> None:
        """Close the file; no thread may be reading."""
        self._close()

    def _check_place(self, dataset: h5py.Dataset) -> int:
        """Find where in the file HDF5 counts from, by comparing chunks.

        HDF5 versions differ on whether the offset of a chunk counts from the end of the user block.
        """
        if dataset.file.driver == "sec2":
            handle = dataset.file.id.get_vfd_handle()
            if not os.path.samestat(os.fstat(handle), os.fstat(self._file)):
                raise Unsupported("another file has taken the name of its file")
        if dataset.chunks is None or not any(self._chunks):
            return 0
        bases: set[int] = {0, dataset.file.userblock_size}
        rest = (0,) * (len(dataset.shape) - 1)
        for number, chunk in enumerate(self._chunks):
            if chunk:
                _, stored = dataset.id.read_direct_chunk((number * self.chunk_rows, *rest))
                bases = {base for base in bases if os.pread(self._file, chunk.size, base + chunk.offset) == stored}
                if len(bases) <= 1:
                    break
        if len(bases) != 1:
            raise Unsupported("the file does not have its chunks where HDF5 says, or it can't be told")
        return bases.pop()

    def _check_edge(self, dataset: h5py.Dataset) -> None:
        """Compare the last chunk if HDF5 may have left the filters out without saying so.

        It can be told to do that for chunks that reach past the end (`H5Pset_chunk_opts`, not in h5py).
        """
        rows = self.length % self.chunk_rows
        if self._format.filters and rows and (chunk := self._chunks[-1]) and chunk.size == self._format.chunk_bytes:
            expected = dataset[self.length - rows :]
            try:
                found = self.read(self.length - rows, self.length)
            except FileError as error:
                raise Unsupported("its last chunk has no filters, or is damaged") from error
            if found.tobytes() != expected.tobytes():
                raise Unsupported("its last chunk has no filters")

    def _copy(self, start: int, stop: int, values: Bytes) -> None:
        """Read rows of chunks without filters to where they belong."""
        kind, view = self._format, values.data
        pieces = []
        for number in range(start // kind.chunk_rows, -(-stop // kind.chunk_rows)):
            base = number * kind.chunk_rows
            first, last = max(start, base), min(stop, base + kind.chunk_rows)
            there = slice((first - start) * kind.row_bytes, (last - start) * kind.row_bytes)
            chunk = self._chunks[number]
            if chunk is None:
                values[there].reshape(last - first, -1)[:] = np.frombuffer(kind.fill, np.uint8)
            else:
                pieces.append((chunk.offset + (first - base) * kind.row_bytes, view[there]))
        self._gather(pieces, start, stop)

    def _inflate(self, first: int, last: int, values: Bytes) -> None:
        """Undo the filters of chunks `first:last` in one call of Blosc."""
        kind, blosc2 = self._format, codec()
        assert blosc2 is not None
        chunks = self._chunks[first:last]
        head = HEADER.size + TOKEN.size * len(chunks)
        sizes = [chunk.size if chunk and self._is_block(chunk) else 0 for chunk in chunks]
        size = head + TOKEN.size * len(chunks) + sum(sizes)
        frame = np.empty(size, np.uint8).data
        flags = _ZLIB | _NOT_SPLIT | (_SHUFFLED if kind.element > 1 else 0)
        HEADER.pack_into(frame, 0, 2, 1, flags, kind.element, len(values), kind.chunk_bytes, size)
        pieces, position = [], head
        for number, chunk in enumerate(chunks):
            TOKEN.pack_into(frame, HEADER.size + TOKEN.size * number, position)
            TOKEN.pack_into(frame, position, sizes[number])
            position += TOKEN.size
            if chunk and sizes[number]:
                pieces.append((chunk.offset, frame[position : position + sizes[number]]))
            position += sizes[number]
        self._gather(pieces, first * kind.chunk_rows, last * kind.chunk_rows)
        try:
            blosc2.decompress2(frame, dst=values, nthreads=1)
        except (ValueError, RuntimeError) as error:
            for number in range(first, last):
                self._inflate_one(number)
            raise self._error(first * kind.chunk_rows, last * kind.chunk_rows, str(error)) from error
        for number, chunk in enumerate(chunks):
            if not sizes[number] and (chunk or any(kind.fill)):
                there = slice(number * kind.chunk_bytes, (number + 1) * kind.chunk_bytes)
                values[there] = np.frombuffer(self._inflate_one(first + number), np.uint8)

    def _is_block(self, chunk: _Chunk) -> bool:
        """Say whether a chunk can be a block of a frame: shuffled as the others, and deflated to another size.

        Blosc takes a block of full size for one that isn't deflated; HDF5 deflates also where that gains nothing.
        """
        shuffled, deflated = self._filtered(chunk)
        return shuffled == (self._format.element > 1) and not (deflated and chunk.size == self._format.chunk_bytes)

    def _filtered(self, chunk: _Chunk) -> tuple[bool, bool]:
        """Say whether a chunk is shuffled, and whether it is deflated."""
        applied = [code for n, code in enumerate(self._format.filters) if not chunk.skipped >> n & 1]
        return SHUFFLE in applied and self._format.element > 1, DEFLATE in applied

    def _inflate_one(self, number: int) -> bytes:
        """Undo the filters of one chunk without Blosc."""
        kind, chunk = self._format, self._chunks[number]
        if chunk is None:
            return kind.fill * kind.chunk_rows
        start = number * kind.chunk_rows
        stop = start + kind.chunk_rows
        stored = bytearray(chunk.size)
        self._gather([(chunk.offset, memoryview(stored))], start, stop)
        shuffled, deflated = self._filtered(chunk)
        try:
            values = zlib.decompress(stored) if deflated else bytes(stored)
        except zlib.error as error:
            raise self._error(start, stop, f"a chunk can't be inflated ({error})") from error
        if len(values) != kind.chunk_bytes:
            raise self._error(start, stop, f"a chunk has {len(values)} bytes, not {kind.chunk_bytes}")
        return transposed(values, kind.element) if shuffled else values

    def _gather(self, pieces: list[tuple[int, memoryview]], start: int, stop: int) -> None:
        """Read pieces of the file, in as few system calls as possible."""
        gap = np.empty(_GAP_BYTES, np.uint8).data
        views: list[memoryview] = []
        begin = end = 0
        for offset, view in sorted(pieces, key=lambda piece: piece[0]):
            if views and not (0 <= offset - end <= _GAP_BYTES and len(views) <= _MAX_VIEWS - 2):
                self._fill(views, begin, start, stop)
                views = []
            if not views:
                begin = end = offset
            if offset > end:
                views.append(gap[: offset - end])
            views.append(view)
            end = offset + len(view)
        if views:
            self._fill(views, begin, start, stop)

    def _fill(self, views: list[memoryview], offset: int, start: int, stop: int) -> None:
        offset += self._base
        while views:
            try:
                count = os.preadv(self._file, views, offset)
            except OSError as error:
                raise self._error(start, stop, os.strerror(error.errno or 0)) from error
            if not count:
                raise self._error(start, stop, "the file ends before their chunks")
            offset += count
            done = 0
            while done < len(views) and count >= len(views[done]):
                count -= len(views[done])
                done += 1
            views = views[done:]
            if count:
                views[0] = views[0][count:]

    def _error(self, start: int, stop: int, message: str) -> FileError:
        kind = self._format
        rows = f"{start}:{min(stop, self.length)}"
        return FileError(f"file '{kind.path}', dataset '{kind.name}', rows {rows} can't be read: {message}")
