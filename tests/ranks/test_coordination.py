"""What one rank does with the messages of others, on a communicator that is made up."""

from __future__ import annotations

import threading

import pytest

from h5flow.ranks.coordination import Coordination
from h5flow.ranks.member import NoComponents
from h5flow.ranks.messages import Closed, Collected, Outcome, pickled

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


class Member:
    """Applies a round by telling what ranks have called for."""

    components = NoComponents()
    all_open = False

    def concerns_all(self, _closed):
        return False

    def apply(self, closed, _own):
        return closed.calls


@pytest.fixture
def changed():
    return threading.Condition(threading.RLock())


@pytest.fixture
def coordination(changed):
    try:
        return Coordination(SecondOfTwo(), changed, Member())
    except (ImportError, RuntimeError):
        pytest.skip("NOT RUN: there is no MPI library")


@pytest.mark.parametrize("what", ["round", "collected"])
def test_an_answer_that_comes_between_looking_and_waiting(coordination, changed, what, monkeypatch):
    """The courier has brought it before anybody waits, and tells of it once."""
    answers = {
        "round": Closed(pickled("x"), ((0, -1, 0), 0), [pickled(1), pickled(2)]),
        "collected": Collected(0, [pickled(Outcome("a")), pickled(Outcome("b"))]),
    }
    messages = [answers[what]]
    given = []

    def look():
        if messages:
            coordination._dispatcher._receive(0, messages.pop())

    def call():
        with changed:
            given.append(coordination.join("x", 2) if what == "round" else coordination.collect("x"))

    monkeypatch.setattr(coordination._waiting, "check", look)
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(5)
    assert given == ([(1, 2)] if what == "round" else [["a", "b"]])
