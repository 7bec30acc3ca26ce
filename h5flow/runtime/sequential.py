"""Sequential mode: one slice at a time, one stage after the other. It defines what any other mode must do."""

from __future__ import annotations

import contextvars
import inspect
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from h5flow.data.file.ranks import FileRanks
from h5flow.runtime.components import ENDED, Generator, awaited_slice
from h5flow.runtime.failure import locate
from h5flow.runtime.hazards import Moment
from h5flow.runtime.loop_inputs import LoopInputs
from h5flow.runtime.stage_turn import Complete, StageTurn
from h5flow.runtime.steps import Slice, Step, checked_slice
from h5flow.runtime.stopping import StopRequest
from h5flow.runtime.task_context import TaskContext, entered


class OneAtWork:
    """The one component that is at work, on whatever threads of its own: the `Components` that ranks know of."""

    def __init__(self) -> None:
        self._moment: Moment | None = None

    def begin(self, moment: Moment) -> None:
        """Note that the component of a moment is at work."""
        self._moment = moment

    def end(self) -> None:
        """Note that no component is at work any more."""
        self._moment = None

    def at_work(self) -> Moment | None:
        """Return the slice and the position of the component that is at work, `None` outside the loop."""
        return self._moment

    def before_waiting(self) -> None:
        """Do nothing: nothing is finished that could be handed on."""

    def acting_at(self, _moment: object) -> AbstractContextManager[object]:
        """Do nothing: nobody is told who acts."""
        return nullcontext()


class _Turns:
    """What the turns of stages take where one of them is at work at a time."""

    def __init__(self, inputs: LoopInputs) -> None:
        self.randomness = inputs.randomness
        self._inputs = inputs

    def fill(self, item: Slice, step: Step) -> None:
        """Load what the cache hasn't got."""
        self._inputs.loader.update(item.cache, self._inputs.source, item.rows, step.requirements)

    def drawn(self, component: str) -> None:
        """Do nothing: components draw in order."""

    def finished(self, moment: Moment) -> None:
        """Tell other ranks, which may wait for that."""
        self._inputs.file.ranks.passed(*moment)


def run_slices(inputs: LoopInputs, stop: StopRequest) -> None:
    """Take slices from the generator until there are no more, and have all stages process each; counts in `done`."""
    file, where, measures, randomness = inputs.file, inputs.generator_where, inputs.measures, inputs.randomness
    now, turns, last = OneAtWork(), _Turns(inputs), len(inputs.steps)
    file.ranks.work_for(now)
    stages = [
        StageTurn(position, step, inputs.source, turns, last=position == last)
        for position, step in enumerate(inputs.steps, start=1)
    ]
    number = 0
    asking = TaskContext(0)
    with ExitStack() as stack:
        stack.callback(now.end)
        stack.enter_context(randomness.loop())
        complete: Complete | None = None
        if inputs.asynchronous:
            import asyncio

            runner = stack.enter_context(asyncio.Runner())

            def complete(running: Coroutine[Any, Any, Any]) -> Any:
                return runner.run(running, context=contextvars.copy_context())

        taken = next_slice(inputs.generator, complete, file.ranks)
        while True:
            asking.moment = (number, 0)
            now.begin(asking.moment)
            started = time.perf_counter()
            with entered(asking):
                if stop.made and file.ranks.all_done(stopping=True):
                    return
                file.ranks.ask(number)
                try:
                    with randomness.of(where.component, number):
                        rows = taken()
                except BaseException as error:
                    locate(error, where)
                    raise
            if rows is ENDED:
                return
            item = Slice(number, checked_slice(rows, where))
            measures.begin(item, started, time.perf_counter(), asking)
            file.ranks.passed(number, 0)
            for stage in stages:
                now.begin((number, stage.position))
                with entered(stage.context):
                    stage.take(item, time.perf_counter(), sized=False, complete=complete)
            started = time.perf_counter()
            file.settle()
            inputs.done.count(item.rows)
            measures.settled(started, time.perf_counter())
            measures.done(item)
            number += 1


def next_slice(generator: Generator, complete: Complete | None, ranks: FileRanks) -> Callable[[], object]:
    """Return a function that gives what the generator yields next, `ENDED` at the end."""
    if complete is not None and inspect.iscoroutinefunction(generator.next):

        def awaited() -> object:
            rows = complete(awaited_slice(generator))
            ends = isinstance(rows, slice) and rows == generator.EMPTY and ranks.all_done()
            return ENDED if ends else rows

        return awaited
    iterator = iter(generator)
    return lambda: next(iterator, ENDED)
