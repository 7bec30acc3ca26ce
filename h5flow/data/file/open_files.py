"""The HDF5 files of a run, opened on first use: the output and, beside it, one for what is to be dropped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import h5py

from h5flow.data import layout
from h5flow.data.storage import Storage
from h5flow.data.storage.links import file_of
from h5flow.data.storage.memory import MemoryStorage
from h5flow.data.storage.working_files import TEMPORARY
from h5flow.errors import DataMismatch


class Opening(Protocol):
    """How the ranks of a job open its files."""

    def opened(self, original: str | None) -> Storage:
        """Open the output, on all ranks together; `original` is a file of which it is a copy that nobody changes."""
        ...

    def storage(self, path: str, mode: str) -> Storage:
        """Open a file of this rank."""
        ...


class OpenFiles:
    """The output at `path`, a temporary file for what lies at or below the names in `drop`, and one in memory."""

    def __init__(self, path: str, mode: str, drop: tuple[str, ...], compression: str | None) -> None:
        self.path = path
        self.mode = mode
        self.drop = tuple(layout.normalise(name) for name in drop)
        self._compression = compression
        self._opening: Opening | None = None
        self._origin: str | None = None
        self._main: Storage | None = None
        self._temporary: Storage | None = None
        self._temporary_path: Path | None = None
        self._lacking: MemoryStorage | None = None
        self._deleted: set[str] = set()

    # opening and closing

    def opened_by(self, opening: Opening) -> None:
        """Say who opens the files; done once, before any is."""
        self._opening = opening

    def begins_as(self, origin: str | None) -> None:
        """Say which file the output began as a copy of."""
        self._origin = origin

    def open(self, original: str | None = None) -> None:
        """Open the output, on all ranks together; `original` is a file of which it is a copy that nobody changes."""
        assert self._opening is not None
        self._main = self._opening.opened(original)
        self._main.begins_as(self._origin)
        if self.mode in ("w", "w-", "x"):
            self.mode = "a"  # opening once more must not lose what has been written

    def replaced(self) -> None:
        """Note that there is another file now at the path of the output, which is to be changed."""
        self.mode = "a"

    @property
    def is_open(self) -> bool:
        """Say whether the output is open."""
        return self._main is not None

    @property
    def main(self) -> Storage:
        """Return the output, opened on first use."""
        if self._main is None:
            self.open()
        assert self._main is not None
        return self._main

    @property
    def temporary(self) -> Storage:
        """Return the file for what is to be dropped, made on first use."""
        if self._temporary is None:
            if self._temporary_path is None:
                stamp = time.strftime("%Y%m%d-%H%M%S")
                name = f"{TEMPORARY}{stamp}-{os.urandom(16).hex()}.h5"
                self._temporary_path = Path(self.path).absolute().with_name(name)
            assert self._opening is not None
            self._temporary = self._opening.storage(str(self._temporary_path), "a")
        return self._temporary

    @property
    def lacking(self) -> MemoryStorage:
        """Return what the files ought to have and don't, in memory."""
        if self._lacking is None:
            self._lacking = MemoryStorage()
        return self._lacking

    def is_lacking(self, path: str) -> bool:
        """Say whether what is at a path is in memory, as the files lack it."""
        return self._lacking is not None and path in self._lacking.file

    def no_longer_lacking(self, path: str) -> None:
        """Let go of what is in memory at a path."""
        if self.is_lacking(path):
            del self.lacking.file[path]

    def open_storages(self) -> list[Storage]:
        """Return all files that are open."""
        return [storage for storage in (self._main, self._temporary, self._lacking) if storage is not None]

    def let_go(self) -> None:
        """Let go of the files, so that the next use opens them again; the caller closes those that are open."""
        self._main = self._temporary = self._lacking = None

    def remove_temporary(self) -> None:
        """Remove the temporary file, which must be closed."""
        if self._temporary_path is not None:
            self._temporary_path.unlink(missing_ok=True)
            self._temporary_path = None

    # what is where

    def searched(self) -> Iterator[Storage]:
        """Yield the files in which names are looked up, in order."""
        yield self.main
        if self._temporary_path is not None:
            yield self.temporary

    def find(self, path: str) -> h5py.HLObject | None:
        """Return the object at a path in either file."""
        for storage in self.searched():
            found = storage.find(path)
            if found is not None:
                return found
        return None

    def holding(self, path: str) -> Storage:
        """Return the file that has something at a path."""
        return next(storage for storage in self.searched() if storage.find(path) is not None)

    def storage_of(self, *names: str) -> Storage:
        """Return the file to which the groups `names`, or a reference between them, belong."""
        if self.drop and any(layout.lies_in(name, self.drop) and self.main.find(name) is None for name in names):
            return self.temporary
        return self.main

    def compression_of(self, storage: Storage) -> str | None:
        """Say how datasets that are made in a file are compressed."""
        return self._compression if storage is self._main else None

    def is_own(self, found: h5py.HLObject) -> bool:
        """Say whether an object lies in one of the files, and not in one that a link leads to."""
        return any(not file_of(found.id, storage.file) for storage in self.open_storages())

    def make_own(self, path: str) -> None:
        """Make all groups of a path lie in the file that has them, also where links lead to groups of others."""
        self.storage_of(path).make_own(path)

    def deleting(self, name: str) -> None:
        """Note that there was something of a name, which is going to be deleted."""
        self._deleted.add(name)

    def never_there(self) -> list[str]:
        """List what is to be dropped of which there has been nothing, neither in the file nor in the temporary one."""
        return [
            name
            for name in dict.fromkeys(self.drop)
            if self.find(name) is None and not any(layout.lies_in(gone, (name,)) for gone in self._deleted)
        ]

    def check_free(self, storage: Storage, path: str, what: str, as_group: bool = False) -> None:
        """Raise `DataMismatch` where something at or above a path keeps `what` from being made there."""
        parts = path.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            above = "/" + "/".join(parts[:count])
            found = storage.find(above)
            if found is None:
                return
            if not isinstance(found, h5py.Group) or (count == len(parts) and not as_group):
                kind = "group" if isinstance(found, h5py.Group) else "dataset"
                raise DataMismatch(
                    f"{what} can't be made in '{self.path}': '{above}' is a {kind} there; choose another name"
                )

    def missing_above(self, path: str) -> tuple[str, ...]:
        """Return the groups of a path, and the path itself, that there aren't."""
        parts = path.strip("/").split("/")
        paths = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        return tuple("/" + above for above in paths if self.find(above) is None)
