"""How quickly a loop goes, and who keeps it from going quicker, from its state now and a while ago."""

from __future__ import annotations

from collections import deque

import msgspec

from h5flow.telemetry.events import ActorTotals
from h5flow.telemetry.state import RunState

#: Figures are those of the last so many seconds.
WINDOW = 10.0

# Who works for less than this share of the time keeps nobody waiting.
_BUSY = 0.5


class ActorPace(msgspec.Struct, frozen=True):
    """An actor: the share of the time that it works, and how full the queue is that it fills, if it fills one."""

    name: str
    busy: float
    occupancy: int | None
    depth: int | None
    is_bottleneck: bool


class Pace(msgspec.Struct, frozen=True):
    """The pace of a loop: slices and rows per second, seconds left (`None` where that isn't known), actors in order."""

    slices: int
    total: int | None
    rows: int
    seconds: float
    slices_per_s: float
    rows_per_s: float
    left_s: float | None
    in_flight: int
    in_flight_bytes: int
    actors: tuple[ActorPace, ...]

    @property
    def share(self) -> float | None:
        """Return how much is done, from 0 to 1."""
        return None if not self.total else min(1.0, self.slices / self.total)

    @property
    def bottleneck(self) -> str | None:
        """Return the actor that others wait for."""
        return next((actor.name for actor in self.actors if actor.is_bottleneck), None)


class PaceMaker:
    """Makes paces from states that are given one after the other."""

    def __init__(self) -> None:
        self._states: deque[RunState] = deque()

    def pace(self, state: RunState) -> Pace:
        """Return the pace now."""
        states = self._states
        if states and (state.slices < states[-1].slices or state.seconds < states[-1].seconds):
            states.clear()  # another loop
        states.append(state)
        while len(states) > 2 and state.seconds - states[1].seconds >= WINDOW:
            states.popleft()
        first = states[0] if len(states) > 1 else RunState()
        seconds = state.seconds - first.seconds
        per_s = (state.slices - first.slices) / seconds if seconds > 0 else 0.0
        left = None if state.total is None or not per_s else max(0, state.total - state.slices) / per_s
        return Pace(
            slices=state.slices,
            total=state.total,
            rows=state.rows,
            seconds=state.seconds,
            slices_per_s=per_s,
            rows_per_s=(state.rows - first.rows) / seconds if seconds > 0 else 0.0,
            left_s=left,
            in_flight=state.in_flight,
            in_flight_bytes=state.in_flight_bytes,
            actors=self._actors(state, first, seconds),
        )

    def _actors(self, state: RunState, first: RunState, seconds: float) -> tuple[ActorPace, ...]:
        busy = {}
        for name, totals in state.actors.items():
            worked = totals.worked_s - first.actors.get(name, ActorTotals()).worked_s
            threads = state.loaders if name == "prefetcher" else 1
            busy[name] = min(1.0, max(0.0, worked / (seconds * threads))) if seconds > 0 else 0.0
        slowest = max(busy, key=lambda name: busy[name], default=None)
        queues = {"prefetcher" if queue.name == "prefetch" else queue.name: queue for queue in state.queues}
        return tuple(
            ActorPace(
                name=name,
                busy=share,
                occupancy=queues[name].occupancy if name in queues else None,
                depth=queues[name].depth if name in queues else None,
                is_bottleneck=name == slowest and share >= _BUSY,
            )
            for name, share in busy.items()
        )
