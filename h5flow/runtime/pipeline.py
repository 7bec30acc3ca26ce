"""Pipelined mode: slices in turn as long as nothing is won by more, and then the actors and the mailboxes between them.

    generator ─▶ prefetcher ─▶ stage 1 ─▶ stage 2 ─▶ … ─▶ committer

The output is that of sequential mode; see `hazards` for why. Slices in turn need no event loop, and until some overlap
asyncio isn't imported: that takes as long as a short run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from h5flow.data import H5FlowDataManager
from h5flow.runtime.budget import Budget
from h5flow.runtime.components import Generator
from h5flow.runtime.failure import Where
from h5flow.runtime.hazards import Hazards
from h5flow.runtime.loading import RequirementLoader
from h5flow.runtime.lock_need import LockNeed
from h5flow.runtime.mailbox import Mailbox
from h5flow.runtime.measures import GENERATOR, PREFETCH, Measures, actor_of
from h5flow.runtime.pipeline_state import Flight
from h5flow.runtime.prefetching import Forecast, Loading
from h5flow.runtime.randomness import Randomness
from h5flow.runtime.relay import Relay
from h5flow.runtime.stations import Parcel, Source, Station
from h5flow.runtime.steps import Done, Step
from h5flow.runtime.stopping import Stopped, StopRequest
from h5flow.runtime.tracing import Tracer
from h5flow.runtime.worker import Worker
from h5flow.telemetry.state import QueueState, RunState

T = TypeVar("T")

if TYPE_CHECKING:
    from h5flow.runtime.overlapping import Parts

# Threads that read return to Python often; at the usual 5 ms a stage of pure Python would starve them.
_SWITCH_INTERVAL = 5e-4
_AUTOMATIC_DEPTH = 2


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
            data_manager.data_file,
            measures,
        )
        self._began = time.perf_counter()
        self.workers = list(workers)
        self._tracer = tracer
        self.depths = depths
        source = generator.dset_name
        stages = [step.stage.name for step in steps]
        self.loading = Loading(loader, Forecast(hazards, steps, source), tracer, source)
        self.loaders = [Worker(f"h5flow loader {number + 1}") for number in range(loaders)]
        self.writer = Worker("h5flow writer")
        self.mailboxes: list[Mailbox[Parcel]] = [
            *(Mailbox(name, depths.of(name)) for name in (GENERATOR, PREFETCH)),
            *(Mailbox(actor_of(name), depths.of(name)) for name in stages),
        ]
        self.source = Source(generator, generator_where, self.flight)
        self.stations = [
            Station(position, step, source, self.loading, self.flight) for position, step in enumerate(steps, start=1)
        ]
        #: Passes slices in turn, unless components run on an event loop.
        self.relay: Relay | None = None
        if not (self.source.asynchronous or any(station.asynchronous for station in self.stations)):
            self.relay = Relay(self.source, self.stations, self.flight)
            self.flight.relayed = True

    def run(self, loop: str) -> BaseException | None:
        """Run until there are no more slices; returns what has gone wrong, if anything.

        When it returns no thread is at work any more. `loop` says which event loop is made where slices overlap:
        `uvloop`, `asyncio`, or `auto`, which is uvloop where it is installed.
        """
        flight = self.flight
        if loop == "uvloop":
            from h5flow.runtime.overlapping import loop_factory

            loop_factory(loop)  # who has asked for it is to hear at once that there is none
        with self._running():
            try:
                if self.relay is not None:
                    self._pass_in_turn(self.relay)
                if not (flight.over or self.source.ended):
                    from h5flow.runtime.overlapping import overlap, run_on_loop

                    run_on_loop(lambda: overlap(self._parts()), loop)
            except BaseException:
                flight.fail(_cancelled())
                raise
            finally:
                for worker in self._end():
                    worker.rest()
        return flight.failure

    async def run_on_callers_loop(self) -> BaseException | None:
        """As `run`, on the event loop that is running."""
        from h5flow.runtime.overlapping import overlap, rest

        with self._running():
            try:
                await overlap(self._parts())
            except BaseException:
                self.flight.fail(_cancelled())
                raise
            finally:
                for worker in self._end():
                    await rest(worker)
        return self.flight.failure

    def _parts(self) -> Parts:
        from h5flow.runtime.overlapping import Parts

        return Parts(
            flight=self.flight,
            source=self.source,
            stations=self.stations,
            relay=self.relay,
            loading=self.loading,
            workers=self.workers,
            loaders=self.loaders,
            writer=self.writer,
            mailboxes=self.mailboxes,
            tuned=self.depths.automatic,
        )

    @contextmanager
    def _running(self) -> Iterator[None]:
        flight = self.flight
        draws = flight.draws.loop() if flight.randomness.shared else flight.randomness.loop()
        with _switching_often(), draws:
            self._tracer.running = True
            try:
                yield
            finally:
                for worker in (*self.loaders, self.writer):
                    worker.close(wait=False)

    def _end(self) -> Sequence[Worker]:
        """End the loop; returns the threads that are to be waited for."""
        self._lock_need.end()
        self._tracer.running = False
        if self.flight.over:
            self._tracer.end()
        # With other ranks, threads may wait for some that have failed or will be ended by this one.
        leaving = self.flight.stop.at_once or (self.flight.over and self._tracer.passed is not None)
        return () if leaving else (*self.workers, *self.loaders, self.writer)

    def _pass_in_turn(self, relay: Relay) -> None:
        """Pass slices until there are no more, or some shall overlap."""
        flight = self.flight
        while flight.in_turn and not (flight.over or self.source.ended):
            flight.take_turns()
            count = flight.turns
            outcome = self.workers[0].outcome(lambda count=count: relay.take(count))  # type: ignore[misc]
            if outcome.error is not None:
                flight.fail(outcome.error)
                return
            if outcome.value:
                relay.account(outcome.value)
                flight.commit(outcome.value)
                self.loading.warm = flight.warm
        if not self.source.ended:
            flight.watch_draws()

    def state(self) -> RunState:
        """How far the loop is; may be asked from any thread."""
        flight = self.flight
        return RunState(
            slices=flight.done.slices,
            rows=flight.done.rows,
            seconds=time.perf_counter() - self._began,
            in_flight=flight.budget.in_flight + (0 if self.relay is None else self.relay.in_flight),
            in_flight_bytes=flight.budget.bytes,
            bytes=0 if flight.measures is None else flight.measures.bytes,
            reloads=self.loading.reloads,
            single=flight.single,
            alone=flight.batches.alone,
            actors={} if flight.measures is None else flight.measures.actors,
            queues=tuple(_state_of(mailbox) for mailbox in self.mailboxes),
        )


def _cancelled() -> RuntimeError:
    return RuntimeError("the run was cancelled")


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


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


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
    asyncio = sys.modules.get("asyncio")  # without it there is none
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
