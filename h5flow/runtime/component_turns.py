"""The generator and the stages of a pipeline as threads call them: in order, each in its task context."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from h5flow.runtime.components import ENDED, Generator
from h5flow.runtime.failure import Where, locate
from h5flow.runtime.pipeline_state import PipelineState
from h5flow.runtime.prefetching import Loading
from h5flow.runtime.stage_turn import StageTurn
from h5flow.runtime.steps import Slice, Step, checked_slice
from h5flow.runtime.task_context import TaskContext, entered

T = TypeVar("T")
Parcel = list[Slice]
Emit = Callable[[T], None]

#: Results are handed on at the latest after this time, in seconds.
_HAND_ON = 2e-3


class GeneratorTurns:
    """The generator in pipelined mode: one slice at a time, in order."""

    def __init__(self, generator: Generator, where: Where, state: PipelineState) -> None:
        self.generator = generator
        self.where = where
        self.context = TaskContext(0)
        #: Whether there are no more slices, and the number of the next one.
        self.ended = False
        self.number = state.tracer.hazards.next_number
        self.asynchronous = inspect.iscoroutinefunction(generator.next)
        self._state = state
        self._iterator: Iterator[object] | None = None

    def take(self, count: int, emit: Emit[Parcel]) -> None:
        """Take slices, in the worker's thread."""
        ready = list[Slice]()

        def hand_on() -> None:
            if ready:
                emit(ready[:])
                ready.clear()

        self.context.before_waiting = hand_on
        with entered(self.context):
            while len(ready) < count and not self._state.over:
                item = self._next()
                if item is None:
                    break
                ready.append(item)
        hand_on()

    def take_one(self) -> Slice | None:
        """Take a slice, if there is one, with nobody waiting for it elsewhere."""
        self.context.before_waiting = None
        with entered(self.context):
            return self._next()

    def go_on_loop(self) -> None:
        """Note that the next slice is asked for on the event loop."""
        self.context.moment = (self.number, 0)
        self.context.on_loop = True

    def end(self) -> None:
        """Note that there are no more slices."""
        self.ended = True

    def _next(self) -> Slice | None:
        """Ask the generator; called in its task context."""
        state, started = self._state, time.perf_counter()
        self.context.moment = (self.number, 0)
        if state.stop.made and state.all_done(True):
            self.ended = True
            return None
        state.tracer.ranks.ask(self.number)
        try:
            if self._iterator is None:
                self._iterator = iter(self.generator)
            if state.randomness.shared:
                rows = next(self._iterator, ENDED)
            else:
                with state.randomness.of(self.where.component, self.number):
                    rows = next(self._iterator, ENDED)
        except BaseException as error:
            locate(error, self.where)
            raise
        state.draws.look(self.where.component)
        if rows is ENDED:
            self.ended = True
            return None
        return self.begun(rows, started, time.perf_counter())

    def begun(self, rows: object, started: float, now: float) -> Slice:
        """Make a slice of what the generator has returned."""
        item = Slice(self.number, checked_slice(rows, self.where))
        item.seconds = item.longest = now - started
        self._state.measures.begin(item, started, now, self.context)
        tracer = self._state.tracer
        tracer.begin(item.number, item.rows)
        if tracer.hazards.components == 1:
            # With stages it is the last one that counts; nobody on this rank waits for a generator.
            tracer.finish((item.number, 0))
        else:
            tracer.ranks.passed(item.number, 0)
        self.number += 1
        return item


class StageTurns(StageTurn):
    """A stage in pipelined mode: one slice at a time, in order."""

    def __init__(self, position: int, step: Step, source: str, loading: Loading, state: PipelineState) -> None:
        last = position + 1 == state.tracer.hazards.components
        super().__init__(position, step, source, _Turns(loading, state), last=last)
        self.asynchronous = inspect.iscoroutinefunction(step.stage.run)
        #: What the last slice took.
        self.seconds = 0.0
        self._state = state

    def process(self, parcel: Parcel, emit: Emit[Parcel]) -> None:
        """Process slices, in the worker's thread."""
        ready = list[Slice]()

        def hand_on() -> None:
            if ready:
                emit(ready[:])
                ready.clear()

        self.context.before_waiting = hand_on
        state = self._state
        with entered(self.context):
            now = handed_on = time.perf_counter()
            for item in parcel:
                if state.over:
                    break
                alone = state.batches.alone
                started, now = now, self.take(item, now, sized=not alone or item is parcel[-1])
                self.seconds = now - started
                ready.append(item)
                if state.at_once or (now - handed_on > _HAND_ON and not alone):
                    hand_on()
                    handed_on = now
        hand_on()

    def process_one(self, item: Slice, *, sized: bool) -> None:
        """Process a slice, with nobody waiting for it elsewhere; `sized`: and look how much its cache holds."""
        self.context.before_waiting = None
        with entered(self.context):
            self.take(item, time.perf_counter(), sized=sized)

    def go_on_loop(self, *, wanted: bool) -> None:
        """Say whether the stage is at work on the event loop, where it must not wait."""
        self.context.on_loop = wanted


class _Turns:
    """What the turns of stages have to do with the others' in a pipeline."""

    def __init__(self, loading: Loading, state: PipelineState) -> None:
        self.randomness = state.randomness
        self.fill = loading.fill
        self.drawn = state.draws.look
        self.finished = state.tracer.finish
