"""What a rank's coordination asks of those that it serves: the file, and the components that are at work on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from h5flow.ranks.rounds import Resource, Round, RunMoment

#: Gives, for each rank that others wait for, in words what it hasn't done, from the names of the components.
Late = Callable[[Sequence[str]], list[str]]


class Components(Protocol):
    """The components of a workflow, as those know them that run them."""

    def at_work(self) -> tuple[int, int] | None:
        """Return the slice and the position of the component at work in the calling thread, `None` outside the loop."""
        ...

    def before_waiting(self) -> None:
        """Hand on what is finished, since the calling thread is going to wait for other ranks; may raise."""
        ...

    def acting_at(self, moment: RunMoment) -> AbstractContextManager[object]:
        """Let the calling thread act for the component of a moment, for the duration of the block."""
        ...


class NoComponents:
    """The components where no workflow runs."""

    def at_work(self) -> tuple[int, int] | None:
        """Return `None`: nobody is at work."""
        return None

    def before_waiting(self) -> None:
        """Do nothing: nobody has anything to hand on."""

    def acting_at(self, _moment: RunMoment) -> AbstractContextManager[object]:
        """Do nothing: nobody is told who acts."""
        return nullcontext()


class Member(Protocol):
    """A rank's part in what ranks do together. All but `carry_out` and `stalled` are called with the file's lock."""

    @property
    def components(self) -> Components:
        """Return the components at work."""
        ...

    @property
    def all_open(self) -> bool:
        """Say whether all ranks have the file open, so that there are rounds that they carry out at once."""
        ...

    def apply(self, closed: Round, own: Any) -> Any:
        """Do what ranks have agreed on; what it returns or raises is the outcome of the call.

        Called on each rank for each closed round, in the same order: by the thread that has joined it, where `own` is
        what that gave for it, or by another one, then `own` is `None`.
        """
        ...

    def concerns_all(self, closed: Round) -> bool:
        """Say whether a round is carried out by all ranks at once, which all of them find alike."""
        ...

    def carry_out(self, closed: Round, own: Any) -> Any:
        """Do as `apply` at once with all other ranks, waiting for them: without the lock, in a thread of its own."""
        ...

    def serve(self, request: tuple[Any, ...]) -> Any:
        """Do what the owner of the file is asked for; the result is sent back where one is awaited."""
        ...

    def deliver(self, resource: Resource, *request: Any) -> Any:
        """Do what each rank is asked for about a resource, after all that has been agreed on before."""
        ...

    def stalled(self, seconds: float, late: Late) -> None:
        """Take note, on rank 0, how long the same ranks have been waited for; called every now and then, not locked."""
        ...
