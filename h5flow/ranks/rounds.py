"""In which order collective calls happen: the ranks' calls, matched to rounds, and when a round is complete.

Reserving rows, creating datasets and the like are collective: the calls that the ranks' copies of a component
make belong together. They form a *round*, told by the resource (a dataset, the structure of the file), the moment
(which component, on which slice) and, where a component calls more than once, the number of the call. A rank that
has passed the moment without the call takes no part; so a stage may skip a call on a slice that needs none.

The rounds of one resource are closed in the order of their moments, which is the order of sequential mode. A round is
closed when each rank has either joined it or passed its moment, and no rank can join an earlier one any more. Where
ranks wait in different rounds of one moment, because some have skipped a call, the lowest rank is answered by itself.
A rank needn't wait for the outcome of a call; it may do so later, or not at all. So what each rank gets depends on the
calls that ranks make, and not on when they make them.

This module only decides. It knows no MPI, files or threads; its owner, rank 0, makes one call at a time.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from h5flow.errors import H5FlowError
from h5flow.ranks.moments import BEFORE, LOOP


class RunMoment(NamedTuple):
    """When a component does something in a run, ordered as sequential mode does it."""

    #: `BEFORE`, `LOOP` or `AFTER`.
    part: int
    #: The number of the slice in the loop, of the call outside of it.
    number: int
    #: Of the component: 0 the generator, 1 the first stage, and so on.
    position: int


#: In place of a component: whether the generator is asked for a slice of this number, and whether there was one.
ASKING: Final = -1
DECISION: Final = 1 << 30

#: What a call is about: any hashable value, whose text names it.
Resource = Any
#: Where a call belongs: its moment, and which one it is of this moment and resource.
Place = tuple[RunMoment, int]
#: A round of a resource.
Key = tuple[Resource, Place]


class OutOfOrder(H5FlowError):
    """A call that comes after a later one of another component has been answered."""


class Progress(msgspec.Struct, array_like=True):
    """How far a rank is: the part of the run, the number of the call there, and the last slice of each component.

    A generator is `asked` for a slice first; what it does for it is finished before it is `decided` whether there is
    one.
    """

    part: int = BEFORE
    number: int = -1
    finished: list[int] = msgspec.field(default_factory=list)
    asked: int = -1
    decided: int = -1

    def finish(self, number: int, position: int) -> None:
        """Note that a component is done with a slice."""
        self.finished.extend([-1] * (position + 1 - len(self.finished)))
        self.finished[position] = number

    def copy(self) -> Progress:
        """Return the progress as it is now."""
        return Progress(self.part, self.number, list(self.finished), self.asked, self.decided)

    def passed(self, moment: RunMoment) -> bool:
        """Say whether a moment is over."""
        part, number, position = moment
        if part != self.part:
            return part < self.part
        if part == LOOP and position in (ASKING, DECISION):
            return (self.asked if position == ASKING else self.decided) >= number
        if part == LOOP:
            return position < len(self.finished) and self.finished[position] >= number
        return number < self.number

    def done_with(self, number: int, position: int) -> bool:
        """Say whether a component is done with a slice of the loop."""
        if self.part != LOOP:
            return self.part > LOOP
        return position < len(self.finished) and self.finished[position] >= number


class Round(msgspec.Struct, frozen=True):
    """A round that is closed: what each rank called for, `None` where it made no call."""

    resource: Resource
    place: Place
    calls: tuple[Any, ...]

    @property
    def key(self) -> Key:
        """Return its resource and place, which tell it from other rounds that aren't closed yet."""
        return self.resource, self.place


class _Resource(msgspec.Struct):
    """The rounds of one resource: by place, the calls of those ranks that have joined."""

    places: list[Place] = msgspec.field(default_factory=list)
    rounds: dict[Place, dict[int, Any]] = msgspec.field(default_factory=dict)
    closed: RunMoment | None = None
    #: By rank and component: its last call. Components run at a time, and each makes its own calls in order.
    last: dict[tuple[int, int], Place] = msgspec.field(default_factory=dict)
    #: The components that use the resource during the loop, on any rank.
    users: set[int] = msgspec.field(default_factory=set)


class Rounds:
    """All rounds of a run on `size` ranks."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._progress = [Progress() for _ in range(size)]
        self._resources: dict[Resource, _Resource] = {}
        #: By moment: where each rank waits.
        self._waiting: dict[RunMoment, dict[int, Key]] = {}

    def join(self, rank: int, resource: Resource, place: Place, call: Any, waits: bool = True) -> None:
        """Take a call of a rank, which waits for its outcome or goes on. Raises `OutOfOrder`."""
        known = self._resources.setdefault(resource, _Resource())
        moment = place[0]
        if known.closed is not None and moment < known.closed:
            raise OutOfOrder(
                f"rank {rank} uses {resource} on slice number {moment[1]} after another component has used"
                f" it on slice number {known.closed[1]}; run this workflow with runtime.mode: sequential"
            )
        if place not in known.rounds:
            bisect.insort(known.places, place)
            known.rounds[place] = {}
        part, _, position = moment
        if part == LOOP:
            known.users.add(position)
        known.rounds[place][rank] = call
        known.last[rank, position] = place
        if waits:
            self.wait(rank, resource, place)

    def wait(self, rank: int, resource: Resource, place: Place) -> None:
        """Take note that a rank waits from now on for a call that it has made at this moment."""
        if rank in self._resources[resource].rounds.get(place, {}):
            self._waiting.setdefault(place[0], {})[rank] = (resource, place)

    def proceed(self, rank: int, progress: Progress) -> None:
        """Take note that a rank has got so far."""
        self._progress[rank] = progress

    def close(self) -> Iterator[Round]:
        """Give the rounds that are complete, in order, each once."""
        for resource, known in self._resources.items():
            while known.places and self._is_complete(known, known.places[0]):
                place = known.places[0]
                yield self._closed(resource, place, list(known.rounds[place]))
        for moment in sorted(self._waiting):
            waiting = self._waiting.get(moment, {})
            if len(waiting) > 1 and all(
                rank in waiting or progress.passed(moment) for rank, progress in enumerate(self._progress)
            ):
                lowest = min(waiting)
                resource, place = waiting[lowest]
                known = self._resources[resource]
                if known.places[0][0] == moment and next(self._may_come_first(known, moment), None) is None:
                    yield self._closed(resource, place, [lowest])

    def _closed(self, resource: Resource, place: Place, ranks: list[int]) -> Round:
        """Close a round for some ranks; others that have joined it stay."""
        known = self._resources[resource]
        joined, waiting = known.rounds[place], self._waiting.get(place[0], {})
        calls: list[Any] = [None] * self._size
        for rank in ranks:
            calls[rank] = joined.pop(rank)
            if waiting.get(rank) == (resource, place):
                del waiting[rank]
        if not joined:
            del known.rounds[place]
            known.places.remove(place)
        if not waiting:
            self._waiting.pop(place[0], None)
        known.closed = place[0]
        return Round(resource, place, tuple(calls))

    def waiting(self) -> list[tuple[Resource, Place, list[int]]]:
        """Return the first round of each resource that isn't complete, and the ranks that it waits for."""
        return [
            (resource, known.places[0], self._awaited(known, known.places[0]))
            for resource, known in self._resources.items()
            if known.places
        ]

    def _awaited(self, known: _Resource, place: Place) -> list[int]:
        """Return the ranks that have to do something for a round.

        Where all that may still join it wait in other rounds of its moment, those that are at the moment and don't wait
        decide whether the lowest is answered by itself.
        """
        missing, waiting = sorted(set(self._missing(known, place))), self._waiting.get(place[0], {})
        if not all(rank in waiting for rank in missing):
            return missing
        behind = [rank for rank, progress in enumerate(self._progress) if not progress.passed(place[0])]
        return [rank for rank in behind if rank not in waiting] or missing

    def late(self, names: Sequence[str]) -> list[str]:
        """Say for each rank that others wait for what it hasn't finished; `names` are those of the components."""
        found: dict[int, str] = {}
        for resource, (moment, _), missing in self.waiting():
            for rank in missing:
                found.setdefault(rank, f"rank {rank} {self._unfinished(rank, moment, names)}, for {resource}")
        return [found[rank] for rank in sorted(found)]

    def _unfinished(self, rank: int, moment: RunMoment, names: Sequence[str]) -> str:
        part, number, position = moment
        if part != LOOP:
            return f"to finish {'init' if part == BEFORE else 'finish'} of its components"
        progress = self._progress[rank]
        last = min(position, len(names) - 1)
        first = next((p for p in range(last) if not progress.done_with(number, p)), last)
        reached = progress.finished[first] + 1 if first < len(progress.finished) else 0
        return f"to finish {names[first]} on slice number {reached}"

    def check_invariants(self) -> None:
        """Raise `AssertionError` if this contradicts itself, or a round is complete that `close` hasn't given."""
        for resource, known in self._resources.items():
            assert known.places == sorted(known.rounds), f"places of {resource} are {known.places}"
            assert all(known.rounds.values()), f"a round of {resource} that nobody has joined"
            for place in known.places[:1]:
                assert not self._is_complete(known, place), f"the round of {resource} at {place} is complete"
        for moment, waiting in self._waiting.items():
            assert waiting, f"nobody waits at {moment}"
            for rank, (resource, place) in waiting.items():
                assert place[0] == moment, f"rank {rank} waits at {moment} for a call at {place[0]}"
                joined = self._resources[resource].rounds.get(place, {})
                assert rank in joined, f"rank {rank} waits for a call that it hasn't made"

    def _is_complete(self, known: _Resource, place: Place) -> bool:
        return next(self._missing(known, place), None) is None

    def _missing(self, known: _Resource, place: Place) -> Iterator[int]:
        """Give the ranks that may still join the round, or one before it; some of them twice."""
        joined, moment = known.rounds[place], place[0]
        if len(joined) < self._size:
            for rank, progress in enumerate(self._progress):
                # A component that has made a later call won't make this one, which may have been answered for it alone.
                if rank in joined or known.last.get((rank, moment[2]), place) > place:
                    continue
                if not progress.passed(moment):
                    yield rank
        yield from self._may_come_first(known, moment)

    def _may_come_first(self, known: _Resource, moment: RunMoment) -> Iterator[int]:
        """Give the ranks that may still use a resource before a moment: components behind it, on the slice before."""
        part, number, position = moment
        behind = [later for later in known.users if later > position] if part == LOOP and number else []
        if behind:
            for rank, progress in enumerate(self._progress):
                if not all(progress.done_with(number - 1, later) for later in behind):
                    yield rank
