"""Storage for a rank that doesn't own the file: the rows are with rank 0, everything else is here in memory.

Groups, attributes and datasets without their rows are a skeleton of the file, in an HDF5 file in memory; what changes
them happens on all ranks alike. Rows are sent to rank 0 and fetched from there, except those of the file that the
output began as, which nobody changes and each rank reads by itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import h5py
import numpy as np

from h5flow.data.storage.base import Array
from h5flow.data.storage.object_references import leading_to, portable, unpacked
from h5flow.data.storage.opening import open_file
from h5flow.data.storage.serial import SerialDataset, SerialStorage
from h5flow.data.storage.skeleton import new_skeleton

if TYPE_CHECKING:
    import numpy.typing as npt

# Rows are sent in messages of about so many bytes.
_MESSAGE = 16 << 20


class Link(Protocol):
    """The way to the rank that owns the file."""

    def send(self, *request: Any) -> None:
        """Let the owner do something."""
        ...

    def request(self, *request: Any) -> Any:
        """Let the owner do something, and wait for what comes of it."""
        ...


class RankDataset(SerialDataset):
    """A dataset that other ranks write to as well; rows that nobody has changed come from the `original`."""

    shared = True

    def __init__(self, handle: h5py.Dataset, path: str, original: SerialDataset | None) -> None:
        super().__init__(handle, path)
        self.long_rows = None  # that is for the owner to decide
        self._original = original
        self._known: int = self.length
        self.raw_handle = None if original is None else original.handle

    @property
    def readable(self) -> int:
        """Say how many rows can be read."""
        return self._known

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop`, which must exist, into a fresh array."""
        original = self._original
        if original is not None and stop <= original.length:
            return original.read(start, stop)
        return super().read(start, stop)

    def others_have_written(self, stop: int, _parts: Iterable[tuple[int, int]]) -> None:
        """Note that other ranks have written rows up to `stop`, and have told which parts of these."""
        self._known = max(self._known, stop)

    def written_between(self, _start: int, _stop: int) -> list[tuple[int, int]]:
        """Return which rows this rank has written, where others have to be told."""
        return []

    def forget_original(self) -> None:
        """Note that other ranks may have written to any row."""
        self._original = None
        self._known = self.length

    def _changed(self, stop: int) -> None:
        self._original = None
        self._known = max(self._known, stop)


class RemoteDataset(RankDataset):
    """A dataset whose rows are with the owner of the file."""

    def __init__(self, handle: h5py.Dataset, path: str, link: Link, original: SerialDataset | None) -> None:
        super().__init__(handle, path, original)
        self._name = str(handle.name)
        self._link = link

    def read(self, start: int, stop: int) -> Array:
        """Read rows `start:stop`, which must exist, into a fresh array."""
        original = self._original
        if original is not None and stop <= original.length:
            values: Array = original.read(start, stop)
            return leading_to(self.handle.file, values, original.handle.file) if self.dtype.hasobject else values
        values = self._link.request("read", self._name, start, stop)
        return unpacked(values, self.handle.file).astype(self.dtype) if self.dtype.hasobject else values

    def write(self, start: int, values: Array) -> None:
        """Write rows from `start` on; they are the owner's as soon as it gets them."""
        self._changed(start + len(values))
        if self.dtype.hasobject:
            self._link.send("write", self._name, start, portable(values, self.handle.file))
            return
        for first, part in _messages(values):
            self._link.send("write", self._name, start + first, part)

    def put(self, rows: npt.NDArray[np.int64], values: Array) -> None:
        """Write the given rows: ascending, without repeats."""
        self._changed(int(rows[-1]) + 1 if len(rows) else 0)
        if self.dtype.hasobject:
            values = portable(values, self.handle.file)
        self._link.send("put", self._name, rows, values)

    def merge(self, start: int, values: Array) -> None:
        """Widen rows from `start` on, of a region table, to enclose these regions as well."""
        self._changed(start + len(values))
        for first, part in _messages(values):
            self._link.send("merge", self._name, start + first, part)


def _messages(values: Array) -> Any:
    count = max(1, _MESSAGE // max(1, values.nbytes // max(1, len(values))))
    for first in range(0, len(values), count):
        yield first, np.ascontiguousarray(values[first : first + count])


class RemoteStorage(SerialStorage):
    """A file that another rank owns. `skeleton` is a file of the same structure, `original` one of the same rows."""

    def __init__(self, path: str, link: Link, skeleton: str | None, original: str | None) -> None:
        self.path = path
        self._writable = True
        self._link = link
        self._original = None
        # In the folder of the file, from where its links to other files lead on.
        name = str(Path(path).with_name(f"h5flow-{os.urandom(16).hex()}"))
        with contextlib.ExitStack() as opened:
            source = None if skeleton is None else opened.enter_context(open_file(skeleton, "r", locking=False))
            self.file = new_skeleton(name, source, driver="core", backing_store=False)
        if original is not None:
            self._original = SerialStorage(original, "r", locking=False)

    def dataset(self, path: str) -> SerialDataset | None:
        """Return the dataset at an absolute path, `None` where there is none."""
        here = super().dataset(path)
        if here is None or here.elsewhere:
            return here
        original = None if self._original is None else self._original.dataset(path)
        if original is not None and original.elsewhere:
            return original
        return RemoteDataset(here.handle, self.path, self._link, original)

    def create(
        self, path: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...], compression: str | None
    ) -> RemoteDataset:
        """Create an empty dataset, with the groups above it."""
        here = super().create(path, dtype, row_shape, compression)
        return RemoteDataset(here.handle, self.path, self._link, None)

    def close(self) -> None:
        """Let go of everything."""
        self.file.close()
        if self._original is not None:
            self._original.close()

    def give_up(self) -> None:
        """Let go of everything."""
        self.close()
