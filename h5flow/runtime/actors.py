"""The actors of a pipelined run: generator, prefetcher, stages, committer, each a task of one event loop.

They hand each other parcels of one or more slices. What may block, users' code and HDF5, runs on threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from h5flow.data.awaitable import off_loop
from h5flow.runtime.batches import CHEAP
from h5flow.runtime.component_turns import Emit, GeneratorTurns, Parcel, StageTurns
from h5flow.runtime.components import awaited_slice
from h5flow.runtime.failure import locate
from h5flow.runtime.in_turn import InTurn
from h5flow.runtime.mailbox import Closed, Mailbox
from h5flow.runtime.pipeline_state import PipelineState
from h5flow.runtime.prefetching import Loading, size_of
from h5flow.runtime.steps import Slice
from h5flow.runtime.task_context import TaskContext, entered
from h5flow.runtime.worker import Outcome, Worker, tell

T = TypeVar("T")


class _End:
    """The last that a worker sends."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: Outcome[Any]) -> None:
        self.outcome = outcome


async def streamed(worker: Worker, function: Callable[[Emit[T]], None], state: PipelineState) -> AsyncIterator[T]:
    """Yield what a function emits in a worker's thread, as it comes. Raises `Failed` if the function fails."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[T | _End] = asyncio.Queue()

    def emit(item: T | _End) -> None:
        tell(loop, arrived.put_nowait, item)

    worker.start(lambda: function(emit), lambda outcome: emit(_End(outcome)))
    while True:
        item = await arrived.get()
        if isinstance(item, _End):
            if item.outcome.error is not None:
                raise state.fail(item.outcome.error)
            return
        yield item


class Generating:
    """The generator as an actor: takes slices from it as the budget admits them."""

    def __init__(
        self,
        source: GeneratorTurns,
        in_turn: InTurn | None,
        worker: Worker,
        outbox: Mailbox[Parcel],
        finished: Mailbox[Parcel],
        state: PipelineState,
    ) -> None:
        """Connect the actor; `in_turn`, if given, passes slices in turn by the other actors, to the last mailbox."""
        self._source = source
        self._in_turn = in_turn
        self._worker = worker
        self._outbox = outbox
        self._finished = finished
        self._state = state

    async def act(self) -> None:
        """Go on until there are no more slices."""
        state = self._state
        loop = asyncio.get_running_loop()

        def stopping() -> None:
            tell(loop, state.changed)

        state.stop.listen(stopping)
        source, worker = self._source, self._worker
        while not source.ended:
            await state.admission()
            if source.asynchronous:
                await self._next_on_loop()
            elif self._in_turn is not None and state.in_turn:
                await self._pass_by(self._in_turn)
            else:
                count = state.batch
                async for parcel in streamed(worker, lambda emit, n=count: source.take(n, emit), state):  # type: ignore[misc]
                    await self._hand_on(parcel)
        self._outbox.close()

    async def _hand_on(self, parcel: Parcel) -> None:
        for item in parcel:
            self._state.budget.enter(item.number)
        await self._outbox.put(parcel)

    async def _pass_by(self, in_turn: InTurn) -> None:
        count = self._state.turns

        def take(emit: Emit[Parcel]) -> None:
            emit(in_turn.take(count))

        async for parcel in streamed(self._worker, take, self._state):
            if parcel:
                in_turn.account(parcel)
                await self._finished.put(parcel)

    async def _next_on_loop(self) -> None:
        source, state = self._source, self._state
        source.go_on_loop()
        started = time.perf_counter()
        if state.stop.made and await self._all_done(stopping=True):
            source.end()
            return
        state.tracer.ranks.ask(source.number)
        generator, component = source.generator, source.where.component
        try:
            rows = await _on_loop(source.context, lambda: awaited_slice(generator), component, self._worker, state)
        except BaseException as error:
            if _is_cancelled(error):
                raise
            locate(error, source.where)
            raise state.fail(error) from None
        state.draws.look(component)
        if isinstance(rows, slice) and rows == generator.EMPTY and await self._all_done(stopping=False):
            source.end()
        else:
            await self._hand_on([source.begun(rows, started, time.perf_counter())])

    async def _all_done(self, *, stopping: bool) -> bool:
        def ask() -> bool:
            with entered(TaskContext(0, (self._source.number, 0))):
                return self._state.all_done(stopping)

        return await self._worker.run(ask)


async def _on_loop(
    context: TaskContext, function: Callable[[], Awaitable[T]], component: str, worker: Worker, state: PipelineState
) -> T:
    """Await a user's coroutine function in a task context; what it can't do on the loop is done by `worker`."""

    assert context.moment is not None
    number = context.moment[0]

    async def elsewhere(call: Callable[[], T]) -> T:
        def there() -> T:
            with entered(TaskContext(context.position, context.moment, rows=context.rows)) as other:
                try:
                    return call()
                finally:
                    context.add(other)

        return await worker.run(there)

    async def guarded() -> Outcome[T]:
        # The error travels as a value: raised out of a task, some kinds of it would end the event loop.
        off_loop.set(elsewhere)
        try:
            with entered(context), state.randomness.of(component, number):
                return Outcome(await function())
        except BaseException as error:
            if _is_cancelled(error):
                raise
            return Outcome(error=error)

    return (await asyncio.get_running_loop().create_task(guarded())).result()


def _is_cancelled(error: BaseException) -> bool:
    """Say whether an error is that somebody has cancelled the task at work."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


class Prefetching:
    """Loads what is early for some slices at once, and hands them on in order."""

    def __init__(
        self,
        loading: Loading,
        loaders: list[Worker],
        inbox: Mailbox[Parcel],
        outbox: Mailbox[Parcel],
        state: PipelineState,
    ) -> None:
        self._loading = loading
        self._loaders = loaders
        self._inbox = inbox
        self._outbox = outbox
        self._state = state
        self._begun: Mailbox[tuple[Parcel, asyncio.Task[None] | None]] = Mailbox("loading", len(loaders))

    async def act(self) -> None:
        """Load until the generator has ended."""
        state = self._state
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver())
            number = 0
            try:
                while True:
                    parcel = await self._inbox.get()
                    if len(parcel) > 1 or not state.fills_up:
                        await self._begun.put((parcel, None))
                        continue
                    (item,) = parcel
                    await state.until(lambda item=item: state.budget.may_load(item.number))  # type: ignore[misc]
                    state.budget.reserve(item.number)
                    loader = self._loaders[number % len(self._loaders)]
                    number += 1
                    await self._begun.put((parcel, group.create_task(self._load(item, loader))))
            except Closed:
                self._begun.close()

    async def _load(self, item: Slice, loader: Worker) -> None:
        started = time.perf_counter()
        try:
            await loader.run(lambda: self._loading.ahead(item))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            raise self._state.fail(error) from None
        taken = time.perf_counter() - started
        item.seconds += taken
        item.loading += taken
        self._state.budget.charge(item.number, size_of(value.value for value in item.prefetched.values()))

    async def _deliver(self) -> None:
        while True:
            try:
                parcel, task = await self._begun.get()
            except Closed:
                self._outbox.close()
                return
            if task is not None:
                await task
            await self._outbox.put(parcel)


class Staging:
    """A stage as an actor."""

    def __init__(
        self,
        stage: StageTurns,
        worker: Worker,
        inbox: Mailbox[Parcel],
        outbox: Mailbox[Parcel],
        state: PipelineState,
    ) -> None:
        self._stage = stage
        self._worker = worker
        self._inbox = inbox
        self._outbox = outbox
        self._state = state

    async def act(self) -> None:
        """Process slices until there are no more."""
        stage = self._stage
        while True:
            try:
                parcel = await self._inbox.get()
            except Closed:
                break
            if stage.asynchronous:
                for item in parcel:
                    await self._process_on_loop(item)
                    await self._hand_on([item])
                continue
            while stage.seconds < 2 * CHEAP and (more := self._inbox.get_nowait()) is not None:
                parcel = parcel + more
            work = parcel
            async for done in streamed(self._worker, lambda emit, work=work: stage.process(work, emit), self._state):  # type: ignore[misc]
                await self._hand_on(done)
        self._outbox.close()

    async def _hand_on(self, parcel: Parcel) -> None:
        for item in parcel:
            if item.size is not None:
                self._state.budget.charge(item.number, item.size)
        await self._outbox.put(parcel)

    async def _process_on_loop(self, item: Slice) -> None:
        stage, state = self._stage, self._state
        started = loaded = time.perf_counter()
        stage.begin(item)

        def prepare() -> None:
            with entered(TaskContext(stage.position, stage.context.moment, rows=item.rows)) as other:
                stage.prepare(item)
                stage.context.add(other)

        try:
            await self._worker.run(prepare)
            loaded = time.perf_counter()
            stage.go_on_loop(wanted=True)
            await _on_loop(stage.context, lambda: stage.call(item), stage.step.where.component, self._worker, state)
        except BaseException as error:
            stage.failed(item, error, started, loaded)
            if _is_cancelled(error):
                raise
            raise state.fail(error) from None
        finally:
            stage.go_on_loop(wanted=False)
        stage.done(item, started, loaded, sized=True)


class Committing:
    """The end of the pipeline: counts slices, lets them go, and has what they have written brought to the file."""

    def __init__(
        self,
        writer: Worker,
        inbox: Mailbox[Parcel],
        state: PipelineState,
    ) -> None:
        self._writer = writer
        self._inbox = inbox
        self._state = state

    async def act(self) -> None:
        """Commit until there are no more slices."""
        state = self._state
        while True:
            try:
                parcel = await self._inbox.get()
            except Closed:
                return
            state.commit(parcel)
            if not (state.in_turn or state.watches_draws):
                await self._writer.run(state.watch_draws)  # imports what may take a while
            if state.has_to_settle:
                try:
                    await self._writer.run(state.settle)
                except Exception as error:  # noqa: BLE001 - it is handed on
                    raise state.fail(error) from None
            parcel.clear()
            state.changed()
