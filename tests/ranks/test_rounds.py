"""In which order collective calls happen, decided without MPI."""

from __future__ import annotations

import collections
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.ranks.moments import AFTER, BEFORE, LOOP
from h5flow.ranks.rounds import OutOfOrder, Progress, Rounds

#: For each rank, slice and component: how many rows of which dataset it reserves in each of its calls, and whether it
#: waits for the answer at once, or just before a call later, or not at all.
CALLS = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 3), st.sampled_from([0, 1, None])), max_size=3)


def actions(calls):
    """What a component does in order: `("join", resource, count, rows, waits)` and `("wait", resource, count)`."""
    counts, late = collections.Counter(), []
    for resource, rows, when in calls:
        key = (resource, counts[resource])
        counts[resource] += 1
        yield ("join", *key, rows, when == 0)
        for earlier in late:
            yield ("wait", *earlier)
        late = [key] if when == 1 else []
    for earlier in late:
        yield ("wait", *earlier)


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


@given(
    workload=st.integers(2, 4).flatmap(
        lambda ranks: st.lists(
            st.lists(st.lists(CALLS, min_size=2, max_size=2), min_size=3, max_size=3), min_size=ranks, max_size=ranks
        )
    ),
    order=st.integers(0, 2**32),
)
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
    assert closed == expected(workload)


def expected(workload):
    """Moment by moment: a call is answered when all have made it or are done, else the lowest that waits is alone."""
    rounds = {"A": [], "B": []}
    for number, position in itertools.product(range(3), range(2)):
        left = [collections.deque(actions(slices[number][position])) for slices in workload]
        awaited, calls, last = [None] * len(left), {}, {}

        def answer(key, ranks, moment=(LOOP, number, position), awaited=awaited, calls=calls):
            answers = [calls[key].pop(rank) if rank in ranks else None for rank in range(len(workload))]
            rounds[key[0]].append(((moment, key[1]), tuple(answers)))
            for rank in ranks:
                awaited[rank] = None if awaited[rank] == key else awaited[rank]
            if not calls[key]:
                del calls[key]

        while any(left) or calls:
            for rank, todo in enumerate(left):
                while todo and awaited[rank] is None:
                    (
                        what,
                        *key,
                    ) = todo.popleft()
                    key, more = tuple(key[:2]), key[2:]
                    if what == "join":
                        calls.setdefault(key, {})[rank] = more[0]
                        last[rank, key[0]] = key[1]
                    if more[1:] == [True] or (what == "wait" and rank in calls.get(key, {})):
                        awaited[rank] = key
            made_or_done = [
                key
                for key, made in sorted(calls.items())
                if all(
                    rank in made or not (left[rank] or awaited[rank]) or last.get((rank, key[0]), -1) > key[1]
                    for rank in range(len(left))
                )
                and key == min(other for other in calls if other[0] == key[0])
            ]
            if made_or_done:
                answer(made_or_done[0], list(calls[made_or_done[0]]))
            elif any(awaited):
                lowest = next(rank for rank, key in enumerate(awaited) if key)
                answer(awaited[lowest], [lowest])
    return rounds


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
