"""What the actors of a run share: the slices in flight, how many there may be, and whether to go on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from h5flow.runtime.batches import Batches
from h5flow.runtime.budget import SPARE, Budget
from h5flow.runtime.hazards import Conflict
from h5flow.runtime.lock_need import LockNeed
from h5flow.runtime.loop_inputs import LoopInputs, RunOptions
from h5flow.runtime.mailbox import wake_all, woken
from h5flow.runtime.process_memory import peak_memory
from h5flow.runtime.randomness import DrawWatch
from h5flow.runtime.steps import Slice
from h5flow.runtime.stopping import StopRequest
from h5flow.runtime.task_context import task_context
from h5flow.runtime.tracing import Abandoned, Tracer
from h5flow.telemetry import emit
from h5flow.telemetry.events import SlicesBatched, SlicesSerialized
from h5flow.workflow.sizes import parse_size

if TYPE_CHECKING:
    import asyncio

# So many slices that aren't empty run one at a time at first, to see what components do and what it costs: the
# first, the second, which may look back at one before it, and one that may look back at both. No more than so many.
_WARM_UP = 3
_LONGEST_WARM_UP = 16


class Failed(Exception):
    """An actor has ended the run."""


class PipelineState:
    """The slices in flight. Owned by the event loop; threads look at `over` and `stop` only."""

    def __init__(
        self, inputs: LoopInputs, options: RunOptions, tracer: Tracer, stop: StopRequest, lock_need: LockNeed
    ) -> None:
        #: Where somebody wants to know what slices take.
        self.measures = inputs.measures
        self.budget = _budget(options.max_in_flight)
        self.tracer = tracer
        self.stop = stop
        self.randomness = inputs.randomness
        self.done = inputs.done
        self.batches = Batches()
        self.lock_need = lock_need
        self.draws = DrawWatch(lambda: _component(inputs.names), self._drawn, self._strayed)
        self.failure: BaseException | None = None
        #: Whether it is known what components do.
        self.warm = False
        #: Whether slices in turn pass the event loop by, all components one after the other.
        self.bypasses_loop = not inputs.asynchronous
        self._file = inputs.file
        self._loaders = options.loaders
        self._seen = (0, 0)
        self._waiters: deque[asyncio.Future[None]] = deque()

    def all_done(self, stopping: bool) -> bool:
        """Say whether the slices of all ranks end, asked where those of this one do."""
        return self._file.ranks.all_done(stopping)

    # failing

    def fail(self, error: BaseException) -> Failed:
        """Note what has gone wrong first; the result is to be raised."""
        if self.failure is None and not isinstance(error, Abandoned):
            self.failure = error
        return Failed()

    @property
    def over(self) -> bool:
        """Say whether threads shall take up no more slices."""
        return self.failure is not None

    # how many slices

    @property
    def single(self) -> bool:
        """Say whether slices run one at a time."""
        return self.tracer.single

    @property
    def in_turn(self) -> bool:
        """Say whether one parcel of slices at a time is in flight."""
        return self.single or self.batches.alone

    @property
    def fills_up(self) -> bool:
        """Say whether more slices may be in flight beside those that are."""
        return not (self.in_turn or self.tracer.in_turn)

    @property
    def at_once(self) -> bool:
        """Say whether each slice is handed on as soon as a component is done with it.

        Components may wait for those of other ranks by messages that nobody knows of here, and these for the slice.
        """
        return self.tracer.ranks.several

    @property
    def batch(self) -> int:
        """Say how many slices the generator takes at a time."""
        if self.single or self.at_once:
            return 1
        room = self.budget.room()
        return self.batches.size if room is None else min(room, self.batches.size)

    @property
    def turns(self) -> int:
        """Say how many slices go in turn before the loop hears of them."""
        return 1 if self.single or self.at_once else self.batches.size

    async def admission(self) -> None:
        """Wait until the generator may go on, or shall stop."""
        while not (self.stop.made or self._admits()):
            await woken(self._waiters)
        self.take_turns()

    def take_turns(self) -> None:
        """Decide whether slices go in turn from now on, if nothing is in flight."""
        if not self.budget.in_flight:
            in_turn = self.single or (self.batches.alone and self.bypasses_loop)
            if self.tracer.leaves_alone and not in_turn:
                # What the stage does, of which nothing was noted, may have changed.
                self._warm_up_again()
            self.tracer.take_turns(in_turn or self.single)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, which is looked at whenever something has `changed`."""
        while not condition():
            await woken(self._waiters)

    def changed(self) -> None:
        """Note that a slice has left, or has been charged for, or the run shall stop."""
        wake_all(self._waiters)

    def commit(self, parcel: list[Slice]) -> None:
        """Note that slices have passed all stages."""
        for item in parcel:
            self.budget.leave(item.number)
            self.done.count(item.rows)
            self.measures.done(item)
        seconds = sum(item.seconds for item in parcel)
        longest = sum(max(item.longest, item.loading / self._loaders) for item in parcel)
        # From the second slice on: the first one meets with what others don't, such as memory that is new.
        self.lock_need.start(seconds / len(parcel))
        if self.batches.note(
            seconds,
            len(parcel),
            time.perf_counter(),
            longest=longest,
            need=self.lock_need.share,
            single=self.single,
        ):
            emit(SlicesBatched(alone=self.batches.alone, pace=self.batches.pace))
            self.lock_need.pause(not self.batches.alone)
        if self.single and not self.warm:
            slices, rows = self._seen
            self._seen = (slices + len(parcel), rows + sum(item.rows.start != item.rows.stop for item in parcel))
            if self._seen[0] >= _LONGEST_WARM_UP or self._seen[1] >= _WARM_UP:
                self._end_warm_up()
        if not self.single and self.tracer.untraceable is not None:
            self._one_at_a_time()

    def watch_draws(self) -> None:
        """See who draws random numbers from now on, whatever it is that they import, since slices overlap."""
        if self.randomness.shared:
            self.draws.watch_all()

    @property
    def watches_draws(self) -> bool:
        """Say whether draws of random numbers are seen."""
        return not self.randomness.shared or self.draws.watches_all

    @property
    def has_to_settle(self) -> bool:
        """Say whether something of what has been written is to be brought to the file."""
        return self._file.has_to_settle

    def settle(self) -> None:
        """Bring to the file what has been buffered for long, in the calling thread; called between slices."""
        if self._file.has_to_settle:
            started = time.perf_counter()
            self._file.settle()
            self.measures.settled(started, time.perf_counter())

    def _admits(self) -> bool:
        return self.budget.admits() if self.fills_up else not self.budget.in_flight

    def _warm_up_again(self) -> None:
        self.warm, self._seen = False, (0, 0)
        self.tracer.run_singly(True)

    def _end_warm_up(self) -> None:
        self.warm = True
        self.budget.grant(peak_memory())
        drawing = self.draws.drawing
        if self.randomness.shared and len(drawing) > 1:
            reason = (
                f"{' and '.join(drawing)} draw from the same random generator, so slices run one at a time, as in"
                " mode: sequential; with runtime.random: per-stage each has draws of its own, and they overlap"
            )
            emit(SlicesSerialized(reason=reason))
        elif self.tracer.untraceable is not None:
            self._one_at_a_time()
        else:
            self.tracer.run_singly(False)

    def _one_at_a_time(self) -> None:
        self.tracer.run_singly(True)
        emit(SlicesSerialized(reason=f"slices run one at a time: a component uses {self.tracer.untraceable}"))

    def _drawn(self, component: str) -> None:
        """Note that a component draws random numbers for the first time."""
        drawing = self.draws.drawing
        if not self.single and len(drawing) > 1:
            raise Conflict(
                f"{' and '.join(drawing)} draw from the same random generator, and not in the order of slices any"
                " more; run this workflow with runtime.random: per-stage, or with runtime.mode: sequential"
            )

    def _strayed(self) -> None:
        """Note that somebody draws random numbers, and nobody knows who."""
        what = "the shared random generator on a thread of its own, or by a function of random kept in an object"
        if not self.single:
            raise Conflict(
                f"a component uses {what}, while several slices are in flight, whose order isn't known;"
                " run this workflow with runtime.mode: sequential"
            )
        self.tracer.cannot_follow(what)


def _budget(max_in_flight: str | int) -> Budget:
    if max_in_flight == "auto":
        return Budget(spare=SPARE)
    return Budget(size=parse_size(max_in_flight)) if isinstance(max_in_flight, str) else Budget(slices=max_in_flight)


def _component(names: list[str]) -> str | None:
    """Return the name of the component at work, `None` where there is none."""
    acting = task_context.get()
    return None if acting is None or acting.moment is None else names[acting.position]
