"""What the owner of the file is asked for, and who gets its answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from h5flow.errors import NotInFile
from h5flow.ranks.leaving import OtherRankFailed
from h5flow.ranks.messages import Answer, Ask, Do
from h5flow.ranks.owner_link import OwnerLink


class Wire:
    """Keeps what is posted, in order, and tells when there is so much of it."""

    def __init__(self):
        self.posted = []
        self.changed = threading.Condition()
        self.backlog = 0
        self.failure = None

    def post(self, message):
        with self.changed:
            self.posted.append(message)
            self.changed.notify_all()

    def until(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.posted) >= count, 5)

    def check(self):
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def link(wire):
    return OwnerLink(wire.post, lambda: wire.backlog, wire.check)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as made:
        yield made


def test_each_thread_gets_its_own_answer(link, wire, pool):
    asked = [pool.submit(link.request, "read", number) for number in range(4)]
    wire.until(4)
    assert {type(message) for message in wire.posted} == {Ask}
    for message in reversed(wire.posted):
        link.answer(Answer(message.number, message.request))
    assert [each.result(5) for each in asked] == [("read", number) for number in range(4)]


def test_an_error_is_raised_where_it_was_asked_for(link, wire, pool):
    asked = pool.submit(link.request, "read", "/none")
    wire.until(1)
    link.answer(Answer(wire.posted[0].number, error=NotInFile("'/none' isn't in 'out.h5'")))
    with pytest.raises(NotInFile, match="'/none' isn't in"):
        asked.result(5)


def test_who_waits_when_ranks_give_up_gets_the_error(link, wire, pool):
    asked = pool.submit(link.request, "read", "/raw/data")
    wire.until(1)
    wire.failure = OtherRankFailed("no disk")
    link.give_up()
    with pytest.raises(OtherRankFailed, match="no disk"):
        asked.result(5)
    with pytest.raises(OtherRankFailed, match="no disk"):
        link.request("read", "/raw/data")


def test_who_writes_waits_while_much_has_not_left_yet(link, wire, pool):
    link.send("write", 1)
    assert wire.posted == [Do(("write", 1))]
    wire.backlog = 1000
    sending = pool.submit(link.send, "write", 2)
    with pytest.raises(TimeoutError):
        sending.result(0.05)
    assert len(wire.posted) == 1
    wire.backlog = 0
    sending.result(5)
    assert wire.posted[1:] == [Do(("write", 2))]
