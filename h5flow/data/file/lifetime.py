"""Until when a data file is needed: as long as somebody who uses it is there."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import h5py

from h5flow.data.access.file_context import FileContext
from h5flow.data.access.observed_dataset import ObservedDataset
from h5flow.data.file.changes import SetAttributes
from h5flow.data.file.data_file import DataFile

T = TypeVar("T")


class KeepAlive:
    """Held by all who use a data file: managers and the h5py objects that they hand out.

    When none of them is left, and at the latest when the interpreter exits, what is buffered is written and the
    file closed. The data file itself can't see to that: it and its open files refer to each other, so
    it would be freed late, and at exit not at all.
    """

    def __init__(self, file: DataFile) -> None:
        self._file = file
        weakref.finalize(self, _end, file, os.getpid())

    @property
    def context(self) -> FileContext:
        """Return the lock of the file, who watches it, and its ranks."""
        return self._file.context

    def observed(self, path: str) -> ObservedDataset | None:
        """Return the dataset at an absolute path, as components use it."""
        return self._file.catalog.observed(path)

    def lookups(self, path: str, column: int, counts: bool) -> tuple[ObservedDataset, ObservedDataset] | None:
        """Return the pairs at a path, and their region table, where other ranks write to them as well."""
        return self._file.catalog.lookups(path, column, counts)

    def flush(self) -> None:
        """Bring the file up to date."""
        self._file.flush()

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change of the structure, which other ranks make as well; returns what it does. The lock is held."""
        return self._file.ranks.alike(change)

    def set_attributes(self, path: str, attributes: dict[str, Any]) -> None:
        """Set attributes of a group, which is made if needed. Collective; the lock is held. Raises `DataMismatch`."""
        self._file.commit(SetAttributes(path, attributes))

    def forget(self, path: str) -> None:
        """Note that what lies at `path` has been removed or made otherwise than by the file."""
        self._file.catalog.forget(path)

    def close(self) -> None:
        """Bring the file up to date and close it."""
        self._file.close()

    def untraced(self, what: str) -> None:
        """Tell that something of the file is going to be used that nobody keeps in order."""
        with self._file.context.lock:
            self._file.context.watching.everything(what)

    def is_own(self, found: h5py.HLObject) -> bool:
        """Say whether an object lies in the file, and not in one that a link leads to."""
        return self._file.files.is_own(found)

    def make_own(self, path: str) -> None:
        """Make all groups of a path lie in the file, also where links lead to groups of others."""
        self._file.files.make_own(path)


def _end(file: DataFile, process: int) -> None:
    # A forked process has the parent's buffer, which only the parent may write.
    if os.getpid() == process:
        file.abandon(for_others=True)
