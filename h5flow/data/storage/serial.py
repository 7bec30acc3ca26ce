"""Storage for one process: plain h5py."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5i, h5o, h5p, h5s, h5t

from h5flow.data.storage import links
from h5flow.data.storage.base import Array
from h5flow.data.storage.chunks.length import chosen_here, is_chosen_here, long_rows, short_rows
from h5flow.data.storage.opening import FORMAT, Writes, open_file, unreadable, writes_to_opened, writing

if TYPE_CHECKING:
    import numpy.typing as npt

# HDF5 keeps chunks in a cache of each dataset that is open, of 1 MiB before HDF5 2.0, 8 MiB since. Plain chunks are
# read and written as well without one, and rows that are in use are in pages. Slices that straddle a compressed chunk
# would inflate it once for each slice, so for such a dataset the cache is made to hold a few chunks.
_CACHE_OF_PLAIN_CHUNKS = 0
_MIN_CHUNK_CACHE, _MAX_CHUNK_CACHE = 1 << 20, 64 << 20
_CACHED_CHUNKS = 4

# What HDF5 notes where dimensions have scales: references to datasets on the other side.
_DIMENSIONS = (b"DIMENSION_LIST", b"REFERENCE_LIST")

# Rows without chunks are written in portions of this size.
_PORTION = 1 << 20


class Fresh:
    """Datasets that have been created since a file was opened, as long as nothing in it refers to them."""

    def __init__(self) -> None:
        self._addresses: set[int] = set()
        #: Such as longer ones have replaced, to be kept open until the file is flushed: HDF5 gives their place away
        #: when they are closed.
        self.replaced: list[h5d.DatasetID] = []

    def __contains__(self, dataset: h5d.DatasetID) -> bool:
        return bool(self._addresses) and _address(dataset) in self._addresses

    def add(self, dataset: h5d.DatasetID) -> None:
        """Note one that has been created."""
        self._addresses.add(_address(dataset))

    def discard(self, dataset: h5d.DatasetID) -> None:
        """Note that something may refer to a dataset from now on."""
        if self._addresses:
            self._addresses.discard(_address(dataset))


class SerialDataset:
    """A dataset of a file that one process has open, read and written below h5py's slicing.

    h5py works out the memory type and the selection anew at every access, which costs more than
    reading a few hundred rows. Here the type is made once.
    """

    shared = False

    def __init__(
        self,
        handle: h5py.Dataset,
        path: str,
        writable: bool = True,
        elsewhere: str = "",
        fresh: Fresh | None = None,
    ) -> None:
        """Wrap a dataset of the file at a path, in which `fresh` datasets have been created."""
        self.handle = handle
        self.elsewhere = elsewhere
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
        #: From so many rows on `lengthened` gives the dataset longer chunks, `None` if it has its final ones.
        self.long_rows: int | None = None
        self._fresh = fresh
        if fresh is not None and handle.id in fresh and is_chosen_here(handle):
            wanted = long_rows(stored, self._stored_shape)
            self.long_rows = wanted if wanted > self.chunk_rows else None

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop`, which must exist, into a fresh array. Raises `FileError`."""
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
        """Say how many rows can be read."""
        return self.length

    def put(self, rows: npt.NDArray[np.int64], values: Array) -> None:
        """Write the given rows: ascending, without repeats."""
        with self._writes:
            self.handle[rows] = values

    def merge(self, start: int, values: Array) -> None:
        """Widen rows of a region table to enclose these regions as well; nobody else has changed them."""
        self.write(start, values)

    def resize(self, length: int) -> None:
        """Set the number of rows."""
        with self._writes:
            self.handle.id.set_extent((length, *self._stored_shape))
        self.length = length

    def fix(self) -> None:
        """Keep the dataset the same object, since something in the file may refer to it."""
        self.long_rows = None
        if self._fresh is not None:
            self._fresh.discard(self.handle.id)

    @property
    def is_in_use(self) -> bool:
        """Say whether it has another name, belongs to dimensions, or has been opened without this object.

        Then `lengthened` would leave two datasets where there is one.
        """
        own = self.handle.id
        if h5o.get_info(own).rc != 1 or any(h5a.exists(own, name) for name in _DIMENSIONS):
            return True
        openings = [found for found in h5f.get_obj_ids(self.handle.file.id, h5f.OBJ_DATASET) if found == own]
        kept_here = own.get_space()  # by nobody else, as `own` is by nobody else but the handle
        return len(openings) > 1 or sys.getrefcount(own) > sys.getrefcount(kept_here) + 1

    def lengthened(self) -> SerialDataset:
        """Replace the dataset by one with longer chunks, and return that; this object can't be used any more."""
        assert self.long_rows is not None
        old = self.handle.id
        creation = old.get_create_plist()
        creation.set_chunk((self.long_rows, *self.handle.chunks[1:]))
        with self._writes:
            # Without a name at first, so that the old one is there until the new one is whole.
            access = old.get_access_plist()
            if creation.get_nfilters():
                slots, _, preemption = access.get_chunk_cache()
                access.set_chunk_cache(
                    slots, chunk_cache(math.prod(creation.get_chunk()) * old.get_type().get_size()), preemption
                )
            new = h5py.Dataset(h5d.create(old, None, old.get_type(), old.get_space(), creation, access))
            if self.handle.size:
                # Below h5py's slicing, which takes arrays of variable length for a table if all are of one length.
                kind = h5t.py_create(self.handle.dtype)
                values = np.zeros((self.length, *self.row_shape), self.dtype)
                old.read(h5s.ALL, h5s.ALL, values, kind)
                new.id.write(h5s.ALL, h5s.ALL, values, kind)
            copy_attributes(old, new.id)
            folder, _, name = self.handle.name.rpartition("/")
            group = self.handle.file[folder or "/"].id
            group.unlink(name.encode())
            h5o.link(new.id, group, name.encode())
            made = h5d.open(group, name.encode(), access)
            self._replaced(moves=bool(creation.get_nfilters()))
        self.fix()
        return SerialDataset(h5py.Dataset(made), self._path)

    def _replaced(self, moves: bool) -> None:
        """See that a run that is killed leaves no file in which others have the place of this dataset's chunks.

        Where the last of the new chunks `moves` when it is filled, because it is compressed, the file can't have it
        yet, and has the old ones until it is flushed.
        """
        if moves and self._fresh is not None:
            self._fresh.replaced.append(self.handle.id)
        elif self.length:
            self.handle.file.flush()

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
        self.file = open_file(path, mode, libver=FORMAT, locking=locking, rdcc_nbytes=_CACHE_OF_PLAIN_CHUNKS)
        self._writable = self.file.mode != "r"
        if self._writable:
            self._writes = writes_to_opened(path)

    origin: str | None = None

    def begins_as(self, origin: str | None) -> None:
        """Say which file this one began as a copy of, from where links to other files lead on."""
        self.origin = origin

    @cached_property
    def _origin(self) -> h5py.File | None:
        return None if self.origin is None else open_file(self.origin, "r", role="input", locking=False)

    @cached_property
    def _fresh(self) -> Fresh:
        return Fresh()

    @cached_property
    def _writes(self) -> Writes:
        return writing(self.path)

    def dataset(self, path: str) -> SerialDataset | None:
        """Return the dataset at an absolute path, `None` where there is none. Raises `FileError`."""
        found = self._opened(path)
        if not isinstance(found, h5d.DatasetID):
            return None
        if found.rank == 0:
            return None
        other = links.file_of(found, self.file)
        elsewhere = other and links.lies_elsewhere(path, self.path, other)
        if not other and (files := links.made_of(found)):
            other = files[0]
            elsewhere = f"rows of '{path}' of file '{self.path}' are in file '{other}'"
            found = self._as_in_origin(path, found)
            links.tell_missing(files, path, self.path if self._origin is None else self._origin.filename)
        creation = found.get_create_plist()
        if creation.get_nfilters() and creation.get_layout() == h5d.CHUNKED:
            chunk_bytes = math.prod(creation.get_chunk()) * found.get_type().get_size()
            wanted = chunk_cache(chunk_bytes)
            _, slots, usual, preemption = self.file.id.get_access_plist().get_cache()
            if wanted > usual:
                access = h5p.create(h5p.DATASET_ACCESS)
                access.set_chunk_cache(slots, wanted, preemption)
                file, name = h5i.get_file_id(found), h5i.get_name(found)
                del found  # HDF5 takes the cache size only from the first of several openings.
                found = h5d.open(file, name, access)
        handle, writable = h5py.Dataset(found), self._writable and not other
        return SerialDataset(handle, other or self.path, writable, elsewhere, None if other else self._fresh)

    def find(self, path: str) -> h5py.HLObject | None:
        """Return the object at a path, `None` where there is none; in another file it is only read."""
        found = self._opened(path)
        return None if found is None else _wrapped(found)

    def _opened(self, path: str) -> Any:
        try:
            return links.opened(self.file, path)
        except KeyError as error:
            failed = self._writes.failed(error)
            if failed is not None:
                raise failed from error
            if self.origin is None or not links.leads_out(self.file, path):
                return None
        assert self._origin is not None
        try:
            found = links.opened(self._origin, path)
        except KeyError:
            return None
        return found if links.file_of(found, self._origin) else None

    def _as_in_origin(self, path: str, found: h5d.DatasetID) -> h5d.DatasetID:
        """Open a dataset whose rows are in other files, which HDF5 opens for writing where it has this one so."""
        if self._origin is None:
            return found
        try:
            there = links.opened(self._origin, path)
        except KeyError:
            return found
        return there if isinstance(there, h5d.DatasetID) and there.shape == found.shape else found

    def make_own(self, path: str) -> None:
        """Make all groups of a path lie in this file, also where links lead to groups of others. Raises `FileError`."""
        with self._writes:
            links.make_own(self.file, path)

    def remove(self, path: str) -> None:
        """Take away what is at a path; where that is a link, what it leads to stays."""
        self.make_own(path.strip("/").rpartition("/")[0])
        with self._writes:
            h5py.Group.__delitem__(self.file, path)

    def create(
        self, path: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...], compression: str | None
    ) -> SerialDataset:
        """Create an empty dataset, with the groups above it."""
        self.make_own(path.rpartition("/")[0])
        chunks: Any = (self._first_chunk_rows(dtype, row_shape), *(max(1, n) for n in row_shape))
        cache = _CACHE_OF_PLAIN_CHUNKS
        if compression is not None:
            cache = chunk_cache(math.prod(chunks) * np.dtype(dtype).itemsize)
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
                rdcc_nbytes=cache,
                compression=compression,
                shuffle=compression is not None,
                dcpl=chosen_here(h5p.create(h5p.DATASET_CREATE)),
            )
        self._fresh.add(handle.id)
        return SerialDataset(handle, self.path, fresh=self._fresh)

    def _first_chunk_rows(self, dtype: npt.DTypeLike, row_shape: tuple[int, ...]) -> int:
        return short_rows(dtype, row_shape)

    def flush(self) -> None:
        """Hand everything to the operating system. Raises `FileError`, also if any write has failed before."""
        if self._writable:
            with self._writes:
                h5py.File.flush(self.file)
                self._fresh.replaced.clear()
        self._writes.check()

    def close(self) -> None:
        """Close the file. Raises `FileError`, also if any write has failed before."""
        if "_origin" in self.__dict__ and self._origin is not None:
            self._origin.close()
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
        """Let HDF5 write to a device that takes everything from now on, also where the size of files is limited."""
        with contextlib.suppress(ValueError, RuntimeError):  # it may be closed already
            descriptor = self.file.id.get_vfd_handle()
            sink = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(sink, descriptor, inheritable=False)
            os.close(sink)


def _address(dataset: h5d.DatasetID) -> int:
    return int(h5o.get_info(dataset).addr)


def copy_attributes(source: h5d.DatasetID, target: h5d.DatasetID) -> None:
    """Give an object the attributes of another one in the same file."""
    for number in range(h5a.get_num_attrs(source)):
        attribute = h5a.open(source, index=number)
        kind, space = attribute.get_type(), attribute.get_space()
        made = h5a.create(target, attribute.name, kind, space)
        if space.get_simple_extent_type() != h5s.NULL:
            # As HDF5 has them in memory: what is of variable length are pointers of its own.
            values = np.empty(attribute.shape, np.dtype((np.void, kind.get_size())))
            attribute.read(values, kind)
            made.write(values, kind)


def _wrapped(found: Any) -> h5py.HLObject:
    """Wrap an object of HDF5 as h5py's users have it."""
    if isinstance(found, h5d.DatasetID):
        return h5py.Dataset(found)
    return h5py.Group(found) if isinstance(found, h5g.GroupID) else h5py.Datatype(found)


def chunk_cache(chunk_bytes: int) -> int:
    """Say how many bytes HDF5 shall keep of a compressed dataset's chunks."""
    return max(min(max(chunk_bytes * _CACHED_CHUNKS, _MIN_CHUNK_CACHE), _MAX_CHUNK_CACHE), chunk_bytes)
