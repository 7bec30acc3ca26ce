"""What all who use one data file share: its lock, who watches them, and the ranks that append to it together."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from h5flow.data.access.observer import NOBODY, Observer
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.references.reference import Reference


class AppendingRanks(Protocol):
    """The ranks that append rows, one or many. The lock is held, and let go while waiting for other ranks."""

    @property
    def several(self) -> bool:
        """Say whether there are other ranks."""
        ...

    def append(self, rows: PagedDataset, count: int) -> int:
        """Append rows that all ranks reserve together, in the order of ranks; the number of this rank's first."""
        ...

    def append_references(self, reference: Reference, pairs: Any) -> None:
        """Append pairs of row numbers, in the order of ranks; where they go may be agreed on later."""
        ...

    def reserve(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Reserve rows up to `stop`, or what other ranks want at least; those from `start` on are for this rank."""
        ...

    def fetch(self, rows: PagedDataset, start: int, stop: int) -> None:
        """Let this rank see what others have written by now to rows `start:stop`."""
        ...

    def wait_for(self, table: PagedDataset) -> None:
        """Wait until what is to be done to a table later has been done."""
        ...


class FileContext:
    """The lock of a data file, its condition, the observer and the ranks.

    The lock is held while anything of the file, its datasets' pages included, is looked at or changed.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: For those who wait for others to let go of something, or to get on.
        self.file_changed = threading.Condition(self.lock)
        self._watching: Observer = NOBODY
        #: The ranks that write the file, from `shared_by` on.
        self.ranks: AppendingRanks

    def shared_by(self, ranks: AppendingRanks) -> None:
        """Say which ranks write the file; done once, before anybody uses it."""
        self.ranks = ranks

    def watched_by(self, observer: Observer) -> None:
        """Tell an observer of all accesses, instead of the one before."""
        self._watching = observer

    @property
    def observer(self) -> Observer:
        """Return who is to be told of accesses by the component at work; the lock is held."""
        watching = self._watching
        return NOBODY if watching.leaves_alone else watching

    @property
    def watching(self) -> Observer:
        """Return who is to be told of changes of the structure, also by a component that is left alone otherwise."""
        return self._watching
