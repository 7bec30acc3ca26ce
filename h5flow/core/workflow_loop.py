"""The loop of a workflow: over all slices, in the mode that is chosen, on the caller's event loop or off it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from h5flow.core.workflow_reporter import WorkflowReporter
from h5flow.data.file.ranks import FileRanks
from h5flow.mpi import parted
from h5flow.ranks.moments import AFTER, LOOP
from h5flow.runtime.loop_inputs import LoopInputs, RunOptions
from h5flow.runtime.pipeline import Pipeline, run_off_loop
from h5flow.runtime.stopping import Stopped, StopRequest
from h5flow.runtime.tracing import Tracer
from h5flow.runtime.worker import Worker
from h5flow.telemetry.standard import keep_records_told
from h5flow.telemetry.state import RunState


class WorkflowLoop:
    """Runs once; `total` is how many slices there are, if that is known. Without `workers` slices run one at a time.

    What `run` and `run_async` raise is the error of a component, with where it happened, or `Stopped`.
    """

    def __init__(
        self,
        inputs: LoopInputs,
        options: RunOptions,
        workers: Sequence[Worker],
        tracer: Tracer,
        reporter: WorkflowReporter,
        total: int | None,
    ) -> None:
        self._inputs = inputs
        self._options = options
        self._workers = workers
        self._tracer = tracer
        self._reporter = reporter
        self._total = total

    def run(self, stop: StopRequest) -> None:
        """Run, where no event loop is running: here, or in a thread of its own."""
        if not self._workers:
            with self._told(self._state):
                run_off_loop(lambda: self._run_slices(stop))
            return
        pipeline = self._pipeline(stop)
        with self._told(pipeline.state):
            failure = run_off_loop(pipeline.run)
        if failure is not None:
            raise failure

    async def run_async(self, stop: StopRequest) -> None:
        """Run on the event loop of the caller."""
        if not self._workers:
            worker = Worker("h5flow sequential")
            try:
                with self._told(self._state):
                    await worker.run(lambda: self._run_slices(stop))
            finally:
                worker.close()
            return
        pipeline = self._pipeline(stop)
        with self._told(pipeline.state):
            failure = await pipeline.run_on_callers_loop()
        if failure is not None:
            raise failure

    def _run_slices(self, stop: StopRequest) -> None:
        from h5flow.runtime.sequential import run_slices

        run_slices(self._inputs, stop)

    def _told(self, state: Callable[[], RunState]) -> AbstractContextManager[None]:
        return self._reporter.loop(state, self._total)

    def _state(self) -> RunState:
        return self._reporter.state(self._inputs.done)

    def _pipeline(self, stop: StopRequest) -> Pipeline:
        return Pipeline(self._inputs, self._options, self._workers, self._tracer, stop)


@contextmanager
def looping(
    stopping: AbstractContextManager[StopRequest], ranks: FileRanks, close: Callable[[], None]
) -> Iterator[StopRequest]:
    """Let ranks hear, for the duration of a loop, of its beginning, of a request to stop, and of a failure.

    `stopping` raises `Stopped` at its end if the loop was to stop. Then, with other ranks, the file is closed by
    `close`, which is collective, if that is possible.
    """
    keep_records_told()
    try:
        with stopping as stop:
            ranks.listen_for_stop(stop.make_elsewhere)
            ranks.enter(LOOP)
            yield stop
    except Stopped as stopped:
        if ranks.several and not stopped.at_once:
            if not ranks.stopping:
                # The loop was over when this rank was told, and others go on: who ends it has to end all.
                raise
            ranks.enter(AFTER)
            close()
            ranks.end()
            parted()
        raise
    except BaseException:
        ranks.fail()
        raise
