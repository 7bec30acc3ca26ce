"""Calls that take turns."""

from __future__ import annotations

import threading

import pytest

from h5flow.telemetry.turns import Turns


def test_a_call_within_another_comes_after_it():
    turns, done = Turns(), []

    def outer():
        assert not turns.take(lambda: done.append("second"))
        done.append("first")

    assert turns.take(outer)
    assert done == ["first", "second"]


def test_those_of_several_threads_are_one_at_a_time():
    turns, active, most = Turns(), [], []

    def call():
        active.append(1)
        most.append(len(active))
        active.pop()

    threads = [threading.Thread(target=lambda: [turns.take(call) for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(most), max(most)) == (8000, 1)


def test_one_that_fails_ends_no_others():
    turns, done = Turns(), []
    with pytest.raises(ZeroDivisionError):
        turns.take(lambda: 1 / 0)
    assert turns.take(lambda: done.append(1))
    assert done == [1]
