"""Parcels that go from thread to thread without the event loop, while one of them is in flight at a time.

A trip from the loop to a thread and back wakes two threads that sleep, which costs more than what small stages do.
Where slices don't overlap there is nothing for the loop to decide in between, so each component hands on to the next.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from h5flow.runtime.flight import Flight
from h5flow.runtime.steps import Slice
from h5flow.runtime.worker import Outcome, Worker, tell

Parcel = list[Slice]
Emit = Callable[[Parcel], None]


class Source(Protocol):
    """Who takes slices from the generator, in its thread."""

    worker: Worker

    def take(self, count: int, emit: Emit) -> None:
        """Take so many slices."""
        ...


class Station(Protocol):
    """A stage, in its thread."""

    worker: Worker

    def process(self, parcel: Parcel, emit: Emit) -> None:
        """Process slices."""
        ...


class Relay:
    """Has the generator take slices, and all stages process them, one component after the other."""

    def __init__(self, source: Source, stations: Sequence[Station], flight: Flight) -> None:
        self._source = source
        self._stations = stations
        self._flight = flight
        #: How many slices are on their way.
        self.in_flight = 0

    async def run(self, count: int) -> Parcel:
        """Take up to so many slices; returns them when they have passed all stages. Raises `Failed`."""
        loop = asyncio.get_running_loop()
        arrival: asyncio.Future[Outcome[Parcel]] = loop.create_future()
        lock = threading.Lock()
        done: Parcel = []
        emitted = 0
        taken: int | None = None

        def arrive(outcome: Outcome[Parcel]) -> None:
            if not arrival.done():
                arrival.set_result(outcome)

        def look() -> None:
            if taken == len(done):
                tell(loop, arrive, Outcome(done))

        def ended(outcome: Outcome[None]) -> None:
            if outcome.error is not None:
                tell(loop, arrive, Outcome(error=outcome.error))

        def hand_on(position: int, parcel: Parcel) -> None:
            if position < len(self._stations):
                station = self._stations[position]
                station.worker.start(
                    lambda: station.process(parcel, lambda further: hand_on(position + 1, further)), ended
                )
                return
            with lock:
                done.extend(parcel)
                self.in_flight -= len(parcel)
                look()

        def take() -> None:
            nonlocal emitted, taken

            def emit(parcel: Parcel) -> None:
                nonlocal emitted
                emitted += len(parcel)
                with lock:
                    self.in_flight += len(parcel)
                hand_on(0, parcel)

            self._source.take(count, emit)
            with lock:
                taken = emitted
                look()

        self._source.worker.start(take, ended)
        outcome = await arrival
        if outcome.error is not None:
            raise self._flight.fail(outcome.error)
        return done
