"""What a data file asks of the ranks that write it, one or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from h5flow.data.access.file_context import AppendingRanks
from h5flow.data.file.changes import Change
from h5flow.data.file.open_files import Opening
from h5flow.data.file.output_file import OutputFile

T = TypeVar("T")


class FileRanks(AppendingRanks, Opening, Protocol):
    """The ranks of a job. What changes the structure is collective, and called with the lock, let go meanwhile."""

    @property
    def all_open(self) -> bool:
        """Whether several ranks have the file open, and change it together."""
        ...

    def begin(self, output: OutputFile, source: str | None, *, opens: bool) -> None:
        """Have the output begin as a copy of a file, or as it is, or empty, and open it if ranks do so together."""
        ...

    def all_done(self, stopping: bool = False) -> bool:
        """Whether no rank has more slices, asked by one that hasn't any or is `stopping`."""
        ...

    def fence(self) -> None:
        """Have what any rank has written be seen by all."""
        ...

    def commit(self, change: Change) -> None:
        """Have all ranks make a change, each by itself, when they have agreed on it."""
        ...

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change that can't be sent, and that all ranks make by themselves."""
        ...

    def close(self, close: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """Have the file closed by `close` where it is complete. Collective.

        What is done `before` to the file is done by who owns it.
        """
        ...

    def end(self) -> None:
        """Do nothing together any more. Collective."""
        ...
