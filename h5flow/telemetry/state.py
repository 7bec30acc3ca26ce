"""The state of a loop that is running, as whoever asks now and then gets it: progress, metrics, `queue.stats`."""

from __future__ import annotations

import msgspec

from h5flow.telemetry.events import ActorTotals


class QueueState(msgspec.Struct, frozen=True):
    """A queue between two actors, named for who fills it; times are in seconds, since the loop began."""

    name: str
    depth: int
    occupancy: int
    highest: int
    puts: int
    gets: int
    put_wait: float
    get_wait: float


class RunState(msgspec.Struct, frozen=True):
    """How far a loop is on this rank. Looked at from any thread, so figures may be of slightly different moments."""

    slices: int = 0
    rows: int = 0
    #: How many slices there will have been, if that is known.
    total: int | None = None
    #: Since the loop began.
    seconds: float = 0.0
    #: Slices on their way, and what they are charged for in bytes.
    in_flight: int = 0
    in_flight_bytes: int = 0
    #: What slices that are done held in their caches, in bytes, as far as that was looked at.
    bytes: int = 0
    reloads: int = 0
    #: Whether slices run one at a time, and whether one batch at a time.
    single: bool = False
    alone: bool = False
    #: In the order in which a slice passes them.
    actors: dict[str, ActorTotals] = msgspec.field(default_factory=dict)
    queues: tuple[QueueState, ...] = ()
    #: Threads that work for the prefetcher.
    loaders: int = 1
