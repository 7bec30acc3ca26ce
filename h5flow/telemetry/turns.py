"""One thing at a time, where anything may happen meanwhile.

Python runs finalisers wherever it collects garbage, and those may log: asyncio's do, and with `captureWarnings` those
of files that are left open. So who tells something may be told something else within it, by the same thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Turns:
    """Has calls take turns, over all threads; a call from within another one comes after it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_taken = False
        self._later: deque[Callable[[], None]] = deque()

    def take(self, call: Callable[[], None]) -> bool:
        """Call it, now or later; says whether it has been called. What it raises is raised, if that is now."""
        with self._lock:
            if self._is_taken:
                self._later.append(call)
                return False
            self._is_taken = True
            try:
                call()
                while self._later:
                    self._later.popleft()()
            finally:
                self._is_taken = False
        return True
