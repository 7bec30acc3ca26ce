"""The rounds that are closed, applied on a rank in their order, each by whoever has to."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from h5flow.ranks.member import Member
from h5flow.ranks.messages import Outcome
from h5flow.ranks.rounds import Key, OutOfOrder, Round, RunMoment


class Applying:
    """Applies rounds in the order in which they arrive; `changed` is the condition of the file.

    A round that a thread of this rank waits for is applied by that thread, with what it gave for it. Any other one is
    applied by whoever comes by, and one that all ranks carry out at once by what `submit` hands calls to: a thread that
    makes them one after the other. Where not said otherwise, the lock is held.
    """

    def __init__(
        self,
        rank: int,
        changed: threading.Condition,
        member: Member,
        submit: Callable[[Callable[[], None]], None],
    ) -> None:
        self._rank = rank
        self._changed = changed
        self._member = member
        self._submit = submit
        self._arrived: deque[Round] = deque()
        #: What threads that wait gave for their rounds, and what has come of those that others have carried out.
        self._own: dict[Key, Any] = {}
        self._outcomes: dict[Key, Outcome] = {}
        self._refused: dict[Key, OutOfOrder] = {}
        #: What is to be called with the outcome of calls that nobody waits for.
        self._later: dict[Key, Callable[[Any], None]] = {}
        self._carrying_out = False

    # calls of this rank

    @contextmanager
    def expecting(self, key: Key, own: Any) -> Iterator[None]:
        """Let the calling thread get the outcome of a call, for the duration of the block."""
        self._own[key] = own
        try:
            yield
        finally:
            del self._own[key]

    def expect_later(self, key: Key, then: Callable[[Any], None]) -> None:
        """Register `then` to be called with the outcome of a call, in any thread."""
        self._later[key] = then

    def expected_later(self) -> list[Key]:
        """Return the calls that nobody waits for and that have no outcome yet."""
        return list(self._later)

    def expected_by(self, moment: RunMoment, keys: Iterable[Key]) -> list[Key]:
        """Return those of some calls that have no outcome yet, and were made at a moment or before."""
        return [key for key in keys if key in self._later and key[1][0] <= moment]

    def has_come(self, key: Key) -> bool:
        """Say whether `outcome` has anything, after applying what comes before. Raises `OutOfOrder`."""
        if key in self._refused:
            raise self._refused.pop(key)
        if key in self._outcomes:
            return True
        self.go_on()
        return not self._carrying_out and bool(self._arrived) and self._arrived[0].key == key

    def has_come_later(self, key: Key) -> bool:
        """Say whether what was to be called with the outcome has been, after applying what can be."""
        self.go_on()
        return key not in self._later

    def outcome(self, key: Key) -> Any:
        """Return the outcome of a call that has come, which may mean to apply its round; raises what that raises."""
        if key in self._outcomes:
            return self._outcomes.pop(key).result()
        try:
            return self._member.apply(self._arrived.popleft(), self._own[key])
        finally:
            self.go_on()
            self._changed.notify_all()

    # what arrives

    def arrive(self, closed: Round) -> bool:
        """Take a round; says whether some thread here waits for it, which applies it. Not locked."""
        self._arrived.append(closed)
        return self._is_awaited(closed)

    def refuse(self, key: Key, error: OutOfOrder) -> bool:
        """Take note that a call has no outcome; says whether nobody waits for it. Not locked."""
        self._refused[key] = error
        return key in self._later

    def go_on(self) -> None:
        """Apply rounds up to one that a thread here waits for, or that all ranks carry out at once."""
        while self._arrived and not self._carrying_out:
            closed = self._arrived[0]
            if self._member.concerns_all(closed):
                self._carrying_out = True
                self._submit(functools.partial(self._carry_out, self._arrived.popleft()))
                return
            if self._is_awaited(closed):
                return
            self._arrived.popleft()
            with self._member.components.acting_at(closed.place[0]):
                self._finish(closed, self._member.apply(closed, None))
            self._changed.notify_all()

    def see_to_it(self) -> None:
        """Apply what can be applied; not locked."""
        with self._changed:
            self.go_on()
            self._changed.notify_all()

    def apply_all(self, check: Callable[[], None]) -> bool:
        """Apply all rounds that have arrived, waiting for threads that have to, while `check` doesn't raise.

        Says whether they are. They aren't where what `submit` hands calls to has to come first.
        """
        self.go_on()
        while self._arrived and not self._carrying_out:
            check()
            self._changed.notify_all()  # for who has to apply the first one
            self._changed.wait()
            self.go_on()
        return not self._carrying_out

    def _carry_out(self, closed: Round) -> None:
        """Carry out a round with all ranks; in a thread of its own, not locked."""
        awaited = self._is_awaited(closed)
        try:
            with self._member.components.acting_at(closed.place[0]):
                own = self._own.get(closed.key) if self._takes_part(closed) else None
                outcome = Outcome(self._member.carry_out(closed, own))
                if not awaited:
                    with self._changed:
                        self._finish(closed, outcome.value)
        except Exception as error:
            if not awaited:
                raise
            outcome = Outcome(error=error)
        with self._changed:
            if awaited:
                self._outcomes[closed.key] = outcome
            self._carrying_out = False
        self.see_to_it()

    def _takes_part(self, closed: Round) -> bool:
        """Say whether a round has a call of this rank; it may be closed for others alone, and be so once more."""
        return closed.calls[self._rank] is not None

    def _is_awaited(self, closed: Round) -> bool:
        return self._takes_part(closed) and closed.key not in self._later

    def _finish(self, closed: Round, outcome: Any) -> None:
        then = self._later.pop(closed.key, None) if self._takes_part(closed) else None
        if then is not None:
            then(outcome)
