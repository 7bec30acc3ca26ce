"""Closed rounds are applied in their order, each by whoever has to, without MPI."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from h5flow.ranks.applying import Applying
from h5flow.ranks.moments import LOOP, Moment
from h5flow.ranks.rounds import OutOfOrder, Round

RANK = 1


class Member:
    """Notes which rounds are applied, with what was given for them, for which moment, and whether all ranks do."""

    all_open = True

    def __init__(self):
        self.applied = []
        self.components = SimpleNamespace(acting_at=self._acting_at)
        self._acting = None

    @contextmanager
    def _acting_at(self, moment):
        self._acting = moment
        try:
            yield
        finally:
            self._acting = None

    def concerns_all(self, closed):
        return closed.resource == "together"

    def apply(self, closed, own):
        return self._note(closed, own, at_once=False)

    def carry_out(self, closed, own):
        return self._note(closed, own, at_once=True)

    def _note(self, closed, own, *, at_once):
        self.applied.append((closed.key, own, self._acting, at_once))
        if closed.calls[0] == "fails":
            raise ZeroDivisionError(closed.place)
        return "outcome", closed.place


def round_of(resource, number, mine, others=None):
    return Round(resource, (Moment(LOOP, number, 1), 0), (others, mine))


class Arrivals(RuleBasedStateMachine):
    """Rounds of all kinds arrive, threads of this rank look for theirs, and the executor makes what is submitted."""

    def __init__(self):
        super().__init__()
        self.member, self.submitted, self.changed = Member(), deque(), threading.Condition()
        self.applying = Applying(RANK, self.changed, self.member, self.submitted.append)
        #: What is to be noted by the member, in order, as far as it has arrived.
        self.expected = []
        self.waiting = {}
        self.later = {}
        self.called = {}
        self.number = 0

    @rule(
        resource=st.sampled_from(["rows", "together"]),
        kind=st.sampled_from(["others'", "awaited", "later"]),
        fails=st.booleans(),
    )
    def arrive(self, resource, kind, fails):
        self.number += 1
        closed = round_of(
            resource,
            self.number,
            None if kind == "others'" else "call",
            "fails" if fails and kind == "awaited" else None,
        )
        at_once = resource == "together"
        own, acting = None, None if kind == "awaited" and not at_once else closed.place[0]
        if kind == "awaited":
            own = f"what {self.number} gave"
            self.waiting[closed.key] = stack = ExitStack()
            stack.enter_context(self.applying.expecting(closed.key, own))
            stack.fails = fails
        elif kind == "later":
            self.later[closed.key] = "outcome", closed.place
            self.applying.expect_later(
                closed.key, lambda outcome, key=closed.key: self.called.setdefault(key, []).append(outcome)
            )
        assert self.applying.arrive(closed) == (kind == "awaited")
        self.expected.append((closed.key, own, acting, at_once))

    @precondition(lambda self: self.waiting)
    @rule(pick=st.integers(0, 7))
    def look(self, pick):
        keys = list(self.waiting)
        self._look(keys[pick % len(keys)])

    def _look(self, key):
        with self.changed:
            if not self.applying.has_come(key):
                return
        stack = self.waiting.pop(key)
        with stack, self.changed:
            if stack.fails:
                with pytest.raises(ZeroDivisionError):
                    self.applying.outcome(key)
            else:
                assert self.applying.outcome(key) == ("outcome", key[1])

    @rule()
    def go_on(self):
        with self.changed:
            self.applying.go_on()

    @precondition(lambda self: self.submitted)
    @rule()
    def execute(self):
        self.submitted.popleft()()

    @invariant()
    def each_is_applied_once_and_in_order(self):
        assert self.member.applied == self.expected[: len(self.member.applied)]
        assert len(self.submitted) <= 1

    def teardown(self):
        while len(self.member.applied) < len(self.expected):
            before = len(self.member.applied), len(self.submitted), len(self.waiting)
            self.applying.see_to_it()
            for key in list(self.waiting):
                self._look(key)
            while self.submitted:
                self.submitted.popleft()()
            assert before != (len(self.member.applied), len(self.submitted), len(self.waiting)), "nobody goes on"
        for key in list(self.waiting):
            self._look(key)
        self.each_is_applied_once_and_in_order()
        assert not self.waiting
        assert self.called == {key: [outcome] for key, outcome in self.later.items()}
        assert self.applying.expected_later() == []


TestArrivals = Arrivals.TestCase
TestArrivals.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@pytest.fixture
def changed():
    return threading.Condition()


@pytest.fixture
def submitted():
    return []


@pytest.fixture
def applying(changed, submitted):
    return Applying(RANK, changed, Member(), submitted.append)


def test_a_call_that_is_refused_raises_where_it_is_waited_for(applying, changed):
    place = (Moment(LOOP, 0, 1), 0)
    with changed, applying.expecting(("rows", place), None):
        assert not applying.refuse(("rows", place), OutOfOrder("too late"))
        with pytest.raises(OutOfOrder, match="too late"):
            applying.has_come(("rows", place))


def test_a_call_that_is_refused_and_that_nobody_waits_for_is_told(applying, changed):
    place = (Moment(LOOP, 0, 1), 0)
    applying.expect_later(("rows", place), lambda _: None)
    assert applying.refuse(("rows", place), OutOfOrder("too late"))


def test_calls_of_later_moments_are_not_waited_for(applying):
    keys = [("rows", (Moment(LOOP, number, 1), 0)) for number in range(3)]
    for key in keys:
        applying.expect_later(key, lambda _: None)
    assert applying.expected_by(Moment(LOOP, 1, 1), [*keys, ("others", keys[0][1])]) == keys[:2]


def test_applying_all_waits_for_the_thread_that_has_to_apply_the_first(applying, changed):
    mine, after = round_of("rows", 0, "call"), round_of("rows", 1, None)
    begun = threading.Event()

    def wait():
        with changed, applying.expecting(mine.key, "own"):
            begun.set()
            while not applying.has_come(mine.key):
                changed.wait()
            applying.outcome(mine.key)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert begun.wait(5)
    with changed:
        applying.arrive(mine)
        applying.arrive(after)
        assert applying.apply_all(lambda: None)
    thread.join(5)
    assert not thread.is_alive()


def test_applying_all_ends_with_what_ends_waiting(applying, changed):
    mine = round_of("rows", 0, "call")

    def check():
        raise InterruptedError

    with changed, applying.expecting(mine.key, "own"):
        applying.arrive(mine)
        with pytest.raises(InterruptedError):
            applying.apply_all(check)


def test_applying_all_lets_what_all_ranks_carry_out_come_first(applying, changed, submitted):
    applying.arrive(round_of("together", 0, None))
    with changed:
        assert not applying.apply_all(lambda: None)
    (carry_out,) = submitted
    carry_out()
    with changed:
        assert applying.apply_all(lambda: None)
