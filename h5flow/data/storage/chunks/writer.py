"""Chunks that are deflated without HDF5's lock, see `chunk_format`, and stored as they are."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import h5py
import numpy as np

from h5flow.data.storage.base import Array
from h5flow.data.storage.chunks.format import (
    DEFLATE,
    HEADER,
    TOKEN,
    Bytes,
    ChunkFormat,
    Unsupported,
    calls,
    codec,
    format_of,
    transposed,
)
from h5flow.data.storage.opening import writing
from h5flow.errors import DataMismatch

_CALL_BYTES = 1 << 20

# Blosc2 writes a longer header, marked by both kinds of shuffle at once; its last byte tells of chunks without blocks.
_STORED, _EXTENDED, _EXTENDED_BYTES, _SPECIAL = 0x02, 0x05, 32, 0x70


class ChunkWriter:
    """Shuffles and deflates whole chunks of a dataset on any thread, and stores them.

    Every HDF5 with its usual gzip filter reads them.
    """

    def __init__(self, dataset: h5py.Dataset, level: int | None = None) -> None:
        """Prepare to write a dataset; `level` of compression instead of the dataset's. Raises `Unsupported`."""
        self._format = format_of(dataset)
        if DEFLATE not in self._format.filters:
            raise Unsupported("it is not compressed with gzip")
        self._dataset = dataset
        self._level = self._format.level if level is None else level

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> ChunkWriter | None:
        """Return a writer for a dataset, `None` where only h5py can write it."""
        try:
            return cls(dataset)
        except Unsupported:
            return None

    def deflate(self, values: Array) -> list[bytes | memoryview]:
        """Deflate rows into the chunks that they become, which are whole ones; takes no lock.

        The rows have the dataset's own type. Raises `DataMismatch` otherwise.
        """
        kind = self._format
        if values.dtype != kind.dtype.base or values.shape[1:] != kind.row_shape or len(values) % kind.chunk_rows:
            raise DataMismatch(
                f"dataset '{kind.name}': {len(values)} rows of type {values.dtype}, shape {values.shape[1:]} can't be"
                f" stored as chunks of {kind.chunk_rows} rows of type {kind.dtype.base}, shape {kind.row_shape}"
            )
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        chunks: list[bytes | memoryview] = []
        for _, _, part in calls(0, len(values) // kind.chunk_rows, kind, raw, _CALL_BYTES):
            chunks += _deflated(part, kind, self._level)
        return chunks

    def store(self, start: int, chunks: Sequence[bytes | memoryview]) -> None:
        """Store chunks, the first of which begins at row `start`; all of their rows exist. Raises `DataMismatch`."""
        kind, length = self._format, self._dataset.id.shape[0]
        stop = start + len(chunks) * kind.chunk_rows
        if start % kind.chunk_rows or stop > length:
            raise DataMismatch(f"dataset '{kind.name}': rows {start}:{stop} of {length} are not whole chunks")
        rest = (0,) * (len(self._dataset.shape) - 1)
        with writing(kind.path):
            for number, chunk in enumerate(chunks):
                self._dataset.id.write_direct_chunk((start + number * kind.chunk_rows, *rest), chunk)


def _deflated(values: Bytes, kind: ChunkFormat, level: int) -> list[bytes | memoryview]:
    """Shuffle and deflate chunks in one call of Blosc."""
    blosc2 = codec()
    assert blosc2 is not None
    starts = range(0, len(values), kind.chunk_bytes)
    frame = memoryview(
        blosc2.compress2(
            values,
            codec=blosc2.Codec.ZLIB,
            clevel=level,
            typesize=kind.element,
            blocksize=kind.chunk_bytes,
            splitmode=blosc2.SplitMode.NEVER_SPLIT,
            filters=[blosc2.Filter.SHUFFLE if kind.element > 1 else blosc2.Filter.NOFILTER],
            filters_meta=[0],
            nthreads=1,
        )
    )
    blocks = _blocks(frame, len(starts), kind.chunk_bytes)
    for number, start in enumerate(starts):
        if not blocks[number]:
            # Blosc has found no use in deflating, as in bytes that are all the same, or too random.
            chunk = values[start : start + kind.chunk_bytes].data
            shuffled = transposed(chunk, kind.chunk_bytes // kind.element)
            blocks[number] = zlib.compress(shuffled, level)
    return blocks


def _blocks(frame: memoryview, count: int, chunk_bytes: int) -> list[bytes | memoryview]:
    """Find the zlib streams in a frame that Blosc2 has made; empty ones for blocks that aren't zlib streams."""
    _, _, flags, _, _, block_bytes, _ = HEADER.unpack_from(frame)
    if flags & _STORED or flags & _EXTENDED != _EXTENDED or block_bytes != chunk_bytes or frame[31] & _SPECIAL:
        return [b""] * count
    blocks: list[bytes | memoryview] = []
    for number in range(count):
        (start,) = TOKEN.unpack_from(frame, _EXTENDED_BYTES + TOKEN.size * number)
        (size,) = TOKEN.unpack_from(frame, start)
        stream = slice(start + TOKEN.size, start + TOKEN.size + size)
        blocks.append(frame[stream] if 0 < size != chunk_bytes else b"")
    return blocks
