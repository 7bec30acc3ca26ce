"""Hands messages that arrive at a rank to those whom they are for, and sends what they answer."""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

from h5flow.ranks.applying import Applying
from h5flow.ranks.controller import Controller
from h5flow.ranks.courier import Courier
from h5flow.ranks.executor import Executor
from h5flow.ranks.leaving import OtherRankFailed
from h5flow.ranks.member import Member
from h5flow.ranks.messages import (
    Answer,
    Ask,
    Closed,
    Collected,
    Deliver,
    Delivered,
    Do,
    ForController,
    Message,
    Outcome,
    Pickled,
    Proceed,
    ProgressWanted,
    RankFailed,
    Refused,
    Report,
    Reported,
    ToController,
    pickled,
    resource_of,
    unpickled,
)
from h5flow.ranks.own_progress import OwnProgress
from h5flow.ranks.owner_link import OwnerLink
from h5flow.ranks.rounds import OutOfOrder, Round
from h5flow.ranks.waiting import Waiting

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

_OWNER = 0


class Dispatcher:
    """Brings a rank what others send it; what may take long, or wait for other ranks, is done by the executor's thread.

    It decides nothing: that is for the controller, on rank 0, and what there is to do is done by the file and its
    components. Nothing that the courier calls waits for other ranks, and it waits for the lock of the file only to do
    what the owner is asked for. That ends, since no thread waits for other ranks with the lock.
    """

    def __init__(self, comm: Intracomm, member: Member, progress: OwnProgress, waiting: Waiting) -> None:
        self._comm = comm
        self._rank: int = comm.Get_rank()
        self._member = member
        self._progress = progress
        self._waiting = waiting
        self._controller = Controller(comm.Get_size()) if self._rank == 0 else None
        self._executor = Executor(self.give_up)
        self.applying = Applying(self._rank, waiting.changed, member, self._executor.submit)
        #: The answers of all ranks, by the number of the collection.
        self._collected: dict[int, list[Pickled]] = {}
        self.owner = OwnerLink(
            lambda message: self._post(_OWNER, message), lambda: self._courier.backlog, waiting.check
        )
        self._courier = Courier(comm, self._receive, self._between, self.give_up)
        self._courier.start()

    def tell(self, message: ToController) -> None:
        """Tell the controller something."""
        self._post(0, message)

    def has_collected(self, number: int) -> bool:
        """Say whether the answers of a collection have come."""
        return number in self._collected

    def take_collected(self, number: int) -> list[Pickled]:
        """Return the answers of a collection, by rank, once."""
        return self._collected.pop(number)

    def wake(self) -> None:
        """Tell others soon how far this rank is, if they want to know it."""
        self._courier.wake()

    def give_up(self, error: BaseException) -> None:
        """Give an error to whoever waits for other ranks, now or later."""
        self._waiting.fail(error)
        self.owner.give_up()
        self._waiting.give_up(error)

    def close(self, patience: float | None) -> bool:
        """End when all ranks do, and free the communicator; says whether it has, in so many seconds. Collective."""
        if not (self._courier.close(patience) and self._executor.close(patience)):
            return False
        self._comm.Free()
        return True

    def _post(self, rank: int, message: Message) -> None:
        self._courier.post(rank, message)

    # what the courier calls

    def _receive(self, rank: int, message: Message) -> None:
        if isinstance(message, ForController):
            assert self._controller is not None
            for receiver, reply in self._controller.receive(rank, message):
                self._post(receiver, reply)
            return
        match message:
            case Closed(resource, place, calls):
                made = tuple(None if call is None else unpickled(call) for call in calls)
                self._close(Round(resource_of(resource), place, made))
            case ProgressWanted():
                self._progress.want()
            case Do(request):
                self._serve(request)
            case Ask(number, request):
                self._post(rank, self._answer(number, request))
            case Answer():
                self.owner.answer(message)
            case Report(token):
                # What this rank has called for before has been sent before, so the controller gets it before.
                self.tell(Reported(token))
            case Deliver():
                self._executor.submit(functools.partial(self._deliver, message))
            case Collected(number, answers):
                self._collected[number] = answers
                self._waiting.leave_news()
            case Refused(resource, place, why):
                error = OutOfOrder(why)
                if self.applying.refuse((resource_of(resource), place), error):
                    self._waiting.fail(error)
                self._waiting.leave_news()
            case RankFailed(why):
                # In a thread of its own, since others may have the lock until they have got an error.
                failure = OtherRankFailed(why)
                threading.Thread(target=self.give_up, args=(failure,), name="h5flow failure", daemon=True).start()

    def _between(self) -> bool:
        """Tell how far this rank is, where that is wanted, and wake those for whom there is news.

        Says whether that couldn't be done yet.
        """
        progress = self._progress.told_if_wanted()
        if progress is not None:
            self.tell(Proceed(progress))
        if self._controller is not None:
            seconds = self._controller.stalled(time.monotonic())
            if seconds is not None:
                self._member.stalled(seconds, self._controller.late)
        return self._waiting.pass_on_soon(self._go_on)

    def _go_on(self) -> None:
        """Apply what can be applied, on rank 0; elsewhere that may take an answer, which the courier has to bring."""
        if self._rank == 0:
            self.applying.go_on()

    def _close(self, closed: Round) -> None:
        awaited = self.applying.arrive(closed)
        self._waiting.leave_news()
        if self._rank and (self._member.all_open or not awaited):
            self._executor.submit(self.applying.see_to_it)

    def _serve(self, request: tuple[Any, ...]) -> Any:
        with self._waiting.changed:
            self.applying.go_on()
            return self._member.serve(request)

    def _answer(self, number: int, request: tuple[Any, ...]) -> Answer:
        try:
            return Answer(number, self._serve(request))
        except Exception as error:  # noqa: BLE001 - it is handed on
            return Answer(number, error=error)

    # what the executor calls

    def _deliver(self, wanted: Deliver) -> None:
        """Answer what a rank asks of all, after the rounds that are closed."""
        with self._waiting.changed:
            if not self.applying.apply_all(self._waiting.check):
                # It is this thread that carries out what is submitted by now.
                self._executor.submit(functools.partial(self._deliver, wanted))
                return
            try:
                outcome = Outcome(self._member.deliver(resource_of(wanted.resource), *unpickled(wanted.request)))
            except Exception as error:  # noqa: BLE001 - it is handed on
                outcome = Outcome(error=error)
        self.tell(Delivered(wanted.token, pickled(outcome)))
