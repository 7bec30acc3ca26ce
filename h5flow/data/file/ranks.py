"""What a data file asks of the ranks that write it, one or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from h5flow.data.access.file_context import AppendingRanks
from h5flow.data.file.changes import Change
from h5flow.data.file.open_files import Opening
from h5flow.data.file.output_file import OutputFile

if TYPE_CHECKING:
    from h5flow.ranks.member import Components

T = TypeVar("T")


class FileRanks(AppendingRanks, Opening, Protocol):
    """The ranks of a job. What changes the structure is collective, and called with the lock, let go meanwhile."""

    @property
    def all_open(self) -> bool:
        """Say whether several ranks have the file open, and change it together."""
        ...

    def begin(self, output: OutputFile, source: str | None, *, opens: bool) -> None:
        """Begin the output as a copy of a file, or as it is, or empty, and open it if ranks do so together."""
        ...

    # a workflow

    @property
    def stopping(self) -> bool:
        """Say whether a rank has been asked to stop in time for all of them to know before the loop is over."""
        ...

    @property
    def waited(self) -> Mapping[int, float]:
        """Return the seconds that each component has waited for other ranks in the loop, by its position."""
        ...

    def communicator(self) -> Any:
        """Return a communicator that is its taker's own, until the `end`; `None` without other ranks. Collective."""
        ...

    def watch(self, names: Sequence[str], warning: float, abort: float | None, *, strict: bool) -> None:
        """Tell what ranks have been waiting for so long (seconds), and end all of them after `abort`.

        `names` are those of components; where it is `strict`, it is an error that ranks set attributes differently.
        """
        ...

    def work_for(self, components: Components) -> None:
        """Let calls belong to the components that are at work from now on."""
        ...

    def listen_for_stop(self, listener: Callable[[], None]) -> None:
        """Register a function to be called when any rank has been asked to stop."""
        ...

    def enter(self, part: int) -> None:
        """Begin the next call of a component's method before or after the loop, or the loop itself."""
        ...

    def ask(self, number: int) -> None:
        """Ask the generator for a slice."""
        ...

    def passed(self, number: int, position: int) -> None:
        """Note that a component is done with a slice."""
        ...

    def fail(self) -> None:
        """Note that this rank has failed, so that others don't wait for it."""
        ...

    def all_done(self, stopping: bool = False) -> bool:
        """Say whether no rank has more slices, asked by one that hasn't any or is `stopping`."""
        ...

    def fence(self) -> None:
        """Let all ranks see what any of them has written."""
        ...

    def commit(self, change: Change) -> None:
        """Make a change on all ranks, each by itself, when they have agreed on it."""
        ...

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change that can't be sent, and that all ranks make by themselves; returns what it does."""
        ...

    def close(self, close: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """Close the file by `close` where it is complete. Collective.

        What is done `before` to the file is done by who owns it.
        """
        ...

    def end(self) -> None:
        """Do nothing together any more. Collective."""
        ...
