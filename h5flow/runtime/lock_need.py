"""How much of the time components need Python's lock, which bounds what overlapping slices can win."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

# Between two probes, in seconds: at first, to know soon, and then, since a probe costs the others a millisecond.
_FIRST_PERIOD, _PERIOD = 1.5e-3, 0.2
_KEPT: Final = 64
# So many at first for each slice, or else they would tell of one stage only.
_OF_A_SLICE: Final = 24
# For how long a probe keeps the lock; less than the switch interval, or else it would be taken away.
_HELD: Final = 2.5e-4
# That the lock is needed for much of the time is said after a few probes, and that it isn't, after more of them.
_FEW: Final = 8
_ENOUGH: Final = 32
_MUCH: Final = 0.5
# By how many standard errors the share may be higher than it seems.
_CAUTION: Final = 2.0

#: Without the lock nobody needs it, and without clocks of single threads it shows what overlapping wins.
_MEASURABLE = getattr(sys, "_is_gil_enabled", lambda: True)() and hasattr(time, "pthread_getcpuclockid")


class _Spent(NamedTuple):
    """Seconds: the clock, what the threads have computed, and for how long they have waited for a core."""

    clock: float
    computed: float
    queued: float


class LockNeed:
    """Measures, while one slice at a time is at work, what it would leave to others.

    Now and then a thread keeps the lock for a moment and looks how much the others compute meanwhile: numpy with
    large arrays, HDF5 and zlib go on, Python and numpy with small arrays stand still. What isn't computing at all
    waits for something; to wait for a core is no such wait, since more threads wouldn't get there sooner. Where all
    cores are busy with other processes nothing goes on beside the probe, and nothing could be won.
    """

    def __init__(self, threads: Iterable[threading.Thread]) -> None:
        """Watch the threads of components."""
        alive = [thread for thread in threads if thread.ident is not None] if _MEASURABLE else []
        self._clocks = [time.pthread_getcpuclockid(thread.ident) for thread in alive if thread.ident is not None]
        self._statistics = [Path(f"/proc/self/task/{thread.native_id}/schedstat") for thread in alive]
        # Of the probes: for which share of the moment the others went on without the lock.
        self._free: deque[float] = deque(maxlen=_KEPT)
        # Since the one before it: seconds by the clock, without those spent waiting for a core, and of the processor.
        self._spans: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._goes_on = threading.Event()
        self._pauses = 0
        self._first_period = _FIRST_PERIOD
        self._started = self._ended = False

    @property
    def share(self) -> float | None:
        """Return the share of the time, from 0 to 1, in which somebody computes with the lock; `None` if not known yet.

        It may be less, but hardly more.
        """
        if not _MEASURABLE:
            return 0.0
        share = self._share(_CAUTION) if len(self._free) >= _FEW else 0.0
        return share if share >= _MUCH or len(self._free) >= _ENOUGH else None

    def _share(self, caution: float) -> float:
        probes, spans = tuple(self._free), tuple(self._spans)  # at once: the measuring thread may add some any time
        computing = sum(span[1] for span in spans) / sum(span[0] for span in spans)
        free = sum(probes) / len(probes)
        variance = sum((probe - free) ** 2 for probe in probes) / len(probes)
        return float(min(1.0, max(0.0, computing - free + caution * math.sqrt(variance / len(probes)))))

    def start(self, seconds: float = 0.0) -> None:
        """Begin to measure, until the `end`; a slice takes so many seconds. Done once."""
        if self._started:
            return
        self._started = True
        self._first_period = max(_FIRST_PERIOD, min(_PERIOD, seconds / _OF_A_SLICE))
        self._goes_on.set()
        if self._clocks:
            threading.Thread(target=self._measure, name="h5flow lock need", daemon=True).start()

    def pause(self, paused: bool) -> None:
        """Measure nothing for now, or go on: only one slice at a time tells something."""
        if paused:
            self._pauses += 1
            self._goes_on.clear()
        else:
            self._goes_on.set()

    def end(self) -> None:
        """Measure no more."""
        self._ended = True
        self._goes_on.set()

    def _measure(self) -> None:
        with ExitStack() as stack:
            statistics = []
            with suppress(OSError):  # other systems than Linux have none
                statistics = [stack.enter_context(path.open("rb", buffering=0)) for path in self._statistics]
            before: _Spent | None = None
            while not self._ended:
                pauses = self._pauses
                time.sleep(self._period)
                if not self._goes_on.is_set() or self._pauses != pauses:
                    # What was spent meanwhile, others have spent as well.
                    self._goes_on.wait()
                    before = None
                    continue
                try:
                    before = self._probe(before, statistics)
                except OSError:  # a thread has ended, so the loop is over
                    return

    @property
    def _period(self) -> float:
        """Say how long to wait until the next probe: not for long where overlapping promises something."""
        return self._first_period if self.share is None else _PERIOD

    def _probe(self, before: _Spent | None, statistics: Sequence[BinaryIO]) -> _Spent:
        """Keep the lock for a moment; takes and returns what had been spent when a probe was over."""
        now = self._spent(statistics)
        if before is None:
            return now
        computed = now.computed - before.computed
        seconds = now.clock - before.clock - (now.queued - before.queued)
        self._spans.append((max(seconds, computed), computed))
        end = time.perf_counter() + _HELD
        while time.perf_counter() < end:
            pass
        self._free.append((self._computed() - now.computed) / _HELD)
        return self._spent(statistics)

    def _spent(self, statistics: Sequence[BinaryIO]) -> _Spent:
        """Return what has been spent up to now."""
        # The second number of the line: nanoseconds of waiting for a core (proc(5), Documentation/scheduler).
        queued = sum(int(os.pread(file.fileno(), 80, 0).split()[1]) for file in statistics)
        return _Spent(time.perf_counter(), self._computed(), 1e-9 * queued)

    def _computed(self) -> float:
        """Return what the threads have computed, in seconds."""
        # Clocks of single threads, since that of the process counts what runs on other cores only at each tick.
        return sum(time.clock_gettime(clock) for clock in self._clocks)
