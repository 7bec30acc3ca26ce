"""One turn of a stage: a slice is prepared for it, it runs, and is done with it or has failed.

All ways in which slices pass the stages take these steps: in sequential mode, in turn on one thread, on a thread of the
stage's own, and on the event loop.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from h5flow.runtime.failure import locate
from h5flow.runtime.hazards import Moment
from h5flow.runtime.prefetching import size_of
from h5flow.runtime.randomness import Randomness
from h5flow.runtime.steps import Slice, Step
from h5flow.runtime.task_context import TaskContext

#: Runs a coroutine to its end.
Complete = Callable[[Coroutine[Any, Any, Any]], object]


class Turns(Protocol):
    """What the turns of stages ask of the loop that they are taken in."""

    @property
    def randomness(self) -> Randomness:
        """Return what random numbers stages draw."""
        ...

    def fill(self, item: Slice, step: Step) -> None:
        """Bring the cache of a slice up to what a stage requires; called in the stage's task context."""
        ...

    def drawn(self, component: str) -> None:
        """Note that a component has run, and may have drawn random numbers."""
        ...

    def finished(self, moment: Moment) -> None:
        """Note that a component is done with a slice."""
        ...


class StageTurn:
    """The turns of one stage, of which one is taken at a time, in the order of slices, in its task context."""

    def __init__(self, position: int, step: Step, source: str, turns: Turns, *, last: bool) -> None:
        self.step = step
        self.position = position
        self.source = source
        self.context = TaskContext(position)
        self._turns = turns
        self._last = last

    def take(self, item: Slice, started: float, *, sized: bool, complete: Complete | None = None) -> float:
        """Take a turn, in its task context; returns when it was done. Raises what the stage raises, with its place.

        `sized`: and look how much the cache holds. `complete` runs a coroutine, if the stage returns one.
        """
        loaded = started
        self.begin(item)
        try:
            self.prepare(item)
            loaded = time.perf_counter()
            self.run(item, complete)
        except BaseException as error:
            self.failed(item, error, started, loaded)
            raise
        return self.done(item, started, loaded, sized=sized)

    def begin(self, item: Slice) -> None:
        """Set the task context to a slice."""
        self.context.moment = (item.number, self.position)
        self.context.rows = item.rows

    def prepare(self, item: Slice) -> None:
        """Bring the cache of a slice up to what the stage requires."""
        self.step.purge(item.cache)
        self._turns.fill(item, self.step)

    def run(self, item: Slice, complete: Complete | None) -> None:
        """Let the stage process a slice, with the random numbers that it is to draw."""
        randomness = self._turns.randomness
        if randomness.shared and complete is None:
            self.call(item)
            return
        with randomness.of(self.step.where.component, item.number):
            running = self.call(item)
            if complete is not None and inspect.iscoroutine(running):
                complete(running)

    def call(self, item: Slice) -> Any:
        """Call the stage; what it returns is a coroutine, if anything."""
        return self.step.stage.run(self.source, item.rows, item.cache)

    def done(self, item: Slice, started: float, loaded: float, *, sized: bool) -> float:
        """Note that the stage is done with a slice; returns when that was."""
        self._turns.drawn(self.step.where.component)
        self._turns.finished((item.number, self.position))
        now = time.perf_counter()
        item.note(loaded - started, now - loaded)
        if sized or item.timing is not None:
            item.size = size_of(item.cache.values())
            item.most = max(item.most, item.size)
        if item.timing is not None:
            item.timing.note(self.context, started, loaded, now, item.size)
        if self._last:
            item.release()
        return now

    def failed(self, item: Slice, error: BaseException, started: float, loaded: float) -> None:
        """Note that a turn has failed, and have the error say where."""
        if item.timing is not None:
            item.timing.note_failure(self.context, started, loaded)
        locate(error, self.step.where.on(item.rows, item.number))
