"""Who does what, where, when: tells the hazards of each access to the file, and lets it wait for its turn.

Which component is at work on which slice is known from the context (`contextvars`) of the call, not from the object
that the call goes through: a resource or a dataset handle acts for whoever uses it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from h5flow.data.access.observer import Rows
from h5flow.data.resource import Resource
from h5flow.errors import H5FlowError
from h5flow.ranks.moments import LOOP
from h5flow.runtime.hazards import HOW_MANY, Claim, Conflict, Hazards, Moment, Prefetched
from h5flow.runtime.task_context import TaskContext, entered, task_context

if TYPE_CHECKING:
    from h5flow.ranks.rounds import RunMoment

# Sorting more row numbers than these would cost more than it is worth to know them exactly.
_FEW = 1024


_NOT_ON_LOOP = (
    "an async stage has to wait for another component here, which would stop the whole run;"
    " use the awaitable calls: await self.data_manager.awaitable.…"
)


class Abandoned(BaseException):
    """The run is over; what a component waits for won't come. No error, so that no component handles it."""


class WaitingRanks(Protocol):
    """The other ranks, if there are any, as far as they wait for components of this one."""

    @property
    def several(self) -> bool:
        """Say whether there are other ranks."""
        ...

    def passed(self, number: int, position: int) -> None:
        """Note that a component is done with a slice."""
        ...

    def ask(self, number: int) -> None:
        """Ask the generator for a slice."""
        ...


class Tracer:
    """The observer of a data file during a pipelined run. `file_changed` is the file's, and has its lock."""

    def __init__(self, hazards: Hazards, file_changed: threading.Condition, ranks: WaitingRanks) -> None:
        self.hazards = hazards
        #: What makes it impossible to have more than one slice in flight.
        self.untraceable: str | None = None
        #: Whether slices are at work now, and whether it is one at a time.
        self.running = False
        self.single = True
        #: Whether each access comes in order, since no other slice is at work: then it is only learned who does what.
        self.in_turn = False
        #: Whether not even that is to be learned.
        self.leaves_alone = False
        self.file_changed = file_changed
        #: Other ranks, which may wait for components of this one.
        self.ranks = ranks
        self._waiting = 0
        self._users: set[int] = set()
        self._over = False

    # the loop

    def start(self) -> None:
        """Note that slices are at work from now on."""
        self.running = True

    def end(self, *, abandoned: bool) -> None:
        """Note that no slices are at work any more; where they are `abandoned`, whoever waits stops."""
        self.running = False
        if abandoned:
            with self.file_changed:
                self._over = True
                self.file_changed.notify_all()

    def run_singly(self, wanted: bool) -> None:
        """Say whether slices run one at a time."""
        self.single = wanted

    def cannot_follow(self, what: str) -> None:
        """Note what makes it impossible to have more than one slice in flight; the first that is found counts."""
        self.untraceable = self.untraceable or what

    # progress

    def begin(self, number: int, rows: slice) -> None:
        """Note that the generator has yielded a slice."""
        if not self.leaves_alone and rows.start is not None and rows.stop is not None:
            self.hazards.begin(number, int(rows.start), int(rows.stop))

    def finish(self, moment: Moment) -> None:
        """Note that a component is done with a slice."""
        # Without the lock: who waits says so first and looks then, so either they see this or this sees them.
        self.hazards.finish(moment)
        self.ranks.passed(*moment)
        if self._waiting:
            with self.file_changed:
                self.file_changed.notify_all()

    def accept(self, prefetched: Prefetched) -> bool:
        """Say whether a prefetched value is what would be loaded now; if so, it must stay so."""
        acting = task_context.get()
        assert acting is not None
        with self.file_changed:
            for resource, rows in prefetched.reads:
                self._wait(acting, resource, Claim.READ, rows)
            prefetched.accepted = not prefetched.stale
            return prefetched.accepted

    # what an observer is told

    def same_rows(self, resource: Resource, other: Resource) -> None:
        """Note that the rows of a resource are those of another one."""
        self.hazards.same_rows(resource, other)

    def length(self, resource: Resource, now: int) -> int:
        """Say how many of the `now` rows the component may see."""
        if self.in_turn:
            return now
        acting = self._acting()
        if acting is None or acting.moment is None:
            return now
        return self.hazards.length(acting.moment, resource, now)

    def counted(self, resource: Resource) -> None:
        """Note that the component wants to know how many rows there are."""
        self.read(resource, HOW_MANY)

    def read(self, resource: Resource, rows: Rows, as_lookup: bool = False) -> None:
        """Note that the component is going to read. Waits, and raises `Conflict`."""
        acting = self._acting()
        if acting is None or acting.moment is None:
            return
        if self._over:
            raise Abandoned
        if acting.footprint is not None:
            acting.footprint.add(resource)
        if self.in_turn:
            if not as_lookup:
                self.hazards.learn(acting.moment, resource, Claim.READ, rows)
            return
        if acting.prefetched is None:
            self._wait(acting, resource, Claim.READ, rows)
        self.hazards.read(acting.moment, resource, rows, acting.prefetched, as_lookup)

    def before_append(self, resource: Resource) -> None:
        """Note that the component is going to append. Waits."""
        if self.in_turn:
            return
        acting = self._acting()
        if acting is not None and acting.moment is not None:
            self._wait(acting, resource, Claim.APPEND, None)

    def append(self, resource: Resource, length: int, grown: int) -> None:
        """Note that the component appends. Raises `Conflict`."""
        acting = self._acting()
        if acting is None:
            return
        if acting.moment is None:
            self.hazards.claim(acting.position, resource, Claim.APPEND)
        else:
            self.hazards.append(acting.moment, resource, length, grown)

    def update(self, resource: Resource, rows: Rows, in_order: bool = False) -> None:
        """Note that the component is going to write to rows that exist. Waits, and raises `Conflict`."""
        acting = self._acting()
        if acting is not None and acting.moment is not None:
            if self._over:
                raise Abandoned
            if self.in_turn:
                self.hazards.learn(acting.moment, resource, Claim.UPDATE, _range(rows))
                return
            if isinstance(rows, np.ndarray):
                rows = _extent(rows)
            self._wait(acting, resource, Claim.UPDATE, rows)
            self.hazards.update(acting.moment, resource, rows, in_order)

    def exists(self, path: str, found: bool) -> bool:
        """Say whether the component is to see that there is something at a path."""
        if self.in_turn and found:
            return True
        acting = self._acting()
        if acting is None or acting.moment is None:
            return found
        resource = Resource("existence", path)
        visible = found and self.hazards.exists(acting.moment, resource)
        if not visible:
            self.read(resource, None)
        return visible

    def created(self, path: str) -> None:
        """Note that the component is going to create something. Raises `Conflict`."""
        acting = self._acting()
        if acting is None:
            return
        if acting.moment is None:
            self.hazards.claim(acting.position, Resource("rows", path), Claim.APPEND)
        else:
            self.hazards.create(acting.moment, Resource("existence", path))

    def everything(self, what: str) -> None:
        """Note that the component is going to use the file in a way that can't be followed.

        Waits, and raises `Conflict`.
        """
        acting = self._acting()
        if acting is None or acting.moment is None:
            return
        if acting.prefetched is not None:
            acting.prefetched.stale = True
            return
        self.untraceable = self.untraceable or what
        if self.in_turn:
            return
        self._wait_until(acting, lambda: self.hazards.others_before(acting.moment))  # type: ignore[arg-type]
        used = self.hazards.used_after(acting.moment)
        if used is not None:
            raise Conflict(
                f"a component uses {what}, which can't be kept in order with {used}, used on later slices already;"
                " run this workflow with runtime.mode: sequential"
            )

    def _acting(self) -> TaskContext | None:
        """Return the task context of the component at work, `None` outside of the loop.

        Raises `Conflict` where unclear.
        """
        acting = task_context.get()
        if acting is None and self.running:
            if not self.single:
                raise Conflict(
                    "the file is used by a thread that is none of the workflow's, while several slices are in flight;"
                    " run this workflow with runtime.mode: sequential"
                )
            self.cannot_follow("the file on threads of its own")
        if acting is not None and acting.moment is not None:
            self._users.add(acting.position)
        return acting

    def take_turns(self, in_turn: bool) -> None:
        """Say whether slices run one after the other from now on, each through all components; nothing is in flight.

        Then a single stage isn't even asked what it does if no other component uses the file.
        """
        with self.file_changed:
            # Components of other ranks may be at work on other slices.
            self.in_turn = in_turn and not self.ranks.several
            self.leaves_alone = self.in_turn and not self.single and self.hazards.components == 2 and self._users <= {1}

    # with other ranks

    def at_work(self) -> Moment | None:
        """Say what the calling thread works on, `None` outside of the loop."""
        acting = task_context.get()
        return None if acting is None else acting.moment

    def before_waiting(self) -> None:
        """Hand on what is finished, since the calling thread is going to wait. Raises `H5FlowError` on the loop."""
        acting = task_context.get()
        if acting is None:
            return
        if acting.on_loop:
            raise H5FlowError(_NOT_ON_LOOP)
        if acting.before_waiting is not None:
            acting.before_waiting()

    def acting_at(self, moment: RunMoment) -> AbstractContextManager[TaskContext]:
        """Let the calling thread act for a component in the block, for what another rank has it do at a moment."""
        part, number, position = moment
        return entered(TaskContext(position, (number, position) if part == LOOP else None))

    # waiting

    def _wait(self, acting: TaskContext, resource: Resource, kind: int, rows: Rows) -> None:
        moment = acting.moment
        assert moment is not None
        if self.hazards.awaited(moment, resource, kind, rows) is not None:
            self._wait_until(acting, lambda: self.hazards.awaited(moment, resource, kind, rows))

    def _wait_until(self, acting: TaskContext, awaited: Callable[[], object | None]) -> None:
        """Wait while something is awaited; the lock is held, and let go meanwhile."""
        self.before_waiting()
        started = time.perf_counter()
        self._waiting += 1
        try:
            while awaited() is not None:
                if self._over:
                    raise Abandoned
                self.file_changed.wait()
        finally:
            self._waiting -= 1
            acting.held += time.perf_counter() - started


def _range(rows: Rows) -> Rows:
    """Return the range that rows in any order lie in."""
    return (int(rows.min()), int(rows.max()) + 1) if isinstance(rows, np.ndarray) and len(rows) else rows


def _extent(rows: np.ndarray[Any, np.dtype[np.int64]]) -> Rows:
    """Return rows in any order as hazards know them; of very many only the range, which is quicker found."""
    if len(rows) > _FEW:
        return _range(rows)
    if len(rows) and bool((rows[1:] > rows[:-1]).all()):
        # As nearly all rows come, mostly one after the other.
        first, last = int(rows[0]), int(rows[-1])
        return (first, last + 1) if last - first + 1 == len(rows) else rows.copy()
    return np.unique(rows)
