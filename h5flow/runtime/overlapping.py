"""Slices that overlap: the actors of a pipeline, as tasks of an event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from h5flow.errors import UsageError
from h5flow.runtime.actors import Committing, Generating, Prefetching, Staging
from h5flow.runtime.component_turns import Parcel
from h5flow.runtime.mailbox import Closed, Mailbox
from h5flow.runtime.pipeline_parts import Parts
from h5flow.runtime.pipeline_state import Failed, PipelineState
from h5flow.runtime.worker import Worker
from h5flow.telemetry import emit
from h5flow.telemetry.events import QueueDeepened

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_DEEPEST = 64


async def overlap(parts: Parts) -> None:
    """Run the actors until there are no more slices, or something has gone wrong, which the pipeline state notes."""
    state, workers, mailboxes = parts.state, parts.workers, parts.mailboxes
    generated, loaded, *_ = mailboxes
    actors: list[Callable[[], Awaitable[None]]] = [
        Generating(parts.generator, parts.in_turn, workers[0], generated, mailboxes[-1], state).act,
        Prefetching(parts.loading, parts.loaders, generated, loaded, state).act,
        Committing(parts.writer, mailboxes[-1], state).act,
        *(
            Staging(stage, worker, inbox, outbox, state).act
            for stage, worker, (inbox, outbox) in zip(
                parts.stages, workers[1:], itertools.pairwise(mailboxes[1:]), strict=True
            )
        ),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_guarded(act)) for act in actors]
            if parts.tunes:
                tuning = group.create_task(_tune(mailboxes, state))
                group.create_task(_cancel_after(tasks, tuning))
    except* Failed:
        pass  # the pipeline state knows why
    except* Exception as group_error:  # noqa: BLE001 - it is handed on
        state.fail(_first(group_error))


async def rest(worker: Worker) -> None:
    """Wait until a worker has made the calls that it was given, whoever cancels what."""
    if worker.begun:
        await asyncio.shield(worker.run(lambda: None))


async def _tune(mailboxes: Sequence[Mailbox[Parcel]], state: PipelineState) -> None:
    """Deepen mailboxes that are now full, now empty: more room lets fast and slow slices even out."""
    waits: dict[str, tuple[float, float]] = {mailbox.name: (0.0, 0.0) for mailbox in mailboxes}
    while True:
        await asyncio.sleep(0.25)
        for mailbox in mailboxes[:-1]:
            statistics = mailbox.statistics
            before = waits[mailbox.name]
            waits[mailbox.name] = (statistics.put_wait, statistics.get_wait)
            starved = statistics.get_wait - before[1]
            blocked = statistics.put_wait - before[0]
            if starved > 0.01 and blocked > 0.01 and mailbox.depth < _DEEPEST and state.budget.admits():
                mailbox.deepen(2 * mailbox.depth)
                emit(QueueDeepened(queue=mailbox.name, depth=mailbox.depth, put_wait_s=blocked, get_wait_s=starved))


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


def run_on_loop(main: Callable[[], Any], loop: str) -> Any:
    """Run a coroutine function on a new event loop (`uvloop`, `asyncio`, or `auto`) and return its result."""
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        return runner.run(main())


def loop_factory(name: str) -> LoopFactory | None:
    """Return what makes event loops: `uvloop`, `asyncio`, or `auto`, which is uvloop where it is installed."""
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
