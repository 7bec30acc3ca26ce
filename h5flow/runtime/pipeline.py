"""Pipelined mode: slices in turn as long as nothing is won by more, and then the actors and the mailboxes between them.

    generator ─▶ prefetcher ─▶ stage 1 ─▶ stage 2 ─▶ … ─▶ committer

The output is that of sequential mode; see `hazards` for why. Slices in turn need no event loop, and until some overlap
asyncio isn't imported: that takes as long as a short run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from h5flow.runtime.component_turns import GeneratorTurns, Parcel, StageTurns
from h5flow.runtime.in_turn import InTurn
from h5flow.runtime.lock_need import LockNeed
from h5flow.runtime.loop_inputs import LoopInputs, RunOptions
from h5flow.runtime.mailbox import Mailbox
from h5flow.runtime.measures import GENERATOR, PREFETCH, actor_of
from h5flow.runtime.pipeline_parts import Parts
from h5flow.runtime.pipeline_state import PipelineState
from h5flow.runtime.prefetching import Forecast, Loading
from h5flow.runtime.stopping import Stopped, StopRequest
from h5flow.runtime.tracing import Tracer
from h5flow.runtime.worker import Worker
from h5flow.telemetry.state import QueueState, RunState

T = TypeVar("T")

# Threads that read return to Python often; at the usual 5 ms a stage of pure Python would starve them.
_SWITCH_INTERVAL = 5e-4


class Pipeline:
    """One run of the loop. `workers` are the threads of the generator and of each stage."""

    def __init__(
        self, inputs: LoopInputs, options: RunOptions, workers: Sequence[Worker], tracer: Tracer, stop: StopRequest
    ) -> None:
        # Of slices in turn, which is when it is measured.
        self._lock_need = LockNeed([workers[0].thread])
        self._shared = PipelineState(inputs, options, tracer, stop, self._lock_need)
        self._began = time.perf_counter()
        self._tracer = tracer
        self._loop = options.loop
        forecast = Forecast(tracer.hazards, inputs.steps, inputs.source)
        self._loading = Loading(inputs.loader, forecast, tracer, inputs.source, self._shared)
        stages = [
            StageTurns(position, step, inputs.source, self._loading, self._shared)
            for position, step in enumerate(inputs.steps, start=1)
        ]
        generator = GeneratorTurns(inputs.generator, inputs.generator_where, self._shared)
        depths = {name: options.depths.of(name) for name in (GENERATOR, PREFETCH)}
        depths |= {actor_of(step.stage.name): options.depths.of(step.stage.name) for step in inputs.steps}
        self._parts = Parts(
            state=self._shared,
            generator=generator,
            stages=stages,
            in_turn=InTurn(generator, stages, self._shared) if self._shared.bypasses_loop else None,
            loading=self._loading,
            mailboxes=[Mailbox(name, depth) for name, depth in depths.items()],
            workers=list(workers),
            loaders=[Worker(f"h5flow loader {number + 1}") for number in range(options.loaders)],
            writer=Worker("h5flow writer"),
            tunes=options.depths.automatic,
        )

    def run(self) -> BaseException | None:
        """Run until there are no more slices; returns what has gone wrong, if anything.

        When it returns no thread is at work any more.
        """
        state, parts, loop = self._shared, self._parts, self._loop
        if loop == "uvloop":
            from h5flow.runtime.overlapping import loop_factory

            loop_factory(loop)  # who has asked for it is to hear at once that there is none
        with self._running():
            try:
                if parts.in_turn is not None:
                    self._pass_in_turn(parts.in_turn)
                if not (state.over or parts.generator.ended):
                    from h5flow.runtime.overlapping import overlap, run_on_loop

                    run_on_loop(lambda: overlap(parts), loop)
            except BaseException:
                state.fail(_cancelled())
                raise
            finally:
                for worker in self._end():
                    worker.rest()
        return state.failure

    async def run_on_callers_loop(self) -> BaseException | None:
        """Run as `run` does, on the event loop that is running."""
        from h5flow.runtime.overlapping import overlap, rest

        with self._running():
            try:
                await overlap(self._parts)
            except BaseException:
                self._shared.fail(_cancelled())
                raise
            finally:
                for worker in self._end():
                    await rest(worker)
        return self._shared.failure

    @contextmanager
    def _running(self) -> Iterator[None]:
        state = self._shared
        draws = state.draws.loop() if state.randomness.shared else state.randomness.loop()
        with _switching_often(), draws:
            self._tracer.start()
            try:
                yield
            finally:
                for worker in (*self._parts.loaders, self._parts.writer):
                    worker.close(wait=False)

    def _end(self) -> Sequence[Worker]:
        """End the loop; returns the threads that are to be waited for."""
        self._lock_need.end()
        self._tracer.end(abandoned=self._shared.over)
        # With other ranks, threads may wait for some that have failed or will be ended by this one.
        leaving = self._shared.stop.at_once or (self._shared.over and self._tracer.ranks.several)
        parts = self._parts
        return () if leaving else (*parts.workers, *parts.loaders, parts.writer)

    def _pass_in_turn(self, in_turn: InTurn) -> None:
        """Pass slices until there are no more, or some shall overlap."""
        state, generator = self._shared, self._parts.generator
        while state.in_turn and not (state.over or generator.ended):
            state.take_turns()
            count = state.turns
            outcome = self._parts.workers[0].outcome(lambda count=count: in_turn.take(count))  # type: ignore[misc]
            if outcome.error is not None:
                state.fail(outcome.error)
                return
            if outcome.value:
                in_turn.account(outcome.value)
                state.commit(outcome.value)
        if not generator.ended:
            state.watch_draws()

    def state(self) -> RunState:
        """Say how far the loop is; may be asked from any thread."""
        state, parts = self._shared, self._parts
        return RunState(
            slices=state.done.slices,
            rows=state.done.rows,
            seconds=time.perf_counter() - self._began,
            in_flight=state.budget.in_flight + (0 if parts.in_turn is None else parts.in_turn.in_flight),
            in_flight_bytes=state.budget.bytes,
            bytes=state.measures.bytes,
            reloads=self._loading.reloads,
            single=state.single,
            alone=state.batches.alone,
            actors=dict(state.measures.actors),
            queues=tuple(_state_of(mailbox) for mailbox in parts.mailboxes),
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
