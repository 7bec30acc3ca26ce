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
        """Whether components may do what they like, and need not tell."""
        ...

    def same_rows(self, resource: Resource, other: Resource) -> None:
        """The rows of a resource are those of another one, and appended with them."""
        ...

    def length(self, resource: Resource, now: int) -> int:
        """How many rows are to be seen, of those that there are now."""
        ...

    def counted(self, resource: Resource) -> None:
        """Somebody wants to know how many rows there are."""
        ...

    def read(self, resource: Resource, rows: Rows, as_lookup: bool = False) -> None:
        """Rows are going to be read; as a look-up, what has been updated `in_order` later doesn't matter."""
        ...

    def before_append(self, resource: Resource) -> None:
        """Rows are going to be added; the lock isn't let go between this and `append`."""
        ...

    def append(self, resource: Resource, length: int, grown: int) -> None:
        """To so many rows, so many are added."""
        ...

    def update(self, resource: Resource, rows: Rows, in_order: bool = False) -> None:
        """Rows that exist are going to be written; `in_order`, if appends to another resource order these writes."""
        ...

    def exists(self, path: str, found: bool) -> bool:
        """Something was looked for and found or not; returns whether it is to be seen."""
        ...

    def created(self, path: str) -> None:
        """Something is going to be created."""
        ...

    def everything(self, what: str) -> None:
        """The whole file is going to be used, in a way that can't be followed."""
        ...


class Nobody:
    """The observer of a file that nobody watches: everything there is is to be seen, and nobody waits."""

    leaves_alone = True

    def same_rows(self, resource: Resource, other: Resource) -> None:
        """Nothing."""

    def length(self, resource: Resource, now: int) -> int:
        """All rows."""
        return now

    def counted(self, resource: Resource) -> None:
        """Nothing."""

    def read(self, resource: Resource, rows: Rows, as_lookup: bool = False) -> None:
        """Nothing."""

    def before_append(self, resource: Resource) -> None:
        """Nothing."""

    def append(self, resource: Resource, length: int, grown: int) -> None:
        """Nothing."""

    def update(self, resource: Resource, rows: Rows, in_order: bool = False) -> None:
        """Nothing."""

    def exists(self, path: str, found: bool) -> bool:
        """What was found."""
        return found

    def created(self, path: str) -> None:
        """Nothing."""

    def everything(self, what: str) -> None:
        """Nothing."""


NOBODY = Nobody()
