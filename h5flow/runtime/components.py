"""What the loop asks of generators and stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final, Protocol

#: What is given where a generator has no more slices.
ENDED: Final = object()


class Generator(Protocol):
    """Says which rows come next."""

    dset_name: str
    EMPTY: ClassVar[slice]

    def __iter__(self) -> Iterator[slice]: ...

    def next(self) -> Any:
        """Return the next rows, `EMPTY` when there are none; may be a coroutine function."""
        ...


class Stage(Protocol):
    """Processes slices."""

    name: str

    def run(self, source_name: str, source_slice: slice, cache: dict[str, Any]) -> Any:
        """Process one slice; may be a coroutine function."""
        ...


async def awaited_slice(generator: Generator) -> Any:
    """Await the next slice of a generator whose `next` is a coroutine function; `EMPTY` where an iterator ends it."""
    try:
        return await generator.next()
    except (RuntimeError, StopAsyncIteration) as error:
        # Python makes a RuntimeError of a StopIteration that leaves a coroutine.
        stop = error.__cause__ if isinstance(error, RuntimeError) else error
        if not isinstance(stop, StopIteration | StopAsyncIteration):
            raise
        from h5flow.runtime.endings import check_end

        check_end(stop, generator)
        return generator.EMPTY
