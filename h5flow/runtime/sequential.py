"""Sequential mode: one slice at a time, one stage after the other. It defines what any other mode must do."""

from __future__ import annotations

import contextvars
import inspect
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from h5flow.data import H5FlowDataManager
from h5flow.ranks.member import NoComponents
from h5flow.runtime.components import ENDED, Generator, awaited_slice
from h5flow.runtime.failure import Where, locate
from h5flow.runtime.hazards import Moment
from h5flow.runtime.loading import RequirementLoader
from h5flow.runtime.measures import Measures
from h5flow.runtime.prefetching import size_of
from h5flow.runtime.randomness import Randomness
from h5flow.runtime.steps import Done, Slice, Step, checked_slice
from h5flow.runtime.stopping import StopRequest
from h5flow.runtime.tracing import Scene, entered

if TYPE_CHECKING:
    import asyncio


class OneAtWork(NoComponents):
    """The one component that is at work, on whatever threads of its own, as other ranks have to know it."""

    def __init__(self) -> None:
        self._moment: Moment | None = None

    def begin(self, moment: Moment) -> None:
        """Have the component of a moment be at work."""
        self._moment = moment

    def end(self) -> None:
        """Have none be at work any more."""
        self._moment = None

    def at_work(self) -> Moment | None:
        """Return the slice and the position of the component that is at work, `None` outside the loop."""
        return self._moment


def run_slices(
    generator: Generator,
    generator_where: Where,
    steps: Iterable[Step],
    loader: RequirementLoader,
    data_manager: H5FlowDataManager,
    done: Done,
    stop: StopRequest,
    randomness: Randomness,
    measures: Measures | None = None,
) -> None:
    """Take slices from the generator until there are no more, and run all steps on each; counts in `done`."""
    source = generator.dset_name
    file = data_manager.data_file
    ranks: Any = file.ranks if file.ranks.several else None
    now = OneAtWork()
    if ranks is not None:
        ranks.work_for(now)
    number = 0
    acting = Scene(0)
    with ExitStack() as stack:
        stack.enter_context(entered(acting))
        stack.callback(now.end)
        stack.enter_context(randomness.loop())
        asynchronous = [step.stage.run for step in steps] + [generator.next]
        runner = None
        if any(inspect.iscoroutinefunction(function) for function in asynchronous):
            import asyncio

            runner = stack.enter_context(asyncio.Runner())
        taken = next_slice(generator, runner, data_manager)
        while True:
            acting.moment = (number, 0)
            now.begin(acting.moment)
            acting.position, acting.rows = 0, None
            started = time.perf_counter()
            if stop.made and data_manager.all_done(stopping=True):
                return
            if ranks is not None:
                ranks.coordination.ask(number)
            try:
                with randomness.of(generator_where.component, number):
                    rows = taken()
            except BaseException as error:
                locate(error, generator_where)
                raise
            if rows is ENDED:
                return
            item = Slice(number, checked_slice(rows, generator_where))
            acting.rows = item.rows
            if measures is not None:
                measures.begin(item, started, time.perf_counter(), acting)
            course = item.course
            if ranks is not None:
                ranks.coordination.passed(number, 0)
            for position, step in enumerate(steps, start=1):
                acting.moment = (number, position)
                now.begin(acting.moment)
                acting.position = position
                started = loaded = time.perf_counter()
                try:
                    step.purge(item.cache)
                    loader.update(item.cache, source, item.rows, step.requirements)
                    loaded = time.perf_counter()
                    with randomness.of(step.where.component, item.number):
                        run: Callable[..., Any] = step.stage.run
                        running = run(source, item.rows, item.cache)
                        if runner is not None and inspect.iscoroutine(running):
                            runner.run(running, context=contextvars.copy_context())
                except BaseException as error:
                    if course is not None:
                        course.note_failure(acting, started, loaded)
                    locate(error, step.where.on(item.rows, item.number))
                    raise
                if ranks is not None:
                    ranks.coordination.passed(number, position)
                if course is not None:
                    course.note(acting, started, loaded, time.perf_counter(), size_of(item.cache.values()))
            started = time.perf_counter()
            file.settle()
            done.count(item.rows)
            if measures is not None:
                measures.settled(started, time.perf_counter())
                measures.done(item)
            number += 1


def next_slice(
    generator: Generator, runner: asyncio.Runner | None, data_manager: H5FlowDataManager
) -> Callable[[], object]:
    """A function that gives what the generator yields next, `ENDED` at the end."""
    if runner is not None and inspect.iscoroutinefunction(generator.next):

        def awaited() -> object:
            rows: object = runner.run(awaited_slice(generator), context=contextvars.copy_context())
            ends = isinstance(rows, slice) and rows == generator.EMPTY and data_manager.all_done()
            return ENDED if ends else rows

        return awaited
    iterator = iter(generator)
    return lambda: next(iterator, ENDED)
