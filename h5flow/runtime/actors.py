"""The actors of a pipelined run: generator, prefetcher, stages, committer, each a task of one event loop.

They hand each other parcels of one or more slices. What may block, users' code and HDF5, runs on threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from h5flow.data.awaitable import off_loop
from h5flow.runtime.batches import CHEAP
from h5flow.runtime.components import awaited_slice
from h5flow.runtime.failure import Where, locate
from h5flow.runtime.mailbox import Closed, Mailbox
from h5flow.runtime.pipeline_state import Flight
from h5flow.runtime.prefetching import Loading, size_of
from h5flow.runtime.relay import Relay
from h5flow.runtime.stations import Emit, Parcel, Source, Station
from h5flow.runtime.steps import Slice
from h5flow.runtime.tracing import Scene, entered
from h5flow.runtime.worker import Outcome, Worker, tell

T = TypeVar("T")


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
        self,
        source: Source,
        relay: Relay | None,
        worker: Worker,
        outbox: Mailbox[Parcel],
        finished: Mailbox[Parcel],
        flight: Flight,
    ) -> None:
        """With a `relay`, which passes slices in turn by the actors, to the last mailbox."""
        self._source = source
        self._relay = relay
        self._worker = worker
        self._outbox = outbox
        self._finished = finished
        self._flight = flight

    async def act(self) -> None:
        """Go on until there are no more slices."""
        flight = self._flight
        loop = asyncio.get_running_loop()

        def stopping() -> None:
            tell(loop, flight.changed)

        flight.stop.listen(stopping)
        source, worker = self._source, self._worker
        while not source.ended:
            await flight.admission()
            if source.asynchronous:
                await self._next_on_loop()
            elif self._relay is not None and flight.in_turn:
                await self._pass_by(self._relay)
            else:
                count = flight.batch
                async for parcel in streamed(worker, lambda emit, n=count: source.take(n, emit), flight):  # type: ignore[misc]
                    await self._hand_on(parcel)
        self._outbox.close()

    async def _hand_on(self, parcel: Parcel) -> None:
        for item in parcel:
            self._flight.budget.enter(item.number)
        await self._outbox.put(parcel)

    async def _pass_by(self, relay: Relay) -> None:
        count = self._flight.turns

        def take(emit: Emit[Parcel]) -> None:
            emit(relay.take(count))

        async for parcel in streamed(self._worker, take, self._flight):
            if parcel:
                relay.account(parcel)
                await self._finished.put(parcel)

    async def _next_on_loop(self) -> None:
        source, flight = self._source, self._flight
        source.go_on_loop()
        started = time.perf_counter()
        if flight.stop.made and await self._all_done(stopping=True):
            source.end()
            return
        flight.tracer.asking(source.number)
        rows = await _on_loop(source.scene, awaited_slice, (source.generator,), source.where, self._worker, flight)
        if isinstance(rows, slice) and rows == source.generator.EMPTY and await self._all_done(stopping=False):
            source.end()
        else:
            await self._hand_on([source.begun(rows, started, time.perf_counter())])

    async def _all_done(self, *, stopping: bool) -> bool:
        def ask() -> bool:
            with entered(Scene(0, (self._source.number, 0))):
                return self._flight.all_done(stopping)

        return await self._worker.run(ask)


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
                    if len(parcel) > 1 or flight.single or flight.batches.alone or flight.tracer.in_turn:
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
    """A stage as an actor."""

    def __init__(
        self,
        station: Station,
        worker: Worker,
        inbox: Mailbox[Parcel],
        outbox: Mailbox[Parcel],
        flight: Flight,
    ) -> None:
        self._station = station
        self._worker = worker
        self._inbox = inbox
        self._outbox = outbox
        self._flight = flight

    async def act(self) -> None:
        """Process slices until there are no more."""
        station = self._station
        while True:
            try:
                parcel = await self._inbox.get()
            except Closed:
                break
            if station.asynchronous:
                for item in parcel:
                    await self._process_on_loop(item)
                    await self._hand_on([item])
                continue
            while station.seconds < 2 * CHEAP and (more := self._inbox.get_nowait()) is not None:
                parcel = parcel + more
            work = parcel
            async for done in streamed(self._worker, lambda emit, work=work: station.process(work, emit), self._flight):  # type: ignore[misc]
                await self._hand_on(done)
        self._outbox.close()

    async def _hand_on(self, parcel: Parcel) -> None:
        for item in parcel:
            if item.size is not None:
                self._flight.budget.charge(item.number, item.size)
        await self._outbox.put(parcel)

    async def _process_on_loop(self, item: Slice) -> None:
        station, step, flight = self._station, self._station.step, self._flight
        started = time.perf_counter()
        station.go_on_loop(item, prepared=False)

        def prepare() -> None:
            with entered(Scene(station.position, station.scene.moment, rows=item.rows)) as other:
                station.prepare(item)
                station.scene.add(other)

        async for _ in streamed(self._worker, lambda emit: prepare(), flight):
            pass
        station.go_on_loop(item, prepared=True)
        loaded = time.perf_counter()
        arguments = (station.source, item.rows, item.cache)
        where = step.where.on(item.rows, item.number)
        try:
            await _on_loop(station.scene, step.stage.run, arguments, where, self._worker, flight)
        except BaseException:
            if item.course is not None:
                item.course.note_failure(station.scene, started, loaded)
            raise
        station.done_on_loop(item, started, loaded)


class Committing:
    """The end of the pipeline: counts slices, lets them go, and has what they have written brought to the file."""

    def __init__(
        self,
        loading: Loading,
        writer: Worker,
        inbox: Mailbox[Parcel],
        flight: Flight,
    ) -> None:
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
            flight.commit(parcel)
            if not (flight.in_turn or flight.watches_draws):
                await self._writer.run(flight.watch_draws)  # imports what may take a while
            self._loading.warm = flight.warm
            if flight.has_to_settle:
                try:
                    await self._writer.run(flight.settle)
                except Exception as error:  # noqa: BLE001 - it is handed on
                    raise flight.fail(error) from None
            parcel.clear()
            flight.changed()
