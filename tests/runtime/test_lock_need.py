"""How much components need Python's lock is measured while they work."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from h5flow.runtime import lock_need
from h5flow.runtime.lock_need import LockNeed


def in_python(until: float) -> None:
    while time.perf_counter() < until:
        sum(number * number for number in range(200))


def with_small_arrays(until: float) -> None:
    values = np.random.default_rng(1).random(256)
    while time.perf_counter() < until:
        np.interp(values, np.sort(values), values[::-1])


def waiting(until: float) -> None:
    while time.perf_counter() < until:
        time.sleep(0.002)


def measured(work: Callable[[float], None]) -> float:
    thread = threading.Thread(target=work, args=(time.perf_counter() + 0.6,))
    thread.start()
    need = LockNeed([thread])
    need.start()
    thread.join()
    need.end()
    assert need.share is not None
    return need.share


def test_python_needs_it_and_waiting_does_not():
    """Other processes take their share of the processor, so that the best of some measurements counts."""
    idle = min(measured(waiting) for _ in range(3))
    assert idle < 0.2
    for work in (in_python, with_small_arrays):
        assert max(measured(work) for _ in range(5)) > idle + 0.3


def test_nothing_is_said_of_what_has_not_been_measured():
    need = LockNeed([])
    need.start()
    assert need.share is None
    need.end()


def test_it_is_asked_while_it_measures(monkeypatch):
    """Which the event loop does whenever slices are done."""
    monkeypatch.setattr(lock_need, "_FIRST_PERIOD", 0.0)
    monkeypatch.setattr(lock_need, "_PERIOD", 0.0)
    monkeypatch.setattr(lock_need, "_HELD", 1e-9)
    monkeypatch.setattr(lock_need.LockNeed, "_computed", lambda _: 1.0)
    interval = sys.getswitchinterval()
    need = LockNeed([threading.current_thread()])
    need.start()
    try:
        sys.setswitchinterval(1e-6)
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            assert need.share in (None, 0.0)
    finally:
        sys.setswitchinterval(interval)
        need.end()


def test_what_is_spent_during_a_pause_does_not_count(monkeypatch):
    """Then others are at work as well, and the thread that was measured waits for them."""

    monkeypatch.setattr(lock_need, "_PERIOD", 0.05)

    def measured_with_pauses() -> float:
        goes_on, pausing = threading.Event(), threading.Event()

        def work() -> None:
            in_python(time.perf_counter() + 0.1)
            for _ in range(40):
                pausing.set()
                goes_on.wait()
                goes_on.clear()
                in_python(time.perf_counter() + 0.02)

        thread = threading.Thread(target=work)
        thread.start()
        need = LockNeed([thread])
        need.start()
        for _ in range(40):
            pausing.wait()
            pausing.clear()
            need.pause(True)
            time.sleep(0.02)
            need.pause(False)
            goes_on.set()
        thread.join()
        need.end()
        assert need.share is not None
        return need.share

    assert max(measured_with_pauses() for _ in range(3)) > 0.8
