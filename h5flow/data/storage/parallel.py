"""Storage that all ranks have open: HDF5 with MPI, where each rank writes its own rows.

Whatever changes the structure or the number of rows is collective, and is done by all ranks at a moment that they
have agreed on. Rows are read and written by each rank alone. So datasets have room for more rows than there are,
which is cut off when the file is closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d

from h5flow.data import layout
from h5flow.data.rows.row_ranges import RowRanges
from h5flow.data.storage.base import Array
from h5flow.data.storage.chunks.length import long_rows
from h5flow.data.storage.opening import FORMAT, open_file, writes_to_opened
from h5flow.data.storage.remote import Link, RankDataset, RemoteDataset
from h5flow.data.storage.serial import SerialDataset, SerialStorage
from h5flow.errors import DataMismatch

if TYPE_CHECKING:
    import numpy.typing as npt
    from mpi4py.MPI import Intracomm

_CURE = "choose runtime.storage: single-writer"

# Room for more rows is made in steps of half of what there is, but not less or more than so many bytes.
_SMALLEST_STEP = 256 << 10
_LARGEST_STEP = 32 << 20


class ParallelDataset(RankDataset):
    """A dataset of which each rank reads and writes rows by itself. `length` is what there is room for."""

    def __init__(self, handle: h5py.Dataset, storage: ParallelStorage) -> None:
        super().__init__(handle, storage.path, storage.original(handle.name))
        self._storage = storage
        self._dataset_path = str(handle.name)

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on; `values` has the dataset's own type and the rows exist."""
        self.check_writable()
        self._changed(start + len(values))
        super().write(start, values)

    def put(self, rows: npt.NDArray[np.int64], values: Array) -> None:
        """Raise `DataMismatch`: only Python objects are written like this, which ranks can't write by themselves."""
        self.check_writable()

    def check_writable(self) -> None:
        """Raise `DataMismatch` if HDF5 can't have ranks write such rows by themselves."""
        check_writable(self.handle.id, self._dataset_path)

    def resize(self, length: int) -> None:
        """Do nothing: ranks make room together, see `extend`."""

    def extend(self, length: int) -> None:
        """Make room for so many rows. Collective."""
        super().resize(length)


class ParallelPairs(ParallelDataset):
    """References, of which each rank knows its own, what others have told of, and those that are published.

    What other ranks have reserved but not written yet would look like references to the first row.
    """

    def __init__(self, handle: h5py.Dataset, storage: ParallelStorage) -> None:
        super().__init__(handle, storage)
        self._published = self.length
        self._own, self._seen = RowRanges(), RowRanges()

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop`, which must exist, into a fresh array."""
        values = super().read(start, stop)
        if stop > self._published:
            seen = self._seen.mask(start, stop)
            seen[: max(0, self._published - start)] = True
            values[~seen] = np.iinfo(self.dtype).max
        return values

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on; `values` has the dataset's own type and the rows exist."""
        super().write(start, values)
        for ranges in (self._own, self._seen):
            ranges.add(start, start + len(values))

    def others_have_written(self, stop: int, parts: Iterable[tuple[int, int]]) -> None:
        """Note that other ranks have written rows up to `stop`, and have told which parts of these."""
        super().others_have_written(stop, parts)
        for part in parts:
            self._seen.add(*part)

    def written_between(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return which rows this rank has written."""
        return self._own.between(start, stop)

    def forget_original(self) -> None:
        """Note that the file holds what all ranks have written."""
        super().forget_original()
        self._published = self.length
        self._own.clear()
        self._seen.clear()


class OwnedDataset(RemoteDataset):
    """A region table: rows of it are widened by several ranks, so rank 0 writes all of them."""

    def __init__(self, handle: h5py.Dataset, storage: ParallelStorage) -> None:
        super().__init__(handle, storage.path, storage.link, storage.original(handle.name))
        self._storage = storage

    def merge(self, start: int, values: Array) -> None:
        """Widen rows from `start` on, of a region table, to enclose these regions as well."""
        super().merge(start, values)

    def resize(self, length: int) -> None:
        """Do nothing: ranks make room together, see `extend`."""

    def extend(self, length: int) -> None:
        """Make room for so many rows. Collective."""
        super().resize(length)


#: What all ranks make longer together.
Together = ParallelDataset | OwnedDataset


class ParallelStorage(SerialStorage):
    """An HDF5 file that all ranks of a communicator open, create and close together.

    `link` leads to rank 0, which owns the region tables; `original` is a file of the same rows that nobody changes.
    """

    def __init__(self, path: str, mode: str, comm: Intracomm, link: Link, original: str | None) -> None:
        self.path = path
        self.file = open_file(path, mode, driver="mpio", comm=comm, libver=FORMAT)
        self.link = link
        #: Whether this rank has written anything since somebody has reset this.
        self._writable = True
        self._writes = writes_to_opened(path)
        self._owns_regions = comm.Get_rank() == 0
        self._original = None if original is None else SerialStorage(original, "r", locking=False)

    def original(self, path: str) -> Any:
        """Return the dataset in the file of which the output began as a copy, `None` where there is none."""
        return None if self._original is None else self._original.dataset(path)

    def dataset(self, path: str) -> SerialDataset | None:
        """Return the dataset at an absolute path, `None` where there is none."""
        here = super().dataset(path)
        return here if here is None or here.elsewhere else self._shared(path, here.handle)

    def create(self, path: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...], compression: str | None) -> Together:
        """Create an empty dataset, with the groups above it. Collective. Raises `DataMismatch`."""
        if np.dtype(dtype).hasobject:
            raise DataMismatch(
                f"'{path}': ranks can't write values of variable length by themselves; {_CURE}, or for text use bytes"
                " ('S8')"
            )
        return self._shared(path, super().create(path, dtype, row_shape, None).handle)

    def _first_chunk_rows(self, dtype: npt.DTypeLike, row_shape: tuple[int, ...]) -> int:
        return long_rows(dtype, row_shape)  # what ranks have open together keeps its chunks

    def _shared(self, path: str, handle: h5py.Dataset) -> Together:
        if path.endswith("/ref_region") and not self._owns_regions:
            return OwnedDataset(handle, self)
        if layout.is_reference(path):
            return ParallelPairs(handle, self)
        return ParallelDataset(handle, self)

    def close(self) -> None:
        """Close the file. Collective. Raises `FileError`."""
        super().close()
        if self._original is not None:
            self._original.close()

    def give_up(self) -> None:
        """Leave the file as it is: closing it would wait for the other ranks."""


def room(length: int, now: int, row_bytes: int) -> int:
    """Say for how many rows there shall be room, if there are `length` and there is room for `now`."""
    step = min(max(now // 2, _SMALLEST_STEP // row_bytes), _LARGEST_STEP // row_bytes)
    return max(length, now + step)


def check_writable(found: h5d.DatasetID, path: str) -> None:
    """Raise `DataMismatch` if HDF5 can't have ranks write rows of a dataset by themselves."""
    if found.get_create_plist().get_nfilters():
        raise DataMismatch(f"dataset '{path}' is compressed, and ranks can't write to it by themselves; {_CURE}")
    if found.dtype.hasobject:
        raise DataMismatch(
            f"dataset '{path}' has values of variable length, and ranks can't write them by themselves; {_CURE}"
        )
