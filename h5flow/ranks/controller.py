"""What rank 0 decides for all ranks: which rounds are closed, who has to answer what, who is late, and who has failed.

A state machine: a message of a rank goes in, messages to ranks come out. It knows no MPI, thread, lock or file, and
doesn't look into what ranks call for, ask for or answer. Its owner takes one message at a time.

A *collection* is what a rank wants to have from all of them. Only when each has reported, so that all that it has
called for before is known here, all are told to answer; so an answer comes after all rounds that were called for by
then, and that can be closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from h5flow.ranks.messages import (
    Closed,
    Collect,
    Collected,
    Deliver,
    Delivered,
    Failed,
    FromController,
    Join,
    Pickled,
    Proceed,
    ProgressWanted,
    RankFailed,
    Refused,
    Report,
    Reported,
    ToController,
    Token,
    Wait,
    pickled_resource,
    resource_of,
)
from h5flow.ranks.rounds import OutOfOrder, Progress, Resource, Rounds

#: How often (seconds) is looked for ranks that others wait for.
LOOK_FOR_STALLS = 0.5

#: A message, and the rank that gets it.
Posted = tuple[int, FromController]


class _Collection(msgspec.Struct):
    """What a rank wants to have from all of them: those that haven't answered yet, and the answers."""

    resource: Resource
    request: Pickled
    #: The ranks that haven't reported yet, or not answered.
    missing: set[int]
    #: Whether all have reported.
    delivering: bool = False
    answers: dict[int, Pickled] = msgspec.field(default_factory=dict)


class Controller:
    """The controller of `size` ranks."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rounds = Rounds(size)
        self._collections: dict[Token, _Collection] = {}
        #: The ranks that have been asked how far they are, and haven't told yet.
        self._asked: set[int] = set()
        self._failed = False
        #: What was waited for when it was looked last, and since when.
        self._awaited: list[object] = []
        self._since = self._looked = 0.0

    def receive(self, sender: int, message: ToController) -> list[Posted]:
        """Take a message of a rank; returns those that follow from it, in the order in which they are to be sent."""
        if isinstance(message, Failed):
            return self._fail(message)
        if self._failed:
            return []  # who waits gets an error
        match message:
            case Join():
                return [*self._join(sender, message), *self._closed()]
            case Proceed():
                self._proceed(sender, message.progress)
                return self._closed()
            case Wait():
                self._rounds.wait(sender, resource_of(message.resource), message.place)
                return self._closed()
            case Collect():
                return self._collect((sender, message.number), message)
            case Reported():
                return self._note_report(sender, message.token)
            case Delivered():
                return self._note_answer(sender, message)

    def stalled(self, now: float) -> float | None:
        """Return for how long (seconds) the same ranks have been waited for at `now`.

        `None` where there are none, or it isn't known yet, or it was looked a moment ago.
        """
        if now - self._looked < LOOK_FOR_STALLS:
            return None
        self._looked = now
        awaited = list(self._waiting())
        if not awaited or awaited != self._awaited:
            self._awaited, self._since = awaited, now
            return None
        return now - self._since

    def late(self, names: Sequence[str]) -> list[str]:
        """Say for each rank that others wait for what it hasn't done; `names` are those of the components."""
        wanted = {rank: each.resource for each in self._collections.values() for rank in each.missing}
        rows = [f"rank {rank} to send what it has written to {wanted[rank]}" for rank in sorted(wanted)]
        return [*self._rounds.late(names), *rows]

    def check_invariants(self) -> None:
        """Raise `AssertionError` if this contradicts itself, or leaves undone what could be done; for tests."""
        everybody = set(range(self._size))
        self._rounds.check_invariants()
        for resource, place, missing in self._rounds.waiting():
            assert set(missing) <= self._asked, f"nobody asks {missing} how far they are, for {resource} at {place}"
        for token, collection in self._collections.items():
            assert collection.missing, f"collection {token} is complete"
            if collection.delivering:
                answered = collection.answers.keys()
                assert answered == everybody - collection.missing, f"collection {token} has answers of {answered}"
            else:
                assert not collection.answers, f"collection {token} has answers before all have reported"
        if self._failed:
            assert not list(self._waiting()), "a failure leaves nothing to wait for"

    # rounds

    def _join(self, rank: int, message: Join) -> Iterator[Posted]:
        self._rounds.proceed(rank, message.progress)
        try:
            self._rounds.join(rank, resource_of(message.resource), message.place, message.call, message.waits)
        except OutOfOrder as error:
            yield rank, Refused(message.resource, message.place, str(error))

    def _proceed(self, rank: int, progress: Progress) -> None:
        self._asked.discard(rank)
        self._rounds.proceed(rank, progress)

    def _closed(self) -> list[Posted]:
        """Tell all ranks of the rounds that are closed, and ask those that others wait for how far they are."""
        posted: list[Posted] = []
        for closed in self._rounds.close():
            message = Closed(pickled_resource(closed.resource), closed.place, list(closed.calls))
            posted += [(rank, message) for rank in range(self._size)]
        for _, _, missing in self._rounds.waiting():
            for rank in missing:
                if rank not in self._asked:
                    self._asked.add(rank)
                    posted.append((rank, ProgressWanted()))
        return posted

    # collections

    def _collect(self, token: Token, message: Collect) -> list[Posted]:
        everybody = range(self._size)
        self._collections[token] = _Collection(resource_of(message.resource), message.request, set(everybody))
        return [(rank, Report(token)) for rank in everybody]

    def _note_report(self, rank: int, token: Token) -> list[Posted]:
        collection = self._collections[token]
        collection.missing.discard(rank)
        if collection.missing:
            return []
        everybody = range(self._size)
        collection.missing, collection.delivering = set(everybody), True
        return [(each, Deliver(token, collection.request)) for each in everybody]

    def _note_answer(self, rank: int, message: Delivered) -> list[Posted]:
        collection = self._collections[message.token]
        collection.missing.discard(rank)
        collection.answers[rank] = message.answer
        if collection.missing:
            return []
        del self._collections[message.token]
        wanting, number = message.token
        return [(wanting, Collected(number, [collection.answers[each] for each in range(self._size)]))]

    # those that are late, and those that have failed

    def _waiting(self) -> Iterator[object]:
        """What is waited for, with the ranks that have to do something for it."""
        yield from self._rounds.waiting()
        for token, collection in self._collections.items():
            yield token, collection.delivering, sorted(collection.missing)

    def _fail(self, message: Failed) -> list[Posted]:
        """Tell all ranks, also of further failures, and forget what they wait for, which nobody brings any more."""
        self._failed = True
        self._rounds = Rounds(self._size)
        self._collections.clear()
        return [(rank, RankFailed(message.why)) for rank in range(self._size)]
