"""A rank among others: makes collective calls, and reaches the rank that owns the file.

What ranks call for is decided by the controller on rank 0 (`controller`), and applied on each rank in one order
(`applying`); in between messages are carried (`dispatcher`, `courier`).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from h5flow.ranks.dispatcher import Dispatcher
from h5flow.ranks.member import Member
from h5flow.ranks.messages import Collect, Failed, Join, Wait, pickled, pickled_resource, unpickled
from h5flow.ranks.moments import LOOP
from h5flow.ranks.own_progress import OwnProgress
from h5flow.ranks.rounds import ASKING, DECISION, Key, Place, Resource, RunMoment
from h5flow.ranks.waiting import Waiting

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Coordination:
    """One of the ranks of a communicator, which share a file that rank 0 owns. Making it is collective.

    `changed` is the condition of the file: it is waited on for other ranks, so that its lock is let go meanwhile.
    `member` does what ranks have agreed on.
    """

    def __init__(self, comm: Intracomm, changed: threading.Condition, member: Member) -> None:
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self._member = member
        self._progress = OwnProgress()
        self._waiting = Waiting(changed, member)
        self._dispatcher = Dispatcher(comm, member, self._progress, self._waiting)
        self._applying = self._dispatcher.applying
        self._collections = itertools.count()
        #: Has the owner of the file write rows and read them.
        self.owner = self._dispatcher.owner

    @property
    def waited(self) -> dict[int, float]:
        """Return the seconds that each component has waited for other ranks in the loop, by its position."""
        return self._waiting.seconds

    # progress

    def enter(self, part: int) -> None:
        """Begin the next call of a component's method before or after the loop, or the loop itself."""
        self._progress.enter(part)
        self._has_moved()

    def passed(self, number: int, position: int) -> None:
        """Note that a component is done with a slice."""
        self._progress.passed(number, position)
        self._has_moved()

    def ask(self, number: int) -> None:
        """Ask the generator for a slice."""
        self._progress.ask(number)
        self._has_moved()

    def _has_moved(self) -> None:
        if self._progress.wanted:
            self._dispatcher.wake()

    # collective calls; the lock of the file is held, and let go meanwhile

    def join(self, resource: Resource, call: Any, own: Any = None) -> Any:
        """Make a collective call, and return its outcome when the round is closed; raises what applying it raises."""
        return self._join((resource, self._progress.place(resource, self._at_work())), call, own)

    def join_unasked(self, resource: Resource, call: Any) -> Any:
        """Make a call as `join` where the generator shall not be asked, with the ranks that don't ask theirs either."""
        number = self._progress.next_slice(self._at_work())
        return self._join((resource, (RunMoment(LOOP, number, ASKING), 0)), call, None)

    def join_undecided(self, resource: Resource, call: Any) -> Any:
        """Make a call as `join` where the generator has no slice, with the ranks that have none either."""
        number = self._progress.next_slice(self._at_work())
        self._progress.finish_generator(number)
        outcome = self._join((resource, (RunMoment(LOOP, number, DECISION), 0)), call, None)
        self._progress.decide(number)
        self._has_moved()
        return outcome

    def join_later(self, resource: Resource, call: Any, then: Callable[[Any], None]) -> Key:
        """Make a collective call, and don't wait for it; `then` gets its outcome, with the lock, in any thread."""
        key = (resource, self._progress.place(resource, self._at_work()))
        self._applying.expect_later(key, then)
        self._tell_call(*key, call, waits=False)
        return key

    def wait_for(self, keys: Iterable[Key]) -> None:
        """Wait for the outcome of calls that were made by `join_later`, as far as the caller may see it.

        Calls of later moments may need other ranks to get past the caller's.
        """
        self._applying.go_on()
        now = self._progress.moment(self._at_work())
        for key in self._applying.expected_by(now, keys):
            self._member.components.before_waiting()
            resource, place = key
            if place[0] == now:
                self._dispatcher.tell(Wait(pickled_resource(resource), place))
            self._waiting.until(lambda key=key: self._applying.has_come_later(key))  # type: ignore[misc]

    def wait_for_all(self) -> None:
        """Wait for the outcome of all calls that were made by `join_later`."""
        self.wait_for(self._applying.expected_later())

    def collect(self, resource: Resource, *request: Any) -> list[Any]:
        """Collect the answers of all ranks to a request, by rank, after each has applied its earlier rounds.

        Earlier are those that ranks have called for before a message that was received before. Raises what the first
        rank of those raises that can't answer. `resource` is what it is about.
        """
        self._member.components.before_waiting()
        number = next(self._collections)
        self._dispatcher.tell(Collect(number, pickled_resource(resource), pickled(request)))
        self._waiting.until(lambda: self._dispatcher.has_collected(number))
        return [unpickled(answer).result() for answer in self._dispatcher.take_collected(number)]

    def _at_work(self) -> tuple[int, int] | None:
        return self._member.components.at_work()

    def _join(self, key: Key, call: Any, own: Any) -> Any:
        self._member.components.before_waiting()
        with self._applying.expecting(key, own):
            self._tell_call(*key, call, waits=True)
            self._waiting.until(lambda: self._applying.has_come(key))
            return self._applying.outcome(key)

    def _tell_call(self, resource: Resource, place: Place, call: Any, *, waits: bool) -> None:
        self._dispatcher.tell(Join(pickled_resource(resource), place, pickled(call), waits, self._progress.told()))

    # the end

    def give_up(self, error: BaseException) -> None:
        """Give an error to whoever waits for other ranks, now or later."""
        self._dispatcher.give_up(error)

    def tell_failure(self, why: str) -> None:
        """Give an error to whoever waits for ranks, here or on the others, now or later."""
        self._dispatcher.tell(Failed(why))

    def close(self, patience: float | None = None) -> bool:
        """End when all ranks do, and free the communicator; says whether it has, in so many seconds. Collective."""
        return self._dispatcher.close(patience)
