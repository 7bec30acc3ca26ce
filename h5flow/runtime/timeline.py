"""Drawing the loop of a workflow: what its actors do, slice by slice, on the tracks of a trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from h5flow.runtime.measures import COMMITTER, GENERATOR, PREFETCHER, Measures, bounds
from h5flow.runtime.slice_timing import SliceTiming
from h5flow.telemetry.state import RunState
from h5flow.telemetry.trace import Trace

if TYPE_CHECKING:
    from h5flow.runtime.steps import Slice

# Counters are drawn at most so often, in seconds.
_COUNT = 2e-3


class Timeline:
    """Draws one workflow; `number` counts those of the job, and `prefix` tells them apart."""

    def __init__(
        self, trace: Trace, stages: Sequence[str], loaders: int, measures: Measures, number: int, prefix: str
    ) -> None:
        self._trace = trace
        self._prefix = prefix
        self._number = number
        self._generator = trace.tracks(2 + loaders + len(stages))
        self._next_loader = self._generator + 1
        self._stages = range(self._next_loader + loaders, self._next_loader + loaders + len(stages))
        self._committer = self._stages.stop
        for track, name in zip(
            (self._generator, *self._stages, self._committer), (GENERATOR, *stages, COMMITTER), strict=True
        ):
            trace.name(track, f"{prefix}{name}")
        self._loaders: dict[str, int] = {}
        self._counted = 0.0
        self._state: Callable[[], RunState] | None = None
        measures.watchers.append(self.draw)
        measures.settling.append(self.draw_settling)

    def follow(self, state: Callable[[], RunState]) -> None:
        """Draw the state of a loop now and then."""
        self._state = state

    def draw(self, item: Slice) -> None:
        """Draw the timing of a slice, as far as it came."""
        timing = item.timing
        assert timing is not None
        trace, number = self._trace, item.number
        start, stop = bounds(item.rows)
        name = f"slice {number}"
        passed = [(self._generator, timing.began, timing.made)]
        trace.span(self._generator, name, timing.began, timing.made, start=start, stop=stop, write_s=timing.wrote)
        if timing.loading is not None and timing.ahead:
            track = self._loader(timing)
            trace.span(track, name, *timing.loading, start=start, stop=stop)
            passed.append((track, *timing.loading))
        for span in timing.spans:
            track = self._stages[span.position - 1]
            trace.span(
                track,
                name,
                span.began,
                span.ended,
                start=start,
                stop=stop,
                wait_s=span.wait,
                write_s=span.write,
                held_s=span.held,
                **({"failed": True} if span.failed else {}),
            )
            trace.span(track, "load", span.began, span.loaded)
            trace.span(track, "run", span.loaded, span.ended)
            passed.append((track, span.began, span.ended))
        for index, (track, began, ended) in enumerate(passed if len(passed) > 1 else ()):
            phase = "s" if index == 0 else "f" if index + 1 == len(passed) else "t"
            trace.arrow(track, phase, self._number, number, began, ended)
        self.count()

    def draw_settling(self, began: float, ended: float) -> None:
        """Draw that what was buffered has been written."""
        self._trace.span(self._committer, "write", began, ended)

    def draw_call(self, position: int | None, name: str, began: float, ended: float) -> None:
        """Draw a call before or after the loop."""
        if position is not None:
            track = self._generator if position == 0 else self._stages[position - 1]
            self._trace.span(track, name, began, ended)

    def count(self, always: bool = False) -> None:
        """Draw how full the queues are, and what is in flight."""
        now = time.perf_counter()
        if self._state is None or not (always or now - self._counted >= _COUNT):
            return
        self._counted = now
        state = self._state()
        for queue in state.queues:
            self._trace.count(f"{self._prefix}queue {queue.name}", now, waiting=queue.occupancy)
        self._trace.count(f"{self._prefix}in flight", now, slices=state.in_flight)
        self._trace.count(f"{self._prefix}in flight, bytes", now, bytes=state.in_flight_bytes)

    def _loader(self, timing: SliceTiming) -> int:
        track = self._loaders.get(timing.loader)
        if track is None:
            track = self._loaders[timing.loader] = self._next_loader
            self._next_loader += 1
            self._trace.name(track, f"{self._prefix}{PREFETCHER}: {timing.loader.removeprefix('h5flow ')}")
        return track
