"""How rows become chunks of the file, and chunks become frames that Blosc2 inflates or has deflated.

HDF5 inflates on one thread and h5py lets one thread at a time into it. So bytes of chunks are read and written without
h5py, and go through HDF5's shuffle and deflate filters outside of its lock. Beside a stage of pure Python each call
that lets go of the GIL may wait 5 ms to get it back, so there is one such call for many chunks, not one for
each. That is what Blosc2 offers: a Blosc frame is an index and blocks that are shuffled and deflated just like
HDF5's chunks, so chunks that lie one after the other in a dataset become a frame by putting a header before them.

Formats: HDF5 file format specification, IV.A.2.l (filter pipeline message: 1 deflate, 2 shuffle), and
c-blosc2's README_CHUNK_FORMAT.rst (the header of 16 bytes, which it shares with Blosc 1).
"""

from __future__ import annotations

import functools
import math
import os
import struct
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import h5py
import msgspec
import numpy as np
from h5py import h5d, h5t

from h5flow.data.storage.base import Array
from h5flow.lazy import imported

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

DEFLATE, SHUFFLE = 1, 2
_PIPELINES: tuple[tuple[int, ...], ...] = ((), (SHUFFLE,), (DEFLATE,), (SHUFFLE, DEFLATE))

_MAX_CHUNK_BYTES = 256 << 20
_MAX_ELEMENT = 255  # of what Blosc shuffles

HEADER = struct.Struct("<4B3i")  # version, codec's version, flags, element; bytes, of a block, of the frame
TOKEN = struct.Struct("<i")  # before each block: its size; 0 is a block of zeros, the full size one not deflated


class Unsupported(ValueError):
    """A dataset whose chunks only HDF5 can read or write; says why."""


@functools.cache
def codec() -> ModuleType | None:
    """Return Blosc2 if it is installed, told to let go of the GIL (a setting of the process)."""
    try:
        blosc2 = imported("blosc2")
    except ImportError:
        return None
    blosc2.set_releasegil(True)
    return blosc2


class ChunkFormat(msgspec.Struct, frozen=True):
    """How the rows of a dataset are kept as chunks."""

    path: str
    name: str
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    row_bytes: int
    chunk_rows: int
    filters: tuple[int, ...]
    element: int
    level: int
    fill: bytes

    @property
    def chunk_bytes(self) -> int:
        """Return the size of a chunk in memory, in bytes."""
        return self.chunk_rows * self.row_bytes

    def rows(self, values: Bytes) -> Array:
        """Return the rows that `values` are the bytes of."""
        return values.view(self.dtype.base).reshape(-1, *self.row_shape)


def format_of(dataset: h5py.Dataset) -> ChunkFormat:
    """Return the chunk format of a dataset. Raises `Unsupported`."""
    dtype = dataset.dtype
    creation = dataset.id.get_create_plist()
    layout = creation.get_layout()
    if dataset.file.driver not in ("sec2", "mpio"):
        raise Unsupported(f"its file is read by the driver '{dataset.file.driver}'")
    if not dataset.shape or layout not in (h5d.CHUNKED, h5d.CONTIGUOUS) or creation.get_external_count():
        raise Unsupported("its rows are not in chunks of the file")
    if layout == h5d.CONTIGUOUS and dataset.file.userblock_size:
        raise Unsupported("HDF5 versions differ on where it is, behind a user block")
    row_bytes = dtype.itemsize * math.prod(dataset.shape[1:])
    # HDF5 converts what is in the file to the memory type; only where that is the same, bytes are rows.
    if dtype.hasobject or not row_bytes or dataset.id.get_type() != h5t.py_create(dtype, logical=True):
        raise Unsupported(f"rows of type {dtype} are not kept as they are in memory")
    if dataset.chunks and dataset.chunks[1:] != dataset.shape[1:]:
        raise Unsupported("its rows are cut into chunks")
    found = [creation.get_filter(number) for number in range(creation.get_nfilters())]
    filters = tuple(code for code, *_ in found)
    if filters not in _PIPELINES:
        raise Unsupported(f"it has other filters than shuffle and deflate: {filters}")
    options = {code: values[0] for code, _, values, _ in found}
    chunk_rows = dataset.chunks[0] if dataset.chunks else max(1, dataset.shape[0])
    element = options.get(SHUFFLE, 1)
    if filters:
        if chunk_rows * row_bytes > _MAX_CHUNK_BYTES or element > _MAX_ELEMENT:
            raise Unsupported(f"chunks of {chunk_rows * row_bytes} bytes, elements of {element}, are too large")
        if codec() is None:
            raise Unsupported("blosc2 is not installed")
    fill = np.zeros(1, dtype)
    if creation.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        if dtype.subdtype:
            raise Unsupported("h5py can't tell the fill value of rows that are arrays")
        creation.get_fill_value(fill)
    return ChunkFormat(
        path=os.fsdecode(dataset.file.filename),
        name=str(dataset.name),
        dtype=dtype,
        row_shape=dataset.shape[1:] + (dtype.shape if dtype.subdtype else ()),
        row_bytes=row_bytes,
        chunk_rows=chunk_rows,
        filters=filters,
        element=element,
        level=options.get(DEFLATE, 0),
        fill=fill.tobytes() * (row_bytes // dtype.itemsize),
    )


def transposed(values: bytes | memoryview, rows: int) -> bytes:
    """Transpose a table of bytes of so many rows: shuffled from elements, elements from shuffled."""
    return np.frombuffer(values, np.uint8).reshape(rows, -1).T.tobytes()


def calls(first: int, last: int, kind: ChunkFormat, values: Bytes, size: int) -> Iterator[tuple[int, int, Bytes]]:
    """Yield chunks `first:last` and their bytes, about `size` at a time."""
    chunks = max(1, size // kind.chunk_bytes)
    for number in range(first, last, chunks):
        until = min(number + chunks, last)
        yield number, until, values[(number - first) * kind.chunk_bytes : (until - first) * kind.chunk_bytes]
