"""What one rank does with the messages of others, on a communicator that is made up."""

from __future__ import annotations

import threading

import pytest

from h5flow.ranks.coordination import Coordination
from h5flow.ranks.rounds import Round

mpi4py = pytest.importorskip("mpi4py", reason="NOT RUN: mpi4py isn't installed")


class SecondOfTwo:
    """The communicator of rank 1, whose messages go nowhere."""

    def Get_rank(self):
        return 1

    def Get_size(self):
        return 2

    def allgather(self, value):
        return [value, value]

    def isend(self, *_):
        return self

    def Test(self):
        return True

    def improbe(self, **_):
        return None


@pytest.fixture
def coordination():
    try:
        return Coordination(SecondOfTwo(), threading.Condition(threading.RLock()), lambda closed, own: closed.calls)
    except (ImportError, RuntimeError):
        pytest.skip("NOT RUN: there is no MPI library")


@pytest.mark.parametrize("what", ["round", "collected"])
def test_an_answer_that_comes_between_looking_and_waiting(coordination, what, monkeypatch):
    """The courier has brought it before anybody waits, and tells of it once."""
    answers = [("round", Round("x", ((0, -1, 0), 0), (1, 2))), ("collected", 0, ["a", "b"])]
    messages = [answer for answer in answers if answer[0] == what]
    given = []

    def look():
        if messages:
            coordination._receive(0, messages.pop())

    def call():
        with coordination._turn:
            given.append(coordination.join("x", 2) if what == "round" else coordination.collect("x"))

    monkeypatch.setattr(coordination, "_check", look)
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(5)
    assert given == ([(1, 2)] if what == "round" else [["a", "b"]])
