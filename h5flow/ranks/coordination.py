"""A rank among others: joins rounds, is told of those that are closed, and reaches the rank that owns the file."""

from __future__ import annotations

import functools
import itertools
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from h5flow.errors import H5FlowError
from h5flow.ranks.courier import Courier
from h5flow.ranks.executor import Executor
from h5flow.ranks.leaving import OtherRankFailed
from h5flow.ranks.moments import LOOP, Moment
from h5flow.ranks.rounds import ASKING, DECISION, OutOfOrder, Place, Progress, Round, Rounds, named

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


# How often (seconds) is looked for ranks that wait for others.
_LOOK_FOR_STALLS = 0.5
# So many messages may wait to be sent before those who write wait as well.
_MOST_UNSENT = 32


#: A round of a resource.
Key = tuple[Any, Place]


#: Rows that a rank wants to have: its number, and how many it has asked for before.
Token = tuple[int, int]


class Owner(Protocol):
    """What is done for other ranks; called with the lock."""

    def serve(self, request: tuple[Any, ...]) -> Any:
        """Do what the owner of the file is asked; the result is sent back where one is awaited."""
        ...

    def deliver(self, request: tuple[Any, ...]) -> Any:
        """Do what each rank is asked, with all that has been agreed on before."""
        ...


class Together(Protocol):
    """What all ranks do at once, each waiting for the others."""

    def concerns(self, closed: Round) -> bool:
        """Whether a round is carried out at once, which all ranks find alike; the lock is held."""
        ...

    def carry_out(self, closed: Round, own: Any) -> Any:
        """As `apply`, but without the lock, and in a thread of its own."""
        ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a call."""

    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(slots=True)
class _Collection:
    """What a rank wants to have from all of them: those that haven't answered yet, and the answers."""

    request: tuple[Any, ...]
    missing: set[int]
    answers: dict[int, Any]


class Coordination:
    """One of `size` ranks that share a file, which rank 0 owns.

    `turn` is the condition of the data file: it is waited on for rounds, so that its lock is let go meanwhile.
    `apply(round, own)` is called on each rank for each closed round, in the same order, with the lock held: by the
    thread that has joined it, where `own` is what that gave for it, or by another one, then `own` is `None`. What it
    returns or raises is the outcome of the call.
    """

    def __init__(self, comm: Intracomm, turn: threading.Condition, apply: Callable[[Round, Any], Any]) -> None:
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.owner: Owner | None = None
        self._turn = turn
        self._apply = apply
        self._rounds = Rounds(self.size) if self.rank == 0 else None
        self._progress = Progress()
        self._moved = True
        self._wanted = False
        self._asked: set[int] = set()
        self._calls: dict[tuple[Any, int], tuple[Moment, int]] = {}
        self._arrived: deque[Round] = deque()
        self._refused: dict[Key, OutOfOrder] = {}
        self._news = False
        self._answers: dict[int, Any] = {}
        self._questions = itertools.count()
        self._answered = threading.Condition()
        self._collections: dict[Token, _Collection] = {}
        self._collected: dict[int, list[Any]] = {}
        self._error: BaseException | None = None
        #: Seconds that each component has waited for other ranks in the loop.
        self.waited: dict[int, float] = {}
        #: The moment of the component at work in the calling thread, `None` outside of the loop.
        self.at_work: Callable[[], tuple[int, int] | None] = lambda: None
        #: Called before waiting for the other ranks.
        self.before_waiting: Callable[[], None] = lambda: None
        #: Makes the calling thread act for the component of a moment.
        self.acting_at: Callable[[Moment], AbstractContextManager[object]] = lambda _: nullcontext()
        #: On rank 0, told again and again how long (seconds) some ranks have been waiting for others, in words.
        self.stalled: Callable[[float, Callable[[Sequence[str]], list[str]]], None] = lambda _seconds, _late: None
        self._stall: tuple[list[Any], float, float] = ([], 0.0, 0.0)
        self._own: dict[Key, Any] = {}
        self._outcomes: dict[Key, _Outcome] = {}
        self._later: dict[Key, Callable[[Any], None]] = {}
        #: Set if there are rounds that all ranks carry out at once.
        self.together: Together | None = None
        self._carrying_out = False
        self._executor = Executor(self.give_up)
        self._courier = Courier(comm, self._receive, self._between, self.give_up)

    # progress

    def enter(self, part: int) -> None:
        """The next call of a component's method before or after the loop, or the loop itself."""
        progress = self._progress
        number = progress.number + 1 if part == progress.part else 0
        self._progress = Progress(part, number, progress.finished, progress.asked, progress.decided)
        self._has_moved()

    def passed(self, number: int, position: int) -> None:
        """A component is done with a slice."""
        self._progress.finish(number, position)
        if position == 0:
            self._progress.decided = number
        self._has_moved()

    def ask(self, number: int) -> None:
        """The generator is asked for a slice."""
        self._progress.asked = number
        self._has_moved()

    def _has_moved(self) -> None:
        self._moved = True
        if self._wanted:
            self._courier.wake()

    def join_unasked(self, resource: Any, call: Any) -> Any:
        """Where the generator shall not be asked: as `join`, with the ranks that don't ask theirs either."""
        return self._join(resource, ((LOOP, self._slice(), ASKING), 0), call, None)

    def join_undecided(self, resource: Any, call: Any) -> Any:
        """Where the generator has no slice: as `join`, with the ranks that have none either."""
        number = self._slice()
        self._progress.finish(number, 0)
        outcome = self._join(resource, ((LOOP, number, DECISION), 0), call, None)
        self._progress.decided = number
        self._has_moved()
        return outcome

    def _slice(self) -> int:
        acting = self.at_work()
        return self._progress.decided + 1 if acting is None else acting[0]

    # rounds

    def join(self, resource: Any, call: Any, own: Any = None) -> Any:
        """Make a collective call; its outcome, when the round is closed. The lock is held, and let go meanwhile."""
        return self._join(resource, self._place(resource), call, own)

    def join_later(self, resource: Any, call: Any, then: Callable[[Any], None]) -> Key:
        """Make a collective call, and don't wait for it; `then` gets its outcome, with the lock, in any thread."""
        key = (resource, self._place(resource))
        self._later[key] = then
        self._courier.post(0, ("join", *key, call, False, self._copied_progress()))
        return key

    def wait_for(self, keys: Iterable[Key]) -> None:
        """Wait for the outcome of calls that were made by `join_later`, as far as the caller may see it.

        Calls of later moments may need other ranks to get past the caller's. The lock is held, and let go meanwhile.
        """
        self._settle()
        now = self._moment()
        for key in [key for key in keys if key in self._later and key[1][0] <= now]:
            self.before_waiting()
            if key[1][0] == now:
                self._courier.post(0, ("wait", *key))
            with self._waiting():
                while key in self._later:
                    self._check()
                    self._turn.wait()
                    self._settle()

    def wait_for_all(self) -> None:
        """Wait for the outcome of all calls that were made by `join_later`."""
        self.wait_for(list(self._later))

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _join(self, resource: Any, place: Place, call: Any, own: Any) -> Any:
        self.before_waiting()
        key = (resource, place)
        self._own[key] = own
        self._courier.post(0, ("join", resource, place, call, True, self._copied_progress()))
        try:
            with self._waiting():
                while not (key in self._outcomes or self._reached(key)):
                    self._check()
                    if key in self._refused:
                        raise self._refused.pop(key)
                    if not self._pass_on_news():
                        self._turn.wait()
            if key in self._outcomes:
                return self._outcomes.pop(key).result()
            try:
                return self._apply(self._arrived.popleft(), own)
            finally:
                self._settle()
                self._turn.notify_all()
        finally:
            del self._own[key]

    def _pass_on_news(self) -> bool:
        """Wake others before waiting, for the courier that couldn't; says whether there was news, maybe for the caller.

        It may have come since the caller has looked, and nobody tells of it again.
        """
        if not self._news:
            return False
        self._news = False
        self._turn.notify_all()
        return True

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        acting, started = self.at_work(), time.perf_counter()
        yield
        if acting is not None:
            self.waited[acting[1]] = self.waited.get(acting[1], 0.0) + time.perf_counter() - started

    def _see_to_rounds(self) -> None:
        """Apply what can be applied; in the executor's thread."""
        with self._turn:
            self._settle()
            self._turn.notify_all()

    def _carry_out(self, closed: Round) -> None:
        """Carry out a round with all ranks; in the executor's thread."""
        assert self.together is not None
        key = _key(closed)
        awaited = self._is_awaited(closed)
        try:
            with self.acting_at(closed.place[0]):
                own = self._own.get(key) if self._takes_part(closed) else None
                outcome = _Outcome(self.together.carry_out(closed, own))
                if not awaited:
                    with self._turn:
                        self._come(closed, outcome.value)
        except Exception as error:
            if not awaited:
                raise
            outcome = _Outcome(error=error)
        with self._turn:
            if awaited:
                self._outcomes[key] = outcome
            self._carrying_out = False
        self._see_to_rounds()

    def _moment(self) -> Moment:
        """The moment of who calls."""
        acting = self.at_work()
        progress = self._progress
        return (progress.part, progress.number, 0) if acting is None else (LOOP, *acting)

    def _place(self, resource: Any) -> Place:
        moment = self._moment()
        last, count = self._calls.get((resource, moment[2]), (None, -1))
        count = count + 1 if last == moment else 0
        self._calls[resource, moment[2]] = (moment, count)
        return moment, count

    def _reached(self, key: Key) -> bool:
        """Whether a round that this rank has joined is the next to be applied; the lock is held."""
        self._settle()
        return not self._carrying_out and bool(self._arrived) and _key(self._arrived[0]) == key

    def _settle(self) -> None:
        """Apply rounds that are closed up to one that somebody here waits for, or all ranks; the lock is held."""
        while self._arrived and not self._carrying_out:
            closed = self._arrived[0]
            if self.together is not None and self.together.concerns(closed):
                self._carrying_out = True
                self._executor.submit(functools.partial(self._carry_out, self._arrived.popleft()))
                return
            if self._is_awaited(closed):
                return
            self._arrived.popleft()
            with self.acting_at(closed.place[0]):
                self._come(closed, self._apply(closed, None))
            self._turn.notify_all()

    def _takes_part(self, closed: Round) -> bool:
        """Whether a round has a call of this rank; it may have been closed for others alone, and be so once more."""
        return closed.calls[self.rank] is not None

    def _is_awaited(self, closed: Round) -> bool:
        return self._takes_part(closed) and _key(closed) not in self._later

    def _come(self, closed: Round, outcome: Any) -> None:
        then = self._later.pop(_key(closed), None) if self._takes_part(closed) else None
        if then is not None:
            then(outcome)

    # the owner

    def send(self, *request: Any) -> None:
        """Have the owner do something."""
        while self._courier.backlog > _MOST_UNSENT:
            time.sleep(1e-3)
        self._courier.post(0, ("do", request))

    def request(self, *request: Any) -> Any:
        """Have the owner do something, and wait for what comes of it."""
        number = next(self._questions)
        self._courier.post(0, ("ask", number, request))
        with self._answered:
            self._answered.wait_for(lambda: number in self._answers or self._error is not None)
            if number not in self._answers:
                self._check()
            answer = self._answers.pop(number)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    # what all ranks have

    def collect(self, *request: Any) -> list[Any]:
        """What each rank delivers, by its number, when it has done all that its earlier calls amount to.

        Earlier are those that ranks have made before a message that was received before. The lock is held, and let go
        meanwhile.
        """
        self.before_waiting()
        number = next(self._questions)
        self._courier.post(0, ("collect", number, request))
        with self._waiting():
            while number not in self._collected:
                self._check()
                if not self._pass_on_news():
                    self._turn.wait()
        answers = self._collected.pop(number)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _deliver(self, token: Token, request: tuple[Any, ...]) -> None:
        """Do what a rank asks of all, after the rounds that are closed; in the executor's thread."""
        with self._turn:
            self._settle()
            while self._arrived and not self._carrying_out:
                self._check()
                self._turn.notify_all()  # for who has to apply the first one
                self._turn.wait()
                self._settle()
            if self._carrying_out:
                # It is this thread that carries out what is submitted by now.
                self._executor.submit(functools.partial(self._deliver, token, request))
                return
            assert self.owner is not None
            try:
                answer = self.owner.deliver(request)
            except Exception as error:  # noqa: BLE001 - it is handed on
                answer = error
        self._courier.post(0, ("delivered", token, answer))

    def _collects(self, kind: str, token: Token, rank: int, answer: Any = None) -> None:
        """On rank 0: a rank has answered. Only when all have told of their calls, they are asked to deliver."""
        collection = self._collections[token]
        collection.missing.discard(rank)
        if kind == "delivered":
            collection.answers[rank] = answer
        if collection.missing:
            return
        everybody = range(self.size)
        if kind == "reported":
            collection.missing = set(everybody)
            for each in everybody:
                self._courier.post(each, ("deliver", token, collection.request))
        else:
            del self._collections[token]
            self._courier.post(token[0], ("collected", token[1], [collection.answers[each] for each in everybody]))

    # messages

    def _receive(self, rank: int, message: tuple[Any, ...]) -> None:
        kind, *content = message
        if kind == "round":
            self._close(content[0])
        elif kind == "answer":
            with self._answered:
                self._answers[content[0]] = content[1]
                self._answered.notify_all()
        elif kind == "refused":
            resource, place, error = content
            if (resource, place) in self._later:
                self._error = self._error or error
            self._refused[resource, place] = error
            self._news = True
        elif kind == "wanted":
            self._wanted = True
        elif kind == "join":
            self._joined(rank, *content)
        elif kind == "wait":
            assert self._rounds is not None
            self._rounds.wait(rank, *content)
            self._close_rounds()
        elif kind == "progress":
            assert self._rounds is not None
            self._asked.discard(rank)
            self._rounds.proceed(rank, content[0])
            self._close_rounds()
        elif kind == "do":
            self._serve(content[0])
        elif kind == "collect":
            token = (rank, content[0])
            self._collections[token] = _Collection(content[1], set(range(self.size)), {})
            for each in range(self.size):
                self._courier.post(each, ("report", token))
        elif kind == "report":
            # What this rank has called for before has been sent before, so rank 0 gets it before.
            self._courier.post(0, ("reported", content[0]))
        elif kind == "failed":
            # In a thread of its own, since others may have the lock until they have got an error.
            error = OtherRankFailed(content[0])
            threading.Thread(target=self.give_up, args=(error,), name="h5flow failure", daemon=True).start()
        elif kind == "deliver":
            self._executor.submit(functools.partial(self._deliver, *content))
        elif kind in ("reported", "delivered"):
            self._collects(kind, content[0], rank, *content[1:])
        elif kind == "collected":
            self._collected[content[0]] = content[1]
            self._news = True
        else:
            try:
                answer = self._serve(content[1])
            except Exception as error:  # noqa: BLE001 - it is handed on
                answer = error
            self._courier.post(rank, ("answer", content[0], answer))

    def _close(self, closed: Round) -> None:
        """A round is closed. Rank 0 applies it in any thread; elsewhere that may take an answer of rank 0."""
        self._arrived.append(closed)
        self._news = True
        if self.rank and (self.together is not None or not self._is_awaited(closed)):
            self._executor.submit(self._see_to_rounds)

    def _serve(self, request: tuple[Any, ...]) -> Any:
        assert self.owner is not None
        with self._turn:
            self._settle()
            return self.owner.serve(request)

    def _joined(self, rank: int, resource: Any, place: Place, call: Any, waits: bool, progress: Progress) -> None:
        assert self._rounds is not None
        self._rounds.proceed(rank, progress)
        try:
            self._rounds.join(rank, resource, place, call, waits)
        except OutOfOrder as error:
            self._courier.post(rank, ("refused", resource, place, error))
        self._close_rounds()

    def _close_rounds(self) -> None:
        """Tell all ranks of the rounds that are closed, and ask those that others wait for how far they are."""
        assert self._rounds is not None
        for closed in self._rounds.close():
            for rank in range(self.size):
                self._courier.post(rank, ("round", closed))
        for _, _, missing in self._rounds.waiting():
            for rank in missing:
                if rank not in self._asked:
                    self._asked.add(rank)
                    self._courier.post(rank, ("wanted",))

    def _copied_progress(self) -> Progress:
        self._moved = False
        return self._progress.copy()

    def _between(self) -> bool:
        """Say how far this rank is, where that is wanted, and wake those whose rounds are closed.

        Says whether that couldn't be done yet.
        """
        if self._wanted and self._moved:
            self._wanted = False
            self._courier.post(0, ("progress", self._copied_progress()))
        if self._rounds is not None:
            self._look_for_stalls()
        # Who holds the lock may be waiting for an answer that this thread has to bring.
        if self._news and self._turn.acquire(blocking=False):
            try:
                self._news = False
                if self.rank == 0:
                    self._settle()
                self._turn.notify_all()
            finally:
                self._turn.release()
        return self._news

    def _look_for_stalls(self) -> None:
        assert self._rounds is not None
        before, since, looked = self._stall
        now = time.monotonic()
        if now - looked < _LOOK_FOR_STALLS:
            return
        waiting = [*self._rounds.waiting(), *((token, sorted(of.missing)) for token, of in self._collections.items())]
        self._stall = (waiting, since if waiting == before else now, now)
        if waiting and waiting == before:
            self.stalled(now - since, self._late)

    def _late(self, names: Sequence[str]) -> list[str]:
        """For each rank that others wait for, in words what it hasn't done; `names` are those of the components."""
        assert self._rounds is not None
        wanted = {rank: of.request for of in self._collections.values() for rank in of.missing}
        rows = [f"rank {rank} to send what it has written to {named(wanted[rank][0])}" for rank in sorted(wanted)]
        return [*self._rounds.late(names), *rows]

    def give_up(self, error: BaseException) -> None:
        """Whoever waits for other ranks, now or later, gets an error."""
        self._error = self._error or error
        with self._answered:
            self._answered.notify_all()
        with self._turn:
            self._turn.notify_all()

    def tell_failure(self, why: str) -> None:
        """Have whoever waits for ranks, here or on the others, get an error, now or later."""
        for rank in range(self.size):
            self._courier.post(rank, ("failed", why))

    def close(self, patience: float | None = None) -> bool:
        """End, when all ranks do; the communicator is freed. Collective. Says whether it has, in so many seconds."""
        if not (self._courier.close(patience) and self._executor.close(patience)):
            return False
        self._comm.Free()
        return True


def _key(closed: Round) -> Key:
    return closed.resource, closed.place


def packed(arguments: Any) -> bytes | None:
    """The arguments of a call as they can be sent; `None` if they can't."""
    try:
        return pickle.dumps(arguments)
    except (TypeError, AttributeError, pickle.PicklingError):
        return None


def unpacked(arguments: bytes | None, name: str) -> Any:
    """The arguments of a call that another rank has made. Raises `H5FlowError` if they couldn't be sent."""
    if arguments is None:
        raise H5FlowError(f"{name} was called with what can't be sent to other ranks: call it on all of them")
    return pickle.loads(arguments)
