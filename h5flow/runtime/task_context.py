"""Which component is at work on which slice in the calling thread or task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar

import msgspec

from h5flow.data.resource import Resource
from h5flow.runtime.hazards import Moment, Prefetched
from h5flow.telemetry.journal import Acting


class TaskContext(msgspec.Struct):
    """The context of a component at work: on what it works, and what has come of it."""

    position: int
    #: `None` before and after the loop.
    moment: Moment | None = None
    #: What is being loaded ahead of its moment.
    prefetched: Prefetched | None = None
    #: Collects the resources that are read.
    footprint: set[Resource] | None = None
    #: Called before waiting: what is finished has to be handed on now.
    before_waiting: Callable[[], None] | None = None
    #: Whether this is the thread of the event loop, which must not wait.
    on_loop: bool = False
    #: The rows that it works on.
    rows: slice | None = None
    #: Seconds that it has spent in writing calls, and waiting for other components, since these were last looked at.
    writing: float = 0.0
    held: float = 0.0

    def add(self, other: TaskContext) -> None:
        """Count what was spent in another task context of the same component."""
        self.writing += other.writing
        self.held += other.held


task_context: ContextVar[TaskContext | None] = ContextVar("h5flow_task_context", default=None)


class entered:  # noqa: N801 - used as a function; as a class it takes a third of the time
    """The block in which the component of a task context is at work."""

    __slots__ = ("_entering", "_token")

    def __init__(self, entering: TaskContext) -> None:
        self._entering = entering

    def __enter__(self) -> TaskContext:
        self._token = task_context.set(self._entering)
        return self._entering

    def __exit__(self, *_: object) -> None:
        task_context.reset(self._token)


def acting_component(names: Sequence[str]) -> Acting | None:
    """Return the component at work in the calling thread, by its name and with its slice."""
    acting = task_context.get()
    if acting is None:
        return None
    return Acting(names[acting.position], None if acting.moment is None else acting.moment[0], acting.rows)
