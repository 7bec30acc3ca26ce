"""What is done with a slice: one step for each stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from h5flow.errors import H5FlowError
from h5flow.runtime.components import Stage
from h5flow.runtime.failure import Where, locate
from h5flow.runtime.hazards import Prefetched
from h5flow.runtime.slice_timing import SliceTiming
from h5flow.workflow import Requirement


class Slice(msgspec.Struct):
    """Rows of the source on their way through the stages, and the cache that goes with them."""

    number: int
    rows: slice
    cache: dict[str, Any] = msgspec.field(default_factory=dict)
    #: What has been loaded ahead, by name in the cache.
    prefetched: dict[str, Prefetched] = msgspec.field(default_factory=dict)
    #: What all components together have worked on it.
    seconds: float = 0.0
    #: What loading took thereof, and the component that took longest.
    loading: float = 0.0
    longest: float = 0.0
    #: How many bytes its cache held when a stage was done with it, `None` where that wasn't looked at; and at most.
    size: int | None = None
    most: int = 0
    #: Where its time goes, where somebody wants to know.
    timing: SliceTiming | None = None

    def note(self, loading: float, running: float) -> None:
        """Note what a stage has taken, in seconds."""
        self.seconds += loading + running
        self.loading += loading
        if running > self.longest:
            self.longest = running

    def release(self) -> None:
        """Free what the slice holds, though somebody may still refer to it: no stage will look at it."""
        self.cache, self.prefetched = {}, {}


class Step(msgspec.Struct, frozen=True):
    """A stage, and what the cache shall hold when it runs: all that it and the stages before it require."""

    stage: Stage
    where: Where
    #: What this stage is the first to require.
    own: tuple[Requirement, ...]
    requirements: tuple[Requirement, ...]
    kept: frozenset[str]

    def purge(self, cache: dict[str, Any]) -> None:
        """Remove what neither this stage nor one before it requires."""
        for name in [name for name in cache if name not in self.kept]:
            del cache[name]


def steps(stages: Iterable[tuple[Stage, Where, Iterable[Requirement]]], source: str) -> tuple[Step, ...]:
    """Make the steps of a loop over dataset `source`."""
    result: list[Step] = []
    so_far: tuple[Requirement, ...] = ()
    for stage, where, requirements in stages:
        own: dict[str, Requirement] = {}
        for requirement in requirements:
            if requirement.name not in {source, *(earlier.name for earlier in so_far)}:
                own.setdefault(requirement.name, requirement)
        so_far += tuple(requirements)
        kept = frozenset(requirement.name for requirement in so_far) | {source}
        result.append(Step(stage, where, tuple(own.values()), so_far, kept))
    return tuple(result)


class Done(msgspec.Struct):
    """How far a loop got."""

    slices: int = 0
    rows: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(self.slices + other.slices, self.rows + other.rows)

    def count(self, rows: slice) -> None:
        """Count a slice that has passed all stages; `EMPTY`, given to a rank that others go on without, is none."""
        if rows == slice(-1, -1):
            return
        self.slices += 1
        if rows.start is not None and rows.stop is not None:
            # Plain numbers: generators have them from arrays, and what is counted is told as JSON.
            self.rows += max(0, int(rows.stop) - int(rows.start))


def checked_slice(rows: object, where: Where) -> slice:
    """Return what a generator's `next` has returned. Raises `H5FlowError` if it is no slice."""
    if isinstance(rows, slice):
        return rows
    if rows is None:
        wrong = H5FlowError(
            "next() has returned nothing: each way through it has to end with `return` and a slice, or with"
            " `return self.EMPTY` when there are no more"
        )
    else:
        wrong = H5FlowError(f"next() must return a slice, got {rows!r}")
    locate(wrong, where)
    raise wrong
