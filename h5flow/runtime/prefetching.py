"""What can be loaded before its moment, and loading it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from h5flow.data.resource import Resource
from h5flow.errors import FileError
from h5flow.runtime.hazards import Claim, Hazards, Prefetched
from h5flow.runtime.loading import Load, RequirementLoader
from h5flow.runtime.measures import bounds
from h5flow.runtime.steps import Slice, Step
from h5flow.runtime.task_context import TaskContext, entered, task_context
from h5flow.runtime.tracing import Tracer
from h5flow.telemetry import emit
from h5flow.telemetry.events import RequirementLate, RequirementReloaded
from h5flow.telemetry.journal import is_heard
from h5flow.workflow import Requirement

#: Values that have been loaded in vain so often in a row are left to their moment.
_IN_VAIN = 3


class Forecast:
    """Which requirements are *early*: nothing that they are made of is written by a stage before theirs.

    What a requirement is made of is learned from loading it at its moment. All others are *late*.
    """

    def __init__(self, hazards: Hazards, steps: Sequence[Step], source: str) -> None:
        self._hazards = hazards
        self._firsts: list[tuple[int, str, Requirement | None]] = [(1, source, None)] if steps else []
        for position, step in enumerate(steps, start=1):
            self._firsts += [(position, requirement.name, requirement) for requirement in step.own]
        self._footprints: dict[str, frozenset[Resource]] = {}
        self._in_vain: dict[str, int] = {}
        self._version = -1
        self._early: list[tuple[int, str, Requirement | None]] = []

    def learn(self, name: str, footprint: set[Resource]) -> None:
        """Note that a requirement was made of these resources."""
        known = self._footprints.get(name, frozenset[Resource]())
        if not footprint <= known:
            self._footprints[name] = known | footprint
            self._version = -1

    def came(self, name: str, in_time: bool) -> None:
        """Note whether a value that was loaded ahead was still right at its moment."""
        self._in_vain[name] = 0 if in_time else self._in_vain.get(name, 0) + 1
        if self._in_vain[name] == _IN_VAIN:
            self._version = -1
            emit(RequirementLate(requirement=name))

    def early(self) -> list[tuple[int, str, Requirement | None]]:
        """List the early requirements: position of their stage, name in the cache, requirement (`None`: the source).

        The lock of the hazards is held.
        """
        version = self._hazards.version
        if self._version != version:
            self._early = [
                (position, name, requirement)
                for position, name, requirement in self._firsts
                if self._is_early(position, name)
            ]
            self._version = version
        return self._early

    def _is_early(self, position: int, name: str) -> bool:
        footprint = self._footprints.get(name)
        if footprint is None or self._in_vain.get(name, 0) >= _IN_VAIN:
            return False
        return not any(
            1 <= writer < position for resource in footprint for writer in self._hazards.claimed(resource, Claim.WRITES)
        )


class WarmUp(Protocol):
    """The first slices tell what requirements are made of; later it is only learned from what is loaded again."""

    @property
    def warm(self) -> bool:
        """Say whether the warm-up is over, and with it known what can be loaded ahead."""
        ...


class Loading:
    """Loads for the stages: ahead of time what is early, at its moment what is late or has changed since."""

    def __init__(
        self, loader: RequirementLoader, forecast: Forecast, tracer: Tracer, source: str, warm_up: WarmUp
    ) -> None:
        self._loader = loader
        self._forecast = forecast
        self._tracer = tracer
        self._source = source
        self._warm_up = warm_up
        #: Values that were loaded ahead and had to be loaded again.
        self.reloads = 0

    def ahead(self, item: Slice) -> None:
        """Load what is early. What can't be loaded now is left to its moment."""
        timing = item.timing
        began = moment = 0.0 if timing is None else time.perf_counter()
        with self._tracer.file_changed:
            early = self._forecast.early()
        for position, name, requirement in early:
            value = Prefetched()
            with entered(TaskContext(position, (item.number, position), value, rows=item.rows)):
                try:
                    value.value = self._loader.load(requirement, self._source, item.rows)
                except FileError:
                    # A file that can't be written may have lost rows, and the next attempt to read wouldn't fail.
                    raise
                except Exception:  # noqa: BLE001 - raised again, if it is one, at the moment of the stage
                    value.stale = True
            item.prefetched[name] = value
            if timing is not None:
                before, moment = moment, time.perf_counter()
                timing.ahead[position] = timing.ahead.get(position, 0.0) + moment - before
        if timing is not None:
            timing.note_loading(began, time.perf_counter(), threading.current_thread().name)

    def fill(self, item: Slice, step: Step) -> None:
        """Bring the cache up to what a stage requires; called in its task context."""
        load = self._load_for(item, step) if item.prefetched or not self._warm_up.warm else None
        self._loader.update(item.cache, self._source, item.rows, step.requirements, load)

    def _load_for(self, item: Slice, step: Step) -> Load:
        def load(requirement: Requirement | None, source: str, rows: slice) -> Any:
            name = source if requirement is None else requirement.name
            value = item.prefetched.pop(name, None)
            if value is not None:
                in_time = self._tracer.accept(value)
                self._forecast.came(name, in_time)
                if in_time:
                    taken, value.value = value.value, None  # what is noted of it outlives the slice
                    return taken
                value.value = None
                self.reloads += 1
                _tell_reload(item, step, name)
            acting = task_context.get()
            assert acting is not None
            acting.footprint = set()
            try:
                return self._loader.load(requirement, source, rows)
            finally:
                self._forecast.learn(name, acting.footprint)
                acting.footprint = None

        return load


def _tell_reload(item: Slice, step: Step, name: str) -> None:
    if is_heard(RequirementReloaded, RequirementReloaded.LEVEL):
        start, stop = bounds(item.rows)
        stage = step.stage.name
        emit(RequirementReloaded(requirement=name, stage=stage, slice_index=item.number, start=start, stop=stop))


def size_of(values: Iterable[Any]) -> int:
    """Count the bytes that the arrays among some values hold."""
    size = 0
    for value in values:
        if isinstance(value, np.ndarray):
            size += value.nbytes
            if type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray):
                size += np.ma.getmaskarray(value).nbytes if value.mask is not np.ma.nomask else 0
    return size
