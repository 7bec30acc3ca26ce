"""Pipelined mode: the actors of a run and the mailboxes between them.

    generator ─▶ prefetcher ─▶ stage 1 ─▶ stage 2 ─▶ … ─▶ committer

The output is that of sequential mode; see `hazards` for why.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from h5flow.data import H5FlowDataManager
from h5flow.errors import UsageError
from h5flow.runtime.actors import Committing, Generating, Parcel, Prefetching, Staging
from h5flow.runtime.budget import Budget
from h5flow.runtime.components import Generator
from h5flow.runtime.failure import Where
from h5flow.runtime.hazards import Hazards
from h5flow.runtime.loading import RequirementLoader
from h5flow.runtime.lock_need import LockNeed
from h5flow.runtime.mailbox import Closed, Mailbox
from h5flow.runtime.measures import GENERATOR, PREFETCH, Measures, actor_of
from h5flow.runtime.pipeline_state import Failed, Flight
from h5flow.runtime.prefetching import Forecast, Loading
from h5flow.runtime.randomness import Randomness
from h5flow.runtime.steps import Done, Step
from h5flow.runtime.stopping import Stopped, StopRequest
from h5flow.runtime.tracing import Tracer
from h5flow.runtime.worker import Worker
from h5flow.telemetry import emit
from h5flow.telemetry.events import QueueDeepened
from h5flow.telemetry.state import QueueState, RunState

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# Threads that read return to Python often; at the usual 5 ms a stage of pure Python would starve them.
_SWITCH_INTERVAL = 5e-4
_AUTOMATIC_DEPTH = 2
_DEEPEST = 64


class Depths(msgspec.Struct, frozen=True):
    """How many parcels the mailboxes hold: that of the generator, of the prefetcher, and of each stage."""

    default: int = 4
    #: By the name of who fills the mailbox: `generator`, `prefetch`, or a stage.
    named: Mapping[str, int] = msgspec.field(default_factory=dict)
    #: Whether mailboxes grow whose consumers starve.
    automatic: bool = False

    def of(self, name: str) -> int:
        """The depth of a mailbox at the beginning."""
        return self.named.get(name, _AUTOMATIC_DEPTH if self.automatic else self.default)


class Pipeline:
    """One run of the loop. `workers` are the threads of the generator and of each stage."""

    def __init__(
        self,
        generator: Generator,
        generator_where: Where,
        steps: Sequence[Step],
        loader: RequirementLoader,
        data_manager: H5FlowDataManager,
        workers: Sequence[Worker],
        hazards: Hazards,
        tracer: Tracer,
        *,
        depths: Depths,
        loaders: int,
        budget: Budget,
        done: Done,
        stop: StopRequest,
        randomness: Randomness,
        measures: Measures | None = None,
    ) -> None:
        components = [generator_where.component, *(step.where.component for step in steps)]
        # Of slices in turn, which is when it is measured.
        self._lock_need = LockNeed([workers[0].thread])
        self.flight = Flight(
            components,
            budget,
            tracer,
            stop,
            randomness,
            done,
            data_manager.all_done,
            self._lock_need,
            loaders,
            lambda: data_manager.data_file.has_to_settle,
            measures,
        )
        self._began = time.perf_counter()
        self._workers = list(workers)
        self._tracer = tracer
        self._depths = depths
        source = generator.dset_name
        stages = [step.stage.name for step in steps]
        self.loading = Loading(loader, Forecast(hazards, steps, source), tracer, source)
        self._loaders = [Worker(f"h5flow loader {number + 1}") for number in range(loaders)]
        self._writer = Worker("h5flow writer")
        self.mailboxes: list[Mailbox[Parcel]] = [
            *(Mailbox(name, depths.of(name)) for name in (GENERATOR, PREFETCH)),
            *(Mailbox(actor_of(name), depths.of(name)) for name in stages),
        ]
        generated, loaded, *_ = self.mailboxes
        self._generating = generating = Generating(generator, generator_where, workers[0], generated, self.flight)
        stagings = [
            Staging(position, step, source, self.loading, worker, inbox, outbox, self.flight)
            for position, (step, worker, (inbox, outbox)) in enumerate(
                zip(steps, workers[1:], itertools.pairwise(self.mailboxes[1:]), strict=True), start=1
            )
        ]
        generating.pass_by(stagings, self.mailboxes[-1])
        self._actors: list[Callable[[], Awaitable[None]]] = [
            generating.act,
            Prefetching(self.loading, self._loaders, generated, loaded, self.flight).act,
            Committing(data_manager, self.loading, self._writer, self.mailboxes[-1], self.flight).act,
            *(staging.act for staging in stagings),
        ]

    async def run(self) -> BaseException | None:
        """Run until there are no more slices; returns what has gone wrong, if anything.

        When it returns no thread is at work any more.
        """
        failure: BaseException | None = None
        flight = self.flight
        draws = flight.draws.loop() if flight.randomness.shared else flight.randomness.loop()
        with _switching_often(), draws:
            self._tracer.running = True
            self._lock_need.start()
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(_guarded(act)) for act in self._actors]
                    if self._depths.automatic:
                        tuning = group.create_task(self._tune())
                        group.create_task(_cancel_after(tasks, tuning))
            except* Failed:
                failure = self.flight.failure
            except* Exception as group_error:  # noqa: BLE001 - it is handed on
                failure = self.flight.failure or _first(group_error)
            finally:
                self._lock_need.end()
                self._tracer.running = False
                if failure is not None or sys.exc_info()[0] is not None:
                    self.flight.failure = self.flight.failure or failure or RuntimeError("the run was cancelled")
                    self._tracer.end()
                # With other ranks, threads may wait for some that have failed or will be ended by this one.
                leaving = self.flight.stop.at_once or (failure is not None and self._tracer.passed is not None)
                for worker in () if leaving else (*self._workers, *self._loaders, self._writer):
                    await asyncio.shield(worker.rest())
                for worker in (*self._loaders, self._writer):
                    worker.close(wait=False)
        return failure

    def state(self) -> RunState:
        """How far the loop is; may be asked from any thread."""
        flight = self.flight
        return RunState(
            slices=flight.done.slices,
            rows=flight.done.rows,
            seconds=time.perf_counter() - self._began,
            in_flight=flight.budget.in_flight + self._generating.passing_by,
            in_flight_bytes=flight.budget.bytes,
            bytes=0 if flight.measures is None else flight.measures.bytes,
            reloads=self.loading.reloads,
            single=flight.single,
            alone=flight.batches.alone,
            actors={} if flight.measures is None else flight.measures.actors,
            queues=tuple(_state_of(mailbox) for mailbox in self.mailboxes),
        )

    async def _tune(self) -> None:
        """Deepen mailboxes that are now full, now empty: more room lets fast and slow slices even out."""
        waits: dict[str, tuple[float, float]] = {mailbox.name: (0.0, 0.0) for mailbox in self.mailboxes}
        while True:
            await asyncio.sleep(0.25)
            for mailbox in self.mailboxes[:-1]:
                statistics = mailbox.statistics
                before = waits[mailbox.name]
                waits[mailbox.name] = (statistics.put_wait, statistics.get_wait)
                starved = statistics.get_wait - before[1]
                blocked = statistics.put_wait - before[0]
                if starved > 0.01 and blocked > 0.01 and mailbox.depth < _DEEPEST and self.flight.budget.admits():
                    mailbox.deepen(2 * mailbox.depth)
                    emit(QueueDeepened(queue=mailbox.name, depth=mailbox.depth, put_wait_s=blocked, get_wait_s=starved))


def _state_of(mailbox: Mailbox[Parcel]) -> QueueState:
    seen = mailbox.statistics
    return QueueState(
        name=mailbox.name,
        depth=mailbox.depth,
        occupancy=len(mailbox),
        highest=seen.highest,
        puts=seen.puts,
        gets=seen.gets,
        put_wait=seen.put_wait,
        get_wait=seen.get_wait,
    )


async def _guarded(act: Callable[[], Awaitable[None]]) -> None:
    """Run an actor; that a mailbox is closed too early means that another actor has failed."""
    try:
        await act()
    except Closed as error:
        raise Failed from error


async def _cancel_after(tasks: Sequence[asyncio.Task[None]], other: asyncio.Task[None]) -> None:
    await asyncio.wait(tasks)
    other.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run_on_loop(main: Callable[[], Any], factory: LoopFactory | None) -> Any:
    """The result of a coroutine function, run on an event loop that `factory` makes.

    Where a loop is running already, as in a notebook, it gets a thread of its own.
    """

    def run() -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    return run_off_loop(run)


def run_off_loop(function: Callable[[], T]) -> T:
    """Make a call where no event loop is running: here, or in a thread of its own."""
    if not _on_running_loop():
        return function()
    worker = Worker("h5flow")
    try:
        return worker.call(function)
    except Stopped as stopped:
        worker.close(wait=not stopped.at_once)
        raise
    finally:
        worker.close(wait=False)


def _on_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def loop_factory(name: str) -> LoopFactory | None:
    """What makes event loops: `uvloop`, `asyncio`, or `auto`, which is uvloop where it is installed."""
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError as error:
        if name == "uvloop":
            raise UsageError(
                "runtime.loop: uvloop isn't installed; pip install uvloop, or set runtime.loop to auto"
            ) from error
        return None
    return uvloop.new_event_loop
