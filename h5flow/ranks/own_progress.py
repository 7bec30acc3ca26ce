"""How far a rank is itself, and where its next collective call belongs."""

from __future__ import annotations

from h5flow.ranks.moments import LOOP
from h5flow.ranks.rounds import Place, Progress, Resource, RunMoment

#: A slice, and the position of the component that is at work on it.
AtWork = tuple[int, int]


class OwnProgress:
    """The progress of this rank, which other ranks are told where they want to know.

    Components run on threads of their own; each notes what it has done, and makes its calls one after the other.
    """

    def __init__(self) -> None:
        self._now = Progress()
        self._moved = True
        #: Whether others wait for this rank, and want to be told.
        self.wanted = False
        #: By resource and component: the moment of its last call, and how many there were before it at this moment.
        self._calls: dict[tuple[Resource, int], tuple[RunMoment, int]] = {}

    def enter(self, part: int) -> None:
        """Begin the next call of a component's method before or after the loop, or the loop itself."""
        now = self._now
        number = now.number + 1 if part == now.part else 0
        self._now = Progress(part, number, now.finished, now.asked, now.decided)
        self._moved = True

    def ask(self, number: int) -> None:
        """Ask the generator for a slice."""
        self._now.asked = number
        self._moved = True

    def passed(self, number: int, position: int) -> None:
        """Note that a component is done with a slice; there is one if it is the generator."""
        self._now.finish(number, position)
        if position == 0:
            self._now.decided = number
        self._moved = True

    def finish_generator(self, number: int) -> None:
        """Note that the generator is done with what it does for a slice, before it is decided whether there is one."""
        self._now.finish(number, 0)
        self._moved = True

    def decide(self, number: int) -> None:
        """Note that it is decided whether there is a slice of this number."""
        self._now.decided = number
        self._moved = True

    def next_slice(self, at_work: AtWork | None) -> int:
        """Return the number of the slice that the generator is at."""
        return self._now.decided + 1 if at_work is None else at_work[0]

    def moment(self, at_work: AtWork | None) -> RunMoment:
        """Return the moment of who calls."""
        if at_work is None:
            return RunMoment(self._now.part, self._now.number, 0)
        return RunMoment(LOOP, *at_work)

    def place(self, resource: Resource, at_work: AtWork | None) -> Place:
        """Return where the next call about a resource belongs."""
        moment = self.moment(at_work)
        last, count = self._calls.get((resource, moment.position), (None, -1))
        count = count + 1 if last == moment else 0
        self._calls[resource, moment.position] = (moment, count)
        return moment, count

    def want(self) -> None:
        """Note that others want to be told of progress as soon as there is any that they don't know."""
        self.wanted = True

    def told(self) -> Progress:
        """Return the progress, which others are told now."""
        self._moved = False
        return self._now.copy()

    def told_if_wanted(self) -> Progress | None:
        """Return the progress if others want to know it and don't, once each time; `None` if not."""
        if not (self.wanted and self._moved):
            return None
        self.wanted = False
        return self.told()
