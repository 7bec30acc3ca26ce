"""The generator and the stages as threads call them: in order, each in its scene, with what it takes noted."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from h5flow.runtime.components import ENDED, Generator
from h5flow.runtime.failure import Where, locate
from h5flow.runtime.pipeline_state import Flight
from h5flow.runtime.prefetching import Loading, size_of
from h5flow.runtime.steps import Slice, Step, checked_slice
from h5flow.runtime.tracing import Scene, entered

T = TypeVar("T")
Parcel = list[Slice]
Emit = Callable[[T], None]

#: Results are handed on at the latest after this time, in seconds.
_HAND_ON = 2e-3


class Source:
    """The generator."""

    def __init__(self, generator: Generator, where: Where, flight: Flight) -> None:
        self.generator = generator
        self.where = where
        self.scene = Scene(0)
        #: Whether there are no more slices, and the number of the next one.
        self.ended = False
        self.number = flight.tracer.hazards.next_number
        self.asynchronous = inspect.iscoroutinefunction(generator.next)
        self._flight = flight
        self._iterator: Iterator[object] | None = None

    def take(self, count: int, emit: Emit[Parcel]) -> None:
        """Take slices, in the worker's thread."""
        ready = list[Slice]()

        def hand_on() -> None:
            if ready:
                emit(ready[:])
                ready.clear()

        self.scene.before_waiting = hand_on
        with entered(self.scene):
            while len(ready) < count and not self._flight.over:
                item = self._next()
                if item is None:
                    break
                ready.append(item)
        hand_on()

    def take_one(self) -> Slice | None:
        """Take a slice, if there is one, with nobody waiting for it elsewhere."""
        self.scene.before_waiting = None
        with entered(self.scene):
            return self._next()

    def go_on_loop(self) -> None:
        """The next slice is asked for on the event loop."""
        self.scene.moment = (self.number, 0)
        self.scene.on_loop = True

    def end(self) -> None:
        """There are no more slices."""
        self.ended = True

    def _next(self) -> Slice | None:
        """Ask the generator; called in its scene."""
        flight, started = self._flight, time.perf_counter()
        self.scene.moment = (self.number, 0)
        if flight.stop.made and flight.all_done(True):
            self.ended = True
            return None
        flight.tracer.asking(self.number)
        try:
            if self._iterator is None:
                self._iterator = iter(self.generator)
            if flight.randomness.shared:
                rows = next(self._iterator, ENDED)
            else:
                with flight.randomness.of(self.where.component, self.number):
                    rows = next(self._iterator, ENDED)
        except BaseException as error:
            locate(error, self.where)
            raise
        flight.draws.look(self.where.component)
        if rows is ENDED:
            self.ended = True
            return None
        return self.begun(rows, started, time.perf_counter())

    def begun(self, rows: object, started: float, now: float) -> Slice:
        """Make a slice of what the generator has returned."""
        item = Slice(self.number, checked_slice(rows, self.where))
        item.seconds = item.longest = now - started
        if self._flight.measures is not None:
            self._flight.measures.begin(item, started, now, self.scene)
        tracer = self._flight.tracer
        tracer.begin(item.number, item.rows)
        if tracer.hazards.components == 1:
            # With stages it is the last one that counts; nobody waits for a generator.
            tracer.finish((item.number, 0))
        elif tracer.passed is not None:
            tracer.passed(item.number, 0)
        self.number += 1
        return item


class Station:
    """A stage: one slice at a time, in order."""

    def __init__(self, position: int, step: Step, source: str, loading: Loading, flight: Flight) -> None:
        self.step = step
        self.position = position
        self.scene = Scene(position)
        self.asynchronous = inspect.iscoroutinefunction(step.stage.run)
        #: What the last slice took.
        self.seconds = 0.0
        self._last = position + 1 == flight.tracer.hazards.components
        self.source = source
        self._loading = loading
        self._flight = flight

    def process(self, parcel: Parcel, emit: Emit[Parcel]) -> None:
        """Process slices, in the worker's thread."""
        ready = list[Slice]()

        def hand_on() -> None:
            if ready:
                emit(ready[:])
                ready.clear()

        self.scene.before_waiting = hand_on
        flight = self._flight
        with entered(self.scene):
            now = handed_on = time.perf_counter()
            for item in parcel:
                if flight.over:
                    break
                alone = flight.batches.alone
                now = self._run(item, now, sized=not alone or item is parcel[-1])
                ready.append(item)
                if flight.at_once or (now - handed_on > _HAND_ON and not alone):
                    hand_on()
                    handed_on = now
        hand_on()

    def process_one(self, item: Slice, sized: bool) -> None:
        """Process a slice, with nobody waiting for it elsewhere; `sized`: and look how much its cache holds."""
        self.scene.before_waiting = None
        with entered(self.scene):
            self._run(item, time.perf_counter(), sized)

    def prepare(self, item: Slice) -> None:
        """Load what the stage requires, before it runs on the event loop, in the scene of the calling thread."""
        try:
            self.step.purge(item.cache)
            self._loading.fill(item, self.step)
        except BaseException as error:
            locate(error, self.step.where.on(item.rows, item.number))
            raise

    def go_on_loop(self, item: Slice, *, prepared: bool) -> None:
        """A slice is processed next, on the event loop once it is prepared."""
        self.scene.moment = (item.number, self.position)
        self.scene.rows = item.rows
        self.scene.on_loop = prepared

    def done_on_loop(self, item: Slice, started: float, loaded: float) -> None:
        """A slice has been processed on the event loop."""
        self._flight.tracer.finish((item.number, self.position))
        now = time.perf_counter()
        item.note(loaded - started, now - loaded)
        item.size = size_of(item.cache.values())
        if item.course is not None:
            item.course.note(self.scene, started, loaded, now, item.size)
        if self._last:
            item.release()

    def _run(self, item: Slice, started: float, sized: bool) -> float:
        """Load what the stage requires and call it, in its scene; returns when that was done."""
        step, scene, flight, course = self.step, self.scene, self._flight, item.course
        scene.moment = moment = (item.number, self.position)
        scene.rows = item.rows
        loaded = started
        try:
            step.purge(item.cache)
            self._loading.fill(item, step)
            loaded = time.perf_counter()
            if flight.randomness.shared:
                step.stage.run(self.source, item.rows, item.cache)
            else:
                with flight.randomness.of(step.where.component, item.number):
                    step.stage.run(self.source, item.rows, item.cache)
        except BaseException as error:
            if course is not None:
                course.note_failure(scene, started, loaded)
            locate(error, step.where.on(item.rows, item.number))
            raise
        flight.draws.look(step.where.component)
        flight.tracer.finish(moment)
        now = time.perf_counter()
        self.seconds = now - started
        item.note(loaded - started, now - loaded)
        if sized or course is not None:
            item.size = size_of(item.cache.values())
            item.most = max(item.most, item.size)
        if course is not None:
            course.note(scene, started, loaded, now, item.size)
        if self._last:
            item.release()
        return now
