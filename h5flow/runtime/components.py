"""What the loop asks of generators and stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol


class Generator(Protocol):
    """Says which rows come next."""

    dset_name: str
    EMPTY: ClassVar[slice]

    def __iter__(self) -> Iterator[slice]: ...

    def next(self) -> Any:
        """The next rows, `EMPTY` when there are none; may be a coroutine function."""
        ...


class Stage(Protocol):
    """Processes slices."""

    name: str

    def run(self, source_name: str, source_slice: slice, cache: dict[str, Any]) -> Any:
        """Process one slice; may be a coroutine function."""
        ...
