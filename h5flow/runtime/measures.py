"""What slices take: where their time goes, noted by the actors and added up here.

An actor notes moments only, as `time.perf_counter` has them, in the timing of a slice. Without anybody who wants to
know there are no timings, and nothing is noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from h5flow.runtime.slice_timing import SliceTiming
from h5flow.runtime.steps import Slice
from h5flow.runtime.task_context import TaskContext, task_context
from h5flow.telemetry.events import ActorTotals, SliceDone, StageMeasures
from h5flow.telemetry.journal import Journal, is_heard, tell

if TYPE_CHECKING:
    from h5flow.data import H5FlowDataManager

#: The actors before the stages, and after them.
GENERATOR, PREFETCHER, COMMITTER = "generator", "prefetcher", "committer"
#: What the prefetcher's queue is called.
PREFETCH = "prefetch"

_WRITING = ("reserve_data", "write_data", "write_ref", "create_dset", "create_ref", "set_attrs", "delete")


class _Sums:
    """What one actor has spent."""

    __slots__ = ("held", "load", "prefetch", "run", "slices", "wait", "write")

    def __init__(self) -> None:
        self.wait = self.prefetch = self.load = self.run = self.write = self.held = 0.0
        self.slices = 0

    def totals(self) -> ActorTotals:
        return ActorTotals(
            wait_s=self.wait,
            prefetch_s=self.prefetch,
            load_s=self.load,
            run_s=self.run,
            write_s=self.write,
            held_s=self.held,
            slices=self.slices,
        )


class Measures:
    """What the slices of a loop have taken on this rank."""

    def __init__(self, journal: Journal, stages: Sequence[str]) -> None:
        self._journal = journal
        self._stages = list(stages)
        self._sums = [_Sums() for _ in range(len(stages) + 1)]
        self._prefetcher, self._committer = _Sums(), _Sums()
        self._in_flight: dict[int, Slice] = {}
        self._told = is_heard(SliceDone, SliceDone.LEVEL)
        #: What slices that are done held in their caches.
        self.bytes = 0
        #: Told of each slice that is done, and of what is written between slices.
        self.watchers: list[Callable[[Slice], None]] = []
        self.settling: list[Callable[[float, float], None]] = []

    @property
    def actors(self) -> dict[str, ActorTotals]:
        """Return what each actor has spent on slices that are done, by name, in the order of the actors."""
        generator, *stages = [sums.totals() for sums in self._sums]
        named = {GENERATOR: generator, PREFETCHER: self._prefetcher.totals()}
        return (
            named | dict(zip(map(actor_of, self._stages), stages, strict=True)) | {COMMITTER: self._committer.totals()}
        )

    def begin(self, item: Slice, began: float, made: float, maker: TaskContext) -> None:
        """Note that the generator has made a slice."""
        item.timing = SliceTiming(began, made, maker)
        if self.watchers:
            self._in_flight[item.number] = item

    def abandon(self) -> None:
        """Tell watchers of what is in flight, as far as it came: the loop has failed."""
        for item in self._in_flight.values():
            for watch in self.watchers:
                watch(item)
        self._in_flight.clear()

    def done(self, item: Slice) -> None:
        """Note that a slice has passed all stages."""
        timing = item.timing
        if timing is None:
            return
        self._in_flight.pop(item.number, None)
        sums = self._sums
        sums[0].run += timing.made - timing.began - timing.wrote
        sums[0].write += timing.wrote
        sums[0].slices += 1
        if timing.loading is not None:
            began, ended = timing.loading
            self._prefetcher.load += ended - began
            self._prefetcher.wait += max(0.0, began - timing.made)
            self._prefetcher.slices += 1
        size = None
        for span in timing.spans:
            spent = sums[span.position]
            spent.wait += span.wait
            spent.prefetch += timing.ahead.get(span.position, 0.0)
            spent.load += span.loaded - span.began
            spent.run += span.ended - span.loaded - span.write
            spent.write += span.write
            spent.held += span.held
            spent.slices += 1
            size = size if span.size is None else span.size
        self.bytes += size or 0
        for watch in self.watchers:
            watch(item)
        if self._told and self._journal.in_sample(item.number):
            tell(self._event(item, timing), SliceDone.LEVEL)

    def settled(self, began: float, ended: float) -> None:
        """Note that what was buffered has been written."""
        self._committer.write += ended - began
        for watch in self.settling:
            watch(began, ended)

    def _event(self, item: Slice, timing: SliceTiming) -> SliceDone:
        start, stop = bounds(item.rows)
        origin = self._journal.began
        return SliceDone(
            slice_index=item.number,
            start=start,
            stop=stop,
            rows=max(0, stop - start) if start is not None and stop is not None else 0,
            began_s=_rounded(timing.began - origin),
            generator_s=_rounded(timing.made - timing.began),
            prefetch_began_s=None if timing.loading is None else _rounded(timing.loading[0] - origin),
            prefetch_s=_rounded(sum(timing.ahead.values())),
            in_flight_s=_rounded(time.perf_counter() - timing.began),
            stages={
                self._stages[span.position - 1]: StageMeasures(
                    began_s=_rounded(span.began - origin),
                    wait_s=_rounded(span.wait),
                    prefetch_s=_rounded(timing.ahead.get(span.position, 0.0)),
                    load_s=_rounded(span.loaded - span.began),
                    run_s=_rounded(span.ended - span.loaded - span.write),
                    write_s=_rounded(span.write),
                    held_s=_rounded(span.held),
                    bytes=span.size,
                )
                for span in timing.spans
            },
        )


class Unmeasured:
    """The measures where nobody wants to know: nothing is noted."""

    bytes = 0
    actors: ClassVar[Mapping[str, ActorTotals]] = {}

    def begin(self, item: Slice, began: float, made: float, maker: TaskContext) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""

    def done(self, item: Slice) -> None:
        """Do nothing."""

    def settled(self, began: float, ended: float) -> None:
        """Do nothing."""


def actor_of(stage: str) -> str:
    """Name the actor that runs a stage: it is called as the stage, unless one of the others is."""
    return f"stage '{stage}'" if stage in {GENERATOR, PREFETCHER, PREFETCH, COMMITTER} else stage


def bounds(rows: slice | None) -> tuple[int | None, int | None]:
    """Return the first row of a slice, and that after its last, as plain numbers."""
    if rows is None:
        return None, None
    return (None if rows.start is None else int(rows.start)), (None if rows.stop is None else int(rows.stop))


def time_writing(view: H5FlowDataManager) -> None:
    """Make a component's view of the data manager note what its writing calls take, in the caller's task context."""

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            acting = task_context.get()
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                if acting is not None:
                    acting.writing += time.perf_counter() - started

        return made

    for name in _WRITING:
        setattr(view, name, timed(getattr(view, name)))


def _rounded(seconds: float) -> float:
    return round(seconds, 7)
