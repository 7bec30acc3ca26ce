"""Making the components of a workflow, and calling them before and after the loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from h5flow.core.classes import class_of
from h5flow.core.component import Component
from h5flow.core.workflow_reporter import WorkflowReporter
from h5flow.data import H5FlowDataManager
from h5flow.ranks.moments import BEFORE
from h5flow.runtime.component_threads import ComponentThreads
from h5flow.runtime.failure import Where, locate
from h5flow.telemetry.standard import keep_records_told

if TYPE_CHECKING:
    from h5flow.workflow import ComponentConfig

C = TypeVar("C", bound=Component)
T = TypeVar("T")


class ComponentCalls:
    """Makes each call on the thread of all components, has other ranks follow, and has errors say where they happened.

    A component's position is 0 for the generator, from 1 on for stages, and `None` for resources.
    """

    def __init__(self, threads: ComponentThreads, reporter: WorkflowReporter, data_manager: H5FlowDataManager) -> None:
        self._threads = threads
        self._reporter = reporter
        self._data_manager = data_manager
        self._ranks = data_manager.data_file.ranks

    def made(
        self, section: ComponentConfig, base: type[C], label: str, position: int | None, **arguments: Any
    ) -> tuple[C, Where]:
        """Make a component of a section of the workflow file, and say what it is called in messages."""
        where = Where(label, section.place, self._data_manager.rank)
        arguments = {**section.params, **arguments, "classname": section.classname, "data_manager": self.view()}
        return self.located(position, where, class_of(section, base), **arguments), where

    def view(self) -> H5FlowDataManager:
        """Return the data manager for one component."""
        return self._reporter.view(self._data_manager.view())

    def together(
        self, part: int, position: int | None, where: Where, component: Component, call: Callable[..., T], *args: Any
    ) -> None:
        """Make a call before or after the loop, as all ranks do; then they see what each of them has written."""
        self._ranks.enter(part)
        started = time.perf_counter()
        with self._reporter.drawn(position, call.__name__):
            self.located(position, where, call, *args)
        seconds = time.perf_counter() - started
        if part == BEFORE:
            self._reporter.has_begun(component, where, seconds)
        else:
            self._reporter.has_finished(where, seconds)
        self.fence(part)

    def fence(self, part: int) -> None:
        """Let all ranks see what any of them has written. Collective."""
        self._ranks.enter(part)
        self._ranks.fence()

    def located(self, position: int | None, where: Where, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Make a call of a component, on the thread of all; an error that it raises says where it happened."""
        keep_records_told()
        try:
            if position is None:
                return call(*args, **kwargs)
            return self._threads.call(position, lambda: call(*args, **kwargs))
        except BaseException as error:
            # No rank is to wait for this one when its process ends.
            self._ranks.fail()
            locate(error, where)
            raise
