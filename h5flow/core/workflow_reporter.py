"""What a workflow tells of itself: that it begins and ends, its components, its loop."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from h5flow.runtime.measures import COMMITTER, GENERATOR, PREFETCHER, Measures, Unmeasured, actor_of, time_writing
from h5flow.runtime.task_context import acting_component
from h5flow.telemetry import emit, journal_of
from h5flow.telemetry.events import ComponentFinish, ComponentInit, WorkflowDone, WorkflowStart
from h5flow.telemetry.state import RunState
from h5flow.telemetry.ticker import tell_queues

if TYPE_CHECKING:
    from h5flow.core.component import Component
    from h5flow.data import H5FlowDataManager
    from h5flow.runtime.failure import Where
    from h5flow.runtime.steps import Done
    from h5flow.runtime.timeline import Timeline
    from h5flow.workflow import WorkflowConfig


class WorkflowReporter:
    """Tells the events of one workflow, and has its slices measured where somebody wants to know."""

    def __init__(self, config: WorkflowConfig) -> None:
        self._config = config
        self._began = time.perf_counter()
        self._journal = journal_of()
        self._processor: float | None = None
        self._stages = [section.key for section in config.stages]
        source = config.flow.source if config.generator is None else config.generator.key
        self.measures: Measures | Unmeasured = Unmeasured()
        number = 0
        if self._journal is not None:
            number = self._journal.begin_workflow(functools.partial(acting_component, [source, *self._stages]))
            if self._journal.measured:
                self.measures = Measures(self._journal, self._stages)
        self.timeline: Timeline | None = None
        if self._journal is not None and self._journal.trace is not None and isinstance(self.measures, Measures):
            from h5flow.runtime.timeline import Timeline

            prefix = f"{config.name}: " if number else ""
            loaders = config.runtime.loaders
            self.timeline = Timeline(self._journal.trace, self._stages, loaders, self.measures, number, prefix)

    def begin(self) -> None:
        """Note that the workflow begins."""
        pipelined = self._config.runtime.mode == "pipelined"
        stages = map(actor_of, self._stages)
        emit(
            WorkflowStart(
                mode=self._config.runtime.mode,
                source=self._config.flow.source,
                actors=[GENERATOR, PREFETCHER, *stages, COMMITTER] if pipelined else [GENERATOR, *stages],
                stages=self._stages,
                loaders=self._config.runtime.loaders if pipelined else 0,
            )
        )

    def view(self, view: H5FlowDataManager) -> H5FlowDataManager:
        """Return a component's view of the data manager, whose writing is measured if anything is."""
        if isinstance(self.measures, Measures):
            time_writing(view)
        return view

    @contextmanager
    def drawn(self, position: int | None, name: str) -> Iterator[None]:
        """Put a component's method on the timeline: the block, which is run before or after the loop."""
        began = time.perf_counter()
        try:
            yield
        finally:
            if self.timeline is not None:
                self.timeline.draw_call(position, name, began, time.perf_counter())

    def has_begun(self, component: Component, where: Where, seconds: float) -> None:
        """Note that a component's `init` has returned."""
        kind = type(component)
        emit(
            ComponentInit(
                component=where.component,
                classname=kind.__name__,
                module=kind.__module__,
                version=str(component.class_version),
                place=where.place,
                seconds=seconds,
            )
        )

    def has_finished(self, where: Where, seconds: float) -> None:
        """Note that a component's `finish` has returned."""
        emit(ComponentFinish(component=where.component, seconds=seconds))

    @contextmanager
    def loop(self, state: Callable[[], RunState], total: int | None) -> Iterator[None]:
        """Report on the loop that runs in the block, by its state; it has `total` slices, if that is known."""
        self._state = state
        processor = time.process_time()
        loaders = self._config.runtime.loaders
        if self._journal is not None:
            self._journal.begin_loop(lambda: msgspec.structs.replace(state(), total=total, loaders=loaders))
        if self.timeline is not None:
            self.timeline.follow(state)
        try:
            yield
        finally:
            self._processor = time.process_time() - processor
            self.measures.abandon()  # nothing is in flight unless it has failed
            if self.timeline is not None:
                self.timeline.count(always=True)
            if self._journal is not None:
                last = state()
                self._journal.end_loop(self._config.name, last)
                tell_queues(last)

    def state(self, done: Done) -> RunState:
        """Return the state of a loop without queues."""
        return RunState(
            slices=done.slices,
            rows=done.rows,
            seconds=time.perf_counter() - self._began,
            bytes=self.measures.bytes,
            single=True,
            actors=dict(self.measures.actors),
        )

    def end(self, done: Done, waited: Mapping[int, float]) -> None:
        """Note that the workflow is complete.

        `waited`: the seconds that each component has waited for other ranks, by its position.
        """
        actors = [GENERATOR, *map(actor_of, self._stages)]
        emit(
            WorkflowDone(
                slices=done.slices,
                rows=done.rows,
                seconds=time.perf_counter() - self._began,
                reloads=self._state().reloads,
                actors=self._state().actors,
                ranks_wait_s={actors[position]: seconds for position, seconds in sorted(waited.items())},
                processor_s=self._processor,
            )
        )
