"""Memory of the process: what it has taken, and that threads don't take more than they need."""

from __future__ import annotations

import contextlib
import ctypes
import sys

# malloc.h of glibc.
_M_ARENA_MAX = -8


def peak_memory() -> int:
    """Return the most memory that the process has taken up to now, in bytes."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def share_heap() -> None:
    """Let all threads take memory from one heap.

    By default glibc gives each thread a heap of its own, which it keeps when what was in it has been freed: a process
    whose slices pass six threads holds the arrays of six slices, while one is in flight.
    """
    # Elsewhere than in glibc there is nothing to set.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
