"""Slices in turn: one after the other through all components, on one thread, as in sequential mode.

Handing over to another thread costs a millisecond where that runs on another core, whose caches have to be filled
again: a tenth of the time of real chains. So where slices don't overlap they go from component to component on the
thread on which all of them were made, and the event loop hears of a batch of them when it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from h5flow.runtime.flight import Flight
from h5flow.runtime.steps import Slice
from h5flow.runtime.worker import Outcome, Worker, tell

Parcel = list[Slice]


class Source(Protocol):
    """Who takes slices from the generator."""

    def take_one(self) -> Slice | None:
        """Take a slice, if there is one."""
        ...


class Station(Protocol):
    """A stage."""

    def process_one(self, item: Slice, sized: bool) -> None:
        """Process a slice; `sized`: and look how much its cache holds."""
        ...


class Relay:
    """Has the generator take slices, and all stages process each of them before the next one."""

    def __init__(self, source: Source, stations: Sequence[Station], worker: Worker, flight: Flight) -> None:
        self._source = source
        self._stations = stations
        self._worker = worker
        self._flight = flight
        #: How many slices are on their way.
        self.in_flight = 0

    async def run(self, count: int) -> Parcel:
        """Take up to so many slices; returns them when they have passed all stages. Raises `Failed`."""
        loop = asyncio.get_running_loop()
        arrival: asyncio.Future[Outcome[Parcel]] = loop.create_future()

        def arrived(outcome: Outcome[Parcel]) -> None:
            if not arrival.done():
                arrival.set_result(outcome)

        self._worker.start(lambda: self._pass(count), lambda outcome: tell(loop, arrived, outcome))
        outcome = await arrival
        # As a value, since no coroutine may raise some kinds of errors.
        if outcome.error is not None:
            raise self._flight.fail(outcome.error)
        return outcome.value or []

    def _pass(self, count: int) -> Parcel:
        done: Parcel = []
        while len(done) < count and not self._flight.over:
            item = self._source.take_one()
            if item is None:
                break
            self.in_flight = 1
            for station in self._stations:
                station.process_one(item, len(done) + 1 == count)
            self.in_flight = 0
            done.append(item)
            self._flight.settle()
        return done
