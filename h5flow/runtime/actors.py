"""The actors of a pipelined run: generator, prefetcher, stages, committer, each a task of one event loop.

They hand each other parcels of one or more slices. What may block, users' code and HDF5, runs on threads.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar

from h5flow.data import H5FlowDataManager
from h5flow.data.awaitable import off_loop
from h5flow.runtime.batches import CHEAP
from h5flow.runtime.components import ENDED, Generator, awaited_slice
from h5flow.runtime.failure import Where, locate
from h5flow.runtime.mailbox import Closed, Mailbox
from h5flow.runtime.pipeline_state import Flight
from h5flow.runtime.prefetching import Loading, size_of
from h5flow.runtime.relay import Relay
from h5flow.runtime.steps import Slice, Step, checked_slice
from h5flow.runtime.tracing import Scene, entered
from h5flow.runtime.worker import Outcome, Worker, tell

T = TypeVar("T")
Parcel = list[Slice]
Emit = Callable[[T], None]

#: Results are handed on at the latest after this time, in seconds.
_HAND_ON = 2e-3


class _End:
    """The last that a worker sends."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: Outcome[Any]) -> None:
        self.outcome = outcome


async def streamed(worker: Worker, function: Callable[[Emit[T]], None], flight: Flight) -> AsyncIterator[T]:
    """What a function emits in a worker's thread, as it comes. Raises `Failed` if the function fails."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[T | _End] = asyncio.Queue()

    def emit(item: T | _End) -> None:
        tell(loop, arrived.put_nowait, item)

    worker.start(lambda: function(emit), lambda outcome: emit(_End(outcome)))
    while True:
        item = await arrived.get()
        if isinstance(item, _End):
            if item.outcome.error is not None:
                raise flight.fail(item.outcome.error)
            return
        yield item


class Generating:
    """The generator as an actor: takes slices from it as the budget admits them."""

    def __init__(
        self, generator: Generator, where: Where, worker: Worker, outbox: Mailbox[Parcel], flight: Flight
    ) -> None:
        self._generator = generator
        self._where = where
        self.worker = worker
        self._outbox = outbox
        self._flight = flight
        self._scene = Scene(0)
        self._number = flight.tracer.hazards.next_number
        self._ended = False
        self._iterator: Iterator[object] | None = None
        self._relay: Relay | None = None
        self._finished: Mailbox[Parcel] | None = None

    def pass_by(self, stages: Sequence[Staging], outbox: Mailbox[Parcel]) -> None:
        """Where slices don't overlap, pass them by the loop, through all stages to the last mailbox."""
        if not (self.asynchronous or any(stage.asynchronous for stage in stages)):
            self._relay, self._finished = Relay(self, stages, self.worker, self._flight), outbox

    @property
    def passing_by(self) -> int:
        """How many slices are passing by the loop."""
        return 0 if self._relay is None else self._relay.in_flight

    @property
    def asynchronous(self) -> bool:
        """Whether the generator runs on the event loop."""
        return inspect.iscoroutinefunction(self._generator.next)

    async def act(self) -> None:
        """Go on until there are no more slices."""
        flight = self._flight
        loop = asyncio.get_running_loop()

        def stopping() -> None:
            tell(loop, flight.changed)

        flight.stop.listen(stopping)
        asynchronous = self.asynchronous
        while True:
            await flight.admission()
            if asynchronous:
                await self._next_on_loop()
            elif self._relay is not None and flight.in_turn:
                await self._hand_over(await self._relay.run(flight.turns))
            else:
                count = flight.batch
                async for parcel in streamed(self.worker, lambda emit, n=count: self.take(n, emit), flight):  # type: ignore[misc]
                    await self._hand_on(parcel)
            if self._ended:
                break
        self._outbox.close()

    async def _hand_on(self, parcel: Parcel) -> None:
        for item in parcel:
            self._flight.budget.enter(item.number)
        await self._outbox.put(parcel)

    async def _hand_over(self, parcel: Parcel) -> None:
        """Hand slices on that have passed all stages."""
        if not parcel:
            return
        budget = self._flight.budget
        for item in parcel:
            budget.enter(item.number)
            if item.size is not None:
                budget.charge(item.number, item.most)
        assert self._finished is not None
        await self._finished.put(parcel)

    def take(self, count: int, emit: Emit[Parcel]) -> None:
        """Take slices, in the worker's thread."""
        flight, ready = self._flight, list[Slice]()
        own_draws = not flight.randomness.shared

        def hand_on() -> None:
            if ready:
                emit(ready[:])
                ready.clear()

        self._scene.before_waiting = hand_on
        with entered(self._scene):
            if self._iterator is None:
                self._iterator = iter(self._generator)
            while len(ready) < count and not flight.over:
                started = time.perf_counter()
                self._scene.moment = (self._number, 0)
                if flight.stop.made and flight.all_done(True):
                    self._ended = True
                    break
                flight.tracer.asking(self._number)
                try:
                    if own_draws:
                        with flight.randomness.of(self._where.component, self._number):
                            rows = next(self._iterator, ENDED)
                    else:
                        rows = next(self._iterator, ENDED)
                except BaseException as error:
                    locate(error, self._where)
                    raise
                flight.draws.look(self._where.component)
                if rows is ENDED:
                    self._ended = True
                    break
                ready.append(self._begun(rows, started, time.perf_counter()))
        hand_on()

    async def _next_on_loop(self) -> None:
        self._scene.moment = (self._number, 0)
        self._scene.on_loop = True
        started = time.perf_counter()
        if self._flight.stop.made and await self._all_done(stopping=True):
            self._ended = True
            return
        self._flight.tracer.asking(self._number)
        rows = await _on_loop(self._scene, awaited_slice, (self._generator,), self._where, self.worker, self._flight)
        if isinstance(rows, slice) and rows == self._generator.EMPTY and await self._all_done(stopping=False):
            self._ended = True
        else:
            await self._hand_on([self._begun(rows, started, time.perf_counter())])

    async def _all_done(self, *, stopping: bool) -> bool:
        def ask() -> bool:
            with entered(Scene(0, (self._number, 0))):
                return self._flight.all_done(stopping)

        return await self.worker.run(ask)

    def _begun(self, rows: object, started: float, now: float) -> Slice:
        item = Slice(self._number, checked_slice(rows, self._where))
        item.seconds = item.longest = now - started
        if self._flight.measures is not None:
            self._flight.measures.begin(item, started, now, self._scene)
        tracer = self._flight.tracer
        tracer.begin(item.number, item.rows)
        if tracer.hazards.components == 1:
            # With stages it is the last one that counts; nobody waits for a generator.
            tracer.finish((item.number, 0))
        elif tracer.passed is not None:
            tracer.passed(item.number, 0)
        self._number += 1
        return item


async def _on_loop(
    scene: Scene, function: Callable[..., Any], arguments: tuple[Any, ...], where: Where, worker: Worker, flight: Flight
) -> Any:
    """Await a user's coroutine function in a scene; what it can't do on the loop is done by `worker`."""

    assert scene.moment is not None
    number = scene.moment[0]

    async def elsewhere(call: Callable[[], T]) -> T:
        def there() -> T:
            with entered(Scene(scene.position, scene.moment, rows=scene.rows)) as other:
                try:
                    return call()
                finally:
                    scene.add(other)

        return await worker.run(there)

    async def guarded() -> Outcome[Any]:
        # The error travels as a value: raised out of a task, some kinds of it would end the event loop.
        off_loop.set(elsewhere)
        try:
            with entered(scene), flight.randomness.of(where.component, number):
                return Outcome(await function(*arguments))
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            return Outcome(error=error)

    outcome = await asyncio.get_running_loop().create_task(guarded())
    if outcome.error is not None:
        locate(outcome.error, where)
        raise flight.fail(outcome.error)
    flight.draws.look(where.component)
    return outcome.value


class Prefetching:
    """Loads what is early for some slices at once, and hands them on in order."""

    def __init__(
        self,
        loading: Loading,
        loaders: list[Worker],
        inbox: Mailbox[Parcel],
        outbox: Mailbox[Parcel],
        flight: Flight,
    ) -> None:
        self._loading = loading
        self._loaders = loaders
        self._inbox = inbox
        self._outbox = outbox
        self._flight = flight
        self._begun: Mailbox[tuple[Parcel, asyncio.Task[None] | None]] = Mailbox("loading", len(loaders))

    async def act(self) -> None:
        """Load until the generator has ended."""
        flight = self._flight
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver())
            number = 0
            try:
                while True:
                    parcel = await self._inbox.get()
                    if len(parcel) > 1 or flight.single or flight.batches.alone or flight.tracer.alone:
                        await self._begun.put((parcel, None))
                        continue
                    (item,) = parcel
                    await flight.until(lambda item=item: flight.budget.may_load(item.number))  # type: ignore[misc]
                    flight.budget.reserve(item.number)
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
            raise self._flight.fail(error) from None
        taken = time.perf_counter() - started
        item.seconds += taken
        item.loading += taken
        self._flight.budget.charge(item.number, size_of(value.value for value in item.prefetched.values()))

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
    """A stage as an actor: one slice at a time, in order."""

    def __init__(
        self,
        position: int,
        step: Step,
        source: str,
        loading: Loading,
        worker: Worker,
        inbox: Mailbox[Parcel],
        outbox: Mailbox[Parcel],
        flight: Flight,
    ) -> None:
        self._step = step
        self._source = source
        self._loading = loading
        self.worker = worker
        self._inbox = inbox
        self._outbox = outbox
        self._flight = flight
        self._scene = Scene(position)
        self._position = position
        self._last = position + 1 == flight.tracer.hazards.components
        self._seconds = 0.0  # what the last slice took
        self.asynchronous = inspect.iscoroutinefunction(step.stage.run)

    async def act(self) -> None:
        """Process slices until there are no more."""
        while True:
            try:
                parcel = await self._inbox.get()
            except Closed:
                break
            if self.asynchronous:
                for item in parcel:
                    await self._process_on_loop(item)
                    await self._hand_on([item])
                continue
            while self._seconds < 2 * CHEAP and (more := self._inbox.get_nowait()) is not None:
                parcel = parcel + more
            work = parcel
            async for done in streamed(self.worker, lambda emit, work=work: self.process(work, emit), self._flight):  # type: ignore[misc]
                await self._hand_on(done)
        self._outbox.close()

    async def _hand_on(self, parcel: Parcel) -> None:
        for item in parcel:
            if item.size is not None:
                self._flight.budget.charge(item.number, item.size)
        await self._outbox.put(parcel)

    def process(self, parcel: Parcel, emit: Emit[Parcel]) -> None:
        """Process slices, in the worker's thread."""
        ready = list[Slice]()

        def hand_on() -> None:
            if ready:
                emit(ready[:])
                ready.clear()

        self._scene.before_waiting = hand_on
        step, stage, flight, finish = self._step, self._step.stage, self._flight, self._flight.tracer.finish
        own_draws = not flight.randomness.shared
        with entered(self._scene):
            now = handed_on = time.perf_counter()
            for item in parcel:
                if flight.over:
                    break
                self._scene.moment = (item.number, self._position)
                self._scene.rows = item.rows
                started = loaded = now
                try:
                    step.purge(item.cache)
                    self._loading.fill(item, step)
                    loaded = time.perf_counter()
                    if own_draws:
                        with flight.randomness.of(step.where.component, item.number):
                            stage.run(self._source, item.rows, item.cache)
                    else:
                        stage.run(self._source, item.rows, item.cache)
                except BaseException as error:
                    if item.course is not None:
                        item.course.note_failure(self._scene, started, loaded)
                    locate(error, step.where.on(item.rows, item.number))
                    raise
                flight.draws.look(step.where.component)
                finish(self._scene.moment)
                now = time.perf_counter()
                self._seconds = now - started
                item.note(loaded - started, now - loaded)
                alone = flight.batches.alone
                if not alone or item is parcel[-1] or item.course is not None:
                    item.size = size_of(item.cache.values())
                    item.most = max(item.most, item.size)
                if item.course is not None:
                    item.course.note(self._scene, started, loaded, now, item.size)
                if self._last:
                    item.release()
                ready.append(item)
                if flight.at_once or (now - handed_on > _HAND_ON and not alone):
                    hand_on()
                    handed_on = now
        hand_on()

    async def _process_on_loop(self, item: Slice) -> None:
        step, scene, flight = self._step, self._scene, self._flight
        started = time.perf_counter()
        moment = scene.moment = (item.number, self._position)
        scene.rows = item.rows

        def prepare() -> None:
            with entered(Scene(self._position, moment, rows=item.rows)) as other:
                try:
                    step.purge(item.cache)
                    self._loading.fill(item, step)
                except BaseException as error:
                    locate(error, step.where.on(item.rows, item.number))
                    raise
                scene.add(other)

        async for _ in streamed(self.worker, lambda emit: prepare(), flight):
            pass
        scene.on_loop = True
        loaded = time.perf_counter()
        arguments = (self._source, item.rows, item.cache)
        where = step.where.on(item.rows, item.number)
        try:
            await _on_loop(scene, step.stage.run, arguments, where, self.worker, flight)
        except BaseException:
            if item.course is not None:
                item.course.note_failure(scene, started, loaded)
            raise
        flight.tracer.finish(moment)
        now = time.perf_counter()
        item.note(loaded - started, now - loaded)
        item.size = size_of(item.cache.values())
        if item.course is not None:
            item.course.note(scene, started, loaded, now, item.size)
        if self._last:
            item.release()


class Committing:
    """The end of the pipeline: counts slices, lets them go, and has what they have written brought to the file."""

    def __init__(
        self,
        data_manager: H5FlowDataManager,
        loading: Loading,
        writer: Worker,
        inbox: Mailbox[Parcel],
        flight: Flight,
    ) -> None:
        self._data_manager = data_manager
        self._loading = loading
        self._writer = writer
        self._inbox = inbox
        self._flight = flight

    async def act(self) -> None:
        """Commit until there are no more slices."""
        flight = self._flight
        while True:
            try:
                parcel = await self._inbox.get()
            except Closed:
                return
            warm = flight.warm
            flight.commit(parcel)
            if flight.warm and not warm and flight.randomness.shared:
                await self._writer.run(flight.draws.watch_numpy)
            self._loading.warm = flight.warm
            if self._data_manager.data_file.has_to_settle:
                started = time.perf_counter()
                try:
                    await self._writer.run(self._data_manager.data_file.settle)
                except Exception as error:  # noqa: BLE001 - it is handed on
                    raise flight.fail(error) from None
                if flight.measures is not None:
                    flight.measures.settled(started, time.perf_counter())
            parcel.clear()
            flight.changed()
