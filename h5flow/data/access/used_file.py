"""What h5py objects that components hold ask of the file that they are in, and keep open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import h5py

from h5flow.data.access.file_context import FileContext
from h5flow.data.access.observed_dataset import ObservedDataset

T = TypeVar("T")


class UsedFile(Protocol):
    """A file, its buffer included, which is open as long as anybody holds this."""

    @property
    def context(self) -> FileContext:
        """Return its lock, who watches it, and its ranks."""
        ...

    def observed(self, path: str) -> ObservedDataset | None:
        """Return the dataset at an absolute path, as components use it."""
        ...

    def lookups(self, path: str, column: int, counts: bool) -> tuple[ObservedDataset, ObservedDataset] | None:
        """Return the pairs at a path, and their region table, where other ranks write to them as well."""
        ...

    def flush(self) -> None:
        """Bring the file up to date."""
        ...

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change of the structure, which other ranks make as well; returns what it does. The lock is held."""
        ...

    def set_attributes(self, path: str, attributes: dict[str, Any]) -> None:
        """Set attributes of a group. Collective; the lock is held."""
        ...

    def forget(self, path: str) -> None:
        """Note that what lies at `path` has been removed or made otherwise than by the file."""
        ...

    def close(self) -> None:
        """Bring the file up to date and close it."""
        ...

    def untraced(self, what: str) -> None:
        """Tell that something of the file is going to be used that nobody keeps in order."""
        ...

    def is_own(self, found: h5py.HLObject) -> bool:
        """Say whether an object lies in the file, and not in one that a link leads to."""
        ...

    def make_own(self, path: str) -> None:
        """Make all groups of a path lie in the file, also where links lead to groups of others."""
        ...
