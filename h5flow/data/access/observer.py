"""Who is told what components read and write, and may hold them up."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from h5flow.data.resource import Resource

#: A range of rows, row numbers (ascending, where they are read), or `None` for all rows and how many there are.
Rows = tuple[int, int] | np.ndarray[Any, np.dtype[np.int64]] | None


class Observer(Protocol):
    """Is told of each access, before it is made. What reads or appends may wait; all may raise.

    Calls come with the lock of the data file held; it is let go while waiting.
    """

    @property
    def leaves_alone(self) -> bool:
        """Say whether components may do what they like, and need not tell."""
        ...

    def same_rows(self, resource: Resource, other: Resource) -> None:
        """Note that the rows of a resource are those of another one, and appended with them."""
        ...

    def length(self, resource: Resource, now: int) -> int:
        """Say how many rows are to be seen, of those that there are now."""
        ...

    def counted(self, resource: Resource) -> None:
        """Note that somebody wants to know how many rows there are."""
        ...

    def read(self, resource: Resource, rows: Rows, as_lookup: bool = False) -> None:
        """Note that rows are going to be read; as a look-up, what has been updated `in_order` later doesn't matter."""
        ...

    def before_append(self, resource: Resource) -> None:
        """Note that rows are going to be added; the lock isn't let go between this and `append`."""
        ...

    def append(self, resource: Resource, length: int, grown: int) -> None:
        """Note that to so many rows so many are added."""
        ...

    def update(self, resource: Resource, rows: Rows, in_order: bool = False) -> None:
        """Note that existing rows are to be written; `in_order`, if appends to another resource order these writes."""
        ...

    def exists(self, path: str, found: bool) -> bool:
        """Note that something was looked for and found or not; return whether it is to be seen."""
        ...

    def created(self, path: str) -> None:
        """Note that something is going to be created."""
        ...

    def everything(self, what: str) -> None:
        """Note that the whole file is going to be used, in a way that can't be followed."""
        ...


class Nobody:
    """The observer of a file that nobody watches: everything there is is to be seen, and nobody waits."""

    leaves_alone = True

    def same_rows(self, resource: Resource, other: Resource) -> None:
        """Do nothing: nobody watches."""

    def length(self, resource: Resource, now: int) -> int:
        """Say that all rows are to be seen."""
        return now

    def counted(self, resource: Resource) -> None:
        """Do nothing: nobody watches."""

    def read(self, resource: Resource, rows: Rows, as_lookup: bool = False) -> None:
        """Do nothing: nobody watches."""

    def before_append(self, resource: Resource) -> None:
        """Do nothing: nobody watches."""

    def append(self, resource: Resource, length: int, grown: int) -> None:
        """Do nothing: nobody watches."""

    def update(self, resource: Resource, rows: Rows, in_order: bool = False) -> None:
        """Do nothing: nobody watches."""

    def exists(self, path: str, found: bool) -> bool:
        """Say that what was found is to be seen."""
        return found

    def created(self, path: str) -> None:
        """Do nothing: nobody watches."""

    def everything(self, what: str) -> None:
        """Do nothing: nobody watches."""


NOBODY = Nobody()
