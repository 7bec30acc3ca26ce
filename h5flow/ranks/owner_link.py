"""The way to the rank that owns the file."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from h5flow.ranks.messages import Answer, Ask, Do, Outcome

# So many messages may wait to be sent before those who write wait as well.
_MOST_UNSENT = 32


class OwnerLink:
    """Has the owner of the file do what is asked for; may be used with and without this rank's lock of the file.

    `post` sends a message to the owner, `backlog` says how many haven't left yet, and `check` raises where ranks have
    given up.
    """

    def __init__(self, post: Callable[[Do | Ask], None], backlog: Callable[[], int], check: Callable[[], None]) -> None:
        self._post = post
        self._backlog = backlog
        self._check = check
        self._numbers = itertools.count()
        self._outcomes: dict[int, Outcome] = {}
        self._answered = threading.Condition()

    def send(self, *request: Any) -> None:
        """Let the owner do something, soon."""
        while self._backlog() > _MOST_UNSENT:
            time.sleep(1e-3)
        self._post(Do(request))

    def request(self, *request: Any) -> Any:
        """Let the owner do something, and return what comes of it; raises what that raises."""
        number = next(self._numbers)
        self._post(Ask(number, request))
        with self._answered:
            while number not in self._outcomes:
                self._check()
                self._answered.wait()
            return self._outcomes.pop(number).result()

    def answer(self, answer: Answer) -> None:
        """Take an answer of the owner."""
        with self._answered:
            self._outcomes[answer.number] = Outcome(answer.value, answer.error)
            self._answered.notify_all()

    def give_up(self) -> None:
        """Wake whoever waits for an answer, to look whether ranks have given up."""
        with self._answered:
            self._answered.notify_all()
