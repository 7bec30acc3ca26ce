"""Threads of a rank that wait for other ranks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from h5flow.ranks.member import Member


class Waiting:
    """Who waits on this rank, on the condition of the file, so that its lock is let go meanwhile; and when it ends.

    The courier brings what is waited for, and mustn't wait for the lock, since who has it may be waiting for an answer
    that the courier has to bring. So it leaves word that there is *news*, and whoever gets the lock next passes it on.
    """

    def __init__(self, changed: threading.Condition, member: Member) -> None:
        self.changed = changed
        self._member = member
        self._news = False
        self._error: BaseException | None = None
        #: Seconds that each component has waited for other ranks in the loop, by its position.
        self.seconds: dict[int, float] = {}

    def until(self, ready: Callable[[], bool]) -> None:
        """Wait until something is so; raises the error of `give_up`. The lock is held, and let go meanwhile."""
        acting, started = self._member.components.at_work(), time.perf_counter()
        while not ready():
            self.check()
            if not self.pass_on_news():
                self.changed.wait()
        if acting is not None:
            position = acting[1]
            self.seconds[position] = self.seconds.get(position, 0.0) + time.perf_counter() - started

    def leave_news(self) -> None:
        """Leave word that something has come; without the lock."""
        self._news = True

    def pass_on_news(self) -> bool:
        """Wake all that wait if there is news; says whether there was, maybe for the caller. The lock is held.

        It may have come since the caller has looked, and nobody tells of it again.
        """
        if not self._news:
            return False
        self._news = False
        self.changed.notify_all()
        return True

    def pass_on_soon(self, first: Callable[[], None]) -> bool:
        """Do `first` and wake all that wait if there is news and nobody has the lock; says whether news is left."""
        if self._news and self.changed.acquire(blocking=False):
            try:
                self._news = False
                first()
                self.changed.notify_all()
            finally:
                self.changed.release()
        return self._news

    def check(self) -> None:
        """Raise the error of `give_up`, if there was any."""
        if self._error is not None:
            raise self._error

    def fail(self, error: BaseException) -> None:
        """Give an error to whoever waits for other ranks, now or later; the lock is held or not needed."""
        self._error = self._error or error

    def give_up(self, error: BaseException) -> None:
        """Give an error to whoever waits for other ranks, now or later."""
        self.fail(error)
        with self.changed:
            self.changed.notify_all()
