"""In which order collective calls happen, decided without MPI."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.ranks.moments import AFTER, BEFORE, LOOP
from h5flow.ranks.rounds import OutOfOrder, Progress, Rounds
from support.collective_calls import actions, expected, workloads


class Rank:
    """A rank that makes its calls in the order of sequential mode, each when what it waits for is answered."""

    def __init__(self, number, slices, rounds):
        self.number, self.rounds = number, rounds
        self.progress = Progress(LOOP, 0)
        self.steps = self._steps(slices)
        self.awaited = None
        self.open = set()
        self.done = False

    def _steps(self, slices):
        for number, components in enumerate(slices):
            for position, calls in enumerate(components):
                for what, resource, count, *more in actions(calls):
                    yield what, resource, ((LOOP, number, position), count), *more
                self.progress.finish(number, position)
                yield None

    def step(self):
        made = next(self.steps, "end")
        if made == "end":
            self.progress = Progress(AFTER, 0)
            self.done = True
        elif made is not None:
            what, resource, place, *more = made
            if what == "join":
                rows, waits = more
                self.open.add((resource, place))
                self.rounds.join(self.number, resource, place, rows, waits)
            else:
                waits = (resource, place) in self.open
                self.rounds.wait(self.number, resource, place)
            self.awaited = (resource, place) if waits else None
        self.rounds.proceed(self.number, self.progress.copy())

    def answered(self, key):
        self.open.discard(key)
        if self.awaited == key:
            self.awaited = None


@given(workload=workloads(2, 4), order=st.integers(0, 2**32))
def test_whatever_the_timing_rounds_close_in_the_order_of_sequential_mode(workload, order):
    draw = random.Random(order)
    rounds = Rounds(len(workload))
    ranks = [Rank(number, slices, rounds) for number, slices in enumerate(workload)]
    closed = {"A": [], "B": []}
    while not all(rank.done for rank in ranks):
        able = [rank for rank in ranks if rank.awaited is None and not rank.done]
        assert able, "everybody waits"
        draw.choice(able).step()
        for made in rounds.close():
            closed[made.resource].append((made.place, made.calls))
            for rank in ranks:
                if made.calls[rank.number] is not None:
                    rank.answered((made.resource, made.place))
        rounds.check_invariants()
    assert closed == expected(workload)


def test_a_call_behind_one_that_was_answered_for_a_rank_alone():
    rounds = Rounds(2)
    moment = (LOOP, 0, 1)
    rounds.join(0, "B", (moment, 0), 1)
    rounds.join(1, "A", (moment, 0), 1)
    assert [made.calls for made in rounds.close()] == [(1, None)]  # B, for rank 0 alone
    rounds.join(0, "A", (moment, 0), 1)
    assert [made.calls for made in rounds.close()] == [(1, 1)]
    rounds.join(0, "B", (moment, 1), 2)
    rounds.join(1, "B", (moment, 0), 3, waits=False)
    rounds.proceed(1, Progress(LOOP, 0, [0, 0]))
    assert [made.calls for made in rounds.close()] == [(None, 3), (2, None)]


def test_a_call_that_a_rank_skips_is_answered_when_it_has_passed_the_moment():
    rounds = Rounds(2)
    place = ((LOOP, 0, 1), 0)
    rounds.join(0, "hits", place, 3)
    assert list(rounds.close()) == []
    assert rounds.waiting() == [("hits", place, [1])]
    rounds.proceed(1, Progress(LOOP, 0, [0, 0]))
    (closed,) = rounds.close()
    assert closed.calls == (3, None)
    assert rounds.waiting() == []


def test_ranks_in_different_rounds_wait_for_who_has_not_passed_their_moment():
    """It has joined both rounds, and may wait in either."""
    rounds = Rounds(3)
    moment = (LOOP, 0, 1)
    place = (moment, 0)
    rounds.join(0, "A", place, 1)
    rounds.join(1, "B", place, 2)
    for resource in "AB":
        rounds.join(2, resource, place, 3, waits=False)
    assert list(rounds.close()) == []
    assert rounds.waiting() == [("A", place, [2]), ("B", place, [2])]
    assert rounds.late(["generator", "stage"]) == ["rank 2 to finish generator on slice number 0, for A"]
    rounds.proceed(2, Progress(LOOP, 0, [0, 0]))
    assert [(made.resource, made.calls) for made in rounds.close()] == [("A", (1, None, None))]


def test_a_component_behind_that_uses_the_dataset_on_the_slice_before_comes_first():
    rounds = Rounds(2)
    first, second = ((LOOP, 0, 2), 0), ((LOOP, 1, 1), 0)
    rounds.join(0, "hits", ((LOOP, 0, 2), 0), 5)
    rounds.join(1, "hits", second, 1)  # rank 1 is ahead, and hasn't used it behind on slice 0 up to now
    rounds.proceed(1, Progress(LOOP, 0, [1, 0, -1]))
    rounds.proceed(0, Progress(LOOP, 0, [1, 1, -1]))
    assert list(rounds.close()) == []
    rounds.join(1, "hits", first, 2)
    rounds.proceed(0, Progress(LOOP, 0, [1, 1, 0]))
    rounds.proceed(1, Progress(LOOP, 0, [1, 0, 0]))
    assert [made.place for made in rounds.close()] == [first, second]


def test_a_call_that_comes_too_late_is_refused_with_the_cure():
    rounds = Rounds(2)
    later = ((LOOP, 1, 1), 0)
    for rank in range(2):
        rounds.join(rank, "hits", later, 1)
    assert [made.place for made in rounds.close()] == [later]
    with pytest.raises(OutOfOrder, match="mode: sequential"):
        rounds.join(0, "hits", ((LOOP, 0, 2), 0), 1)


def test_before_and_after_the_loop_all_make_the_call_or_go_on():
    rounds = Rounds(3)
    place = ((BEFORE, 2, 0), 0)
    rounds.join(0, "structure", place, "create")
    rounds.proceed(1, Progress(BEFORE, 3))
    rounds.proceed(2, Progress(BEFORE, 2))
    assert rounds.waiting() == [("structure", place, [2])]
    rounds.join(2, "structure", place, "create")
    (closed,) = rounds.close()
    assert closed.calls == ("create", None, "create")
