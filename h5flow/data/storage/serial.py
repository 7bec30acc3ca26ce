"""Storage for one process: plain h5py."""

from __future__ import annotations

import contextlib
import math
import os
from functools import cached_property
from typing import Any, cast

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5d, h5p, h5s, h5t

from h5flow.data.layout import rows_per_chunk
from h5flow.data.storage.base import Array
from h5flow.data.storage.opening import FORMAT, Writes, open_file, unreadable, writes_to_opened, writing

# HDF5 keeps a dataset's chunks in a cache, of 1 MiB before HDF5 2.0, 8 MiB since. Slices that straddle a larger
# compressed chunk would inflate it once for each slice, so the cache is made to hold a few chunks of the dataset.
_MAX_CHUNK_CACHE = 64 << 20
_CACHED_CHUNKS = 4

# Rows without chunks are written in portions of this size.
_PORTION = 1 << 20


class SerialDataset:
    """A dataset of a file that one process has open, read and written below h5py's slicing.

    h5py works out the memory type and the selection anew at every access, which costs more than
    reading a few hundred rows. Here the type is made once.
    """

    shared = False

    def __init__(self, handle: h5py.Dataset, path: str, writable: bool = True) -> None:
        self.handle = handle
        self._writes = writing(path)
        self.raw_handle: h5py.Dataset | None = handle
        self._path = path
        stored = handle.dtype
        self.dtype: np.dtype[Any] = stored.base
        self._stored_shape = handle.shape[1:]
        self.row_shape: tuple[int, ...] = self._stored_shape + (stored.shape if stored.subdtype else ())
        self.length: int = handle.shape[0]
        self.growable = writable and handle.chunks is not None and handle.maxshape[0] is None
        row_bytes = max(1, self.dtype.itemsize * math.prod(self.row_shape))
        self.chunk_rows: int = handle.chunks[0] if handle.chunks else max(1, _PORTION // row_bytes)
        self._memory_type = None if stored.hasobject else h5t.py_create(stored)
        self._rest = (0,) * len(self._stored_shape)

    def read(self, start: int, stop: int) -> Array:
        """A fresh array of rows `start:stop`, which must exist. Raises `FileError`."""
        try:
            if self._memory_type is None:
                return cast(Array, self.handle[start:stop])
            values = np.empty((stop - start, *self.row_shape), self.dtype)
            if values.size:
                memory, rows = self._spaces(start, stop - start)
                self.handle.id.read(memory, rows, values, self._memory_type)
        except (OSError, RuntimeError) as error:
            # Reading makes room in HDF5's cache; a changed chunk that can't be written then is dropped for good.
            failed = self._writes.failed(error)
            if failed is not None:
                raise failed from error
            if not isinstance(error, OSError):
                raise
            raise unreadable(self._path, self.handle.name, f"rows {start}:{stop}", error) from error
        return values

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on; `values` has the dataset's own type and the rows exist."""
        if not values.size:
            return
        if self._memory_type is None:
            with self._writes:
                self.handle[start : start + len(values)] = values
            return
        memory, rows = self._spaces(start, len(values))
        with self._writes:
            self.handle.id.write(memory, rows, np.ascontiguousarray(values), self._memory_type)

    @property
    def readable(self) -> int:
        """How many rows can be read."""
        return self.length

    def put(self, rows: npt.NDArray[np.int64], values: Array) -> None:
        """Write the given rows: ascending, without repeats."""
        with self._writes:
            self.handle[rows] = values

    def merge(self, start: int, values: Array) -> None:
        """Have rows of a region table enclose these regions as well; nobody else has changed them."""
        self.write(start, values)

    def resize(self, length: int) -> None:
        """Set the number of rows."""
        with self._writes:
            self.handle.id.set_extent((length, *self._stored_shape))
        self.length = length

    def _spaces(self, start: int, count: int) -> tuple[h5s.SpaceID, h5s.SpaceID]:
        block = (count, *self._stored_shape)
        rows = self.handle.id.get_space()
        rows.select_hyperslab((start, *self._rest), block)
        return h5s.create_simple(block), rows


class SerialStorage:
    """An HDF5 file that this process has to itself.

    After a write that failed the file stays open, but `flush` and `close` raise: what HDF5 has dropped is missing.
    """

    def __init__(self, path: str, mode: str, locking: bool | None = None) -> None:
        self.path = path
        self.file = open_file(path, mode, libver=FORMAT, locking=locking)
        self._writable = self.file.mode != "r"
        if self._writable:
            self._writes = writes_to_opened(path)

    @cached_property
    def _writes(self) -> Writes:
        return writing(self.path)

    def dataset(self, path: str) -> SerialDataset | None:
        """The dataset at an absolute path, `None` where there is none. Raises `FileError`."""
        encoded = path.encode()
        try:
            found = h5py.h5o.open(self.file.id, encoded)
        except KeyError as error:
            failed = self._writes.failed(error)
            if failed is not None:
                raise failed from error
            return None
        if not isinstance(found, h5d.DatasetID):
            return None
        if found.rank == 0:
            return None
        creation = found.get_create_plist()
        if creation.get_nfilters() and creation.get_layout() == h5d.CHUNKED:
            chunk_bytes = math.prod(creation.get_chunk()) * found.get_type().get_size()
            wanted = max(min(chunk_bytes * _CACHED_CHUNKS, _MAX_CHUNK_CACHE), chunk_bytes)
            _, slots, usual, preemption = self.file.id.get_access_plist().get_cache()
            if wanted > usual:
                access = h5p.create(h5p.DATASET_ACCESS)
                access.set_chunk_cache(slots, wanted, preemption)
                del found  # HDF5 takes the cache size only from the first of several openings.
                found = h5d.open(self.file.id, encoded, access)
        return SerialDataset(h5py.Dataset(found), self.path, self._writable)

    def create(
        self, path: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...], compression: str | None
    ) -> SerialDataset:
        """Create an empty dataset, with the groups above it."""
        chunks: Any = (rows_per_chunk(dtype, row_shape), *(max(1, n) for n in row_shape))
        if 0 in row_shape:
            chunks = True  # h5py refuses chunks longer than rows that hold nothing, unless it has chosen them
        with self._writes:
            handle = h5py.Group.create_dataset(
                self.file,
                path,
                shape=(0, *row_shape),
                maxshape=(None, *row_shape),
                dtype=dtype,
                chunks=chunks,
                compression=compression,
                shuffle=compression is not None,
            )
        return SerialDataset(handle, self.path)

    def flush(self) -> None:
        """Hand everything to the operating system. Raises `FileError`, also if any write has failed before."""
        if self._writable:
            with self._writes:
                h5py.File.flush(self.file)
        self._writes.check()

    def close(self) -> None:
        """Close the file. Raises `FileError`, also if any write has failed before."""
        try:
            with self._writes:
                self.file.close()
        except BaseException:
            self.give_up()
            raise
        self._writes.check()

    def give_up(self) -> None:
        """Close a file that can't be written; what HDF5 still holds is lost, unless there is room for it now.

        HDF5 can't close such a file, and a process that goes on crashes when the file's objects are freed. So
        what it wants to write goes nowhere instead, and it is content.
        """
        try:
            h5py.File.flush(self.file)
        except (OSError, RuntimeError, ValueError):
            self._write_nowhere()
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self.file.close()

    def _write_nowhere(self) -> None:
        """From now on HDF5 writes to a device that takes everything, also where the size of files is limited."""
        with contextlib.suppress(ValueError, RuntimeError):  # it may be closed already
            descriptor = self.file.id.get_vfd_handle()
            sink = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(sink, descriptor, inheritable=False)
            os.close(sink)
