"""Processes that users' modules fork, with `multiprocessing` say, while threads of this one are telling something.

A fork has a copy of everything, but no threads: a lock that one of them held stays locked for ever. And it has this
process' handlers of signals, which are not for it.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from typing import Protocol


class Inherited(Protocol):
    """What a fork can't go on with as it was."""

    def forked(self) -> None:
        """Become what can be used in a fork, where the calling thread is the only one."""
        ...


_all: weakref.WeakSet[Inherited] = weakref.WeakSet()


def renewed_in_forks(inherited: Inherited) -> None:
    """Let an object know of each fork of the process, for as long as the object exists."""
    _all.add(inherited)


class _Speaking:
    """Held while something is written to standard output or error, so that no fork begins with locked streams."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        renewed_in_forks(self)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def forked(self) -> None:
        """Go on in a fork."""
        self.lock = threading.RLock()


speaking = _Speaking()
# A fork waits so long for that (seconds), and no longer, since whoever speaks may be waiting for a lock that others
# who have a say in forks, such as h5py, hold by then.
_PATIENCE = 1.0

# A signal to a fork that is only beginning, as `Pool.terminate()` sends them, would get lost otherwise.
_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_held = threading.local()


def _before() -> None:
    _held.silent = speaking.lock.acquire(timeout=_PATIENCE)
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)
    if _held.silent:
        speaking.lock.release()


def _in_fork() -> None:
    for inherited in list(_all):
        inherited.forked()
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_fork)
