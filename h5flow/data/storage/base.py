"""What the data layer asks of a storage: datasets that grow along their first axis, and groups with attributes.

A storage does the reading and writing and nothing else: no buffering, no references, no names of components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import h5py
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, np.dtype[Any]]


class StoredDataset(Protocol):
    """Rows in a file. `dtype` and `row_shape` are those of the arrays that are read."""

    handle: h5py.Dataset
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    chunk_rows: int
    length: int
    #: From so many rows on `lengthened` gives the dataset longer chunks, `None` if it has its final ones.
    long_rows: int | None
    #: Whether `resize` can work.
    growable: bool
    #: Whether other ranks may write to rows between those that are written here.
    shared: bool
    #: A sentence that says so where the rows lie in another file, which is only read.
    elsewhere: str
    #: The dataset in a file of which this rank may read the chunks, if there is one.
    raw_handle: h5py.Dataset | None

    @property
    def readable(self) -> int:
        """Say how many rows can be read; those behind are written by nobody yet, or by others."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop`, which must exist, into a fresh array."""
        ...

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on; `values` has the dataset's own type and the rows exist."""
        ...

    def put(self, rows: npt.NDArray[np.int64], values: Array) -> None:
        """Write the given rows: ascending, without repeats."""
        ...

    def merge(self, start: int, values: Array) -> None:
        """Widen rows from `start` on, of a region table, to enclose these regions as well."""
        ...

    def resize(self, length: int) -> None:
        """Set the number of rows."""
        ...

    def fix(self) -> None:
        """Keep the dataset the same object, since something in the file may refer to it."""
        ...

    @property
    def is_in_use(self) -> bool:
        """Say whether somebody would go on with this dataset when there is another one in its place."""
        ...

    def lengthened(self) -> StoredDataset:
        """Replace the dataset by one with longer chunks, and return that; this object can't be used any more."""
        ...


class Storage(Protocol):
    """One HDF5 file."""

    path: str
    file: h5py.File

    def begins_as(self, origin: str | None) -> None:
        """Say which file this one began as a copy of, from where links to other files lead on."""
        ...

    def dataset(self, path: str) -> StoredDataset | None:
        """Return the dataset at an absolute path, `None` where there is none."""
        ...

    def find(self, path: str) -> h5py.HLObject | None:
        """Return the object at a path, `None` where there is none; in another file it is only read."""
        ...

    def make_own(self, path: str) -> None:
        """Make all groups of a path lie in this file, also where links lead to groups of others. Raises `FileError`."""
        ...

    def remove(self, path: str) -> None:
        """Take away what is at a path; where that is a link, what it leads to stays."""
        ...

    def create(
        self, path: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...], compression: str | None
    ) -> StoredDataset:
        """Create an empty dataset, with the groups above it."""
        ...

    def flush(self) -> None:
        """Hand everything to the operating system. Raises `FileError`, also if any write has failed before."""
        ...

    def close(self) -> None:
        """Close the file. Raises `FileError`, also if any write has failed before."""
        ...

    def give_up(self) -> None:
        """Close a file that can't be written; what isn't in it yet is lost."""
        ...
