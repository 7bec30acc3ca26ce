"""How far a rank is, and where its calls belong."""

from __future__ import annotations

import pytest

from h5flow.ranks.moments import AFTER, BEFORE, LOOP
from h5flow.ranks.own_progress import OwnProgress
from h5flow.ranks.rounds import Progress


@pytest.fixture
def progress():
    return OwnProgress()


def test_calls_of_a_moment_are_counted_by_resource(progress):
    progress.enter(LOOP)
    places = [progress.place(resource, (4, 1)) for resource in "aabab"]
    assert places == [((LOOP, 4, 1), count) for count in (0, 1, 0, 2, 1)]
    assert progress.place("a", (5, 1)) == ((LOOP, 5, 1), 0)
    assert progress.place("a", (4, 2)) == ((LOOP, 4, 2), 0)
    assert progress.place("a", (5, 1)) == ((LOOP, 5, 1), 1)  # another component has called in between


def test_calls_outside_of_the_loop_belong_to_the_call_of_the_method(progress):
    progress.enter(BEFORE)
    assert progress.place("a", None) == ((BEFORE, 0, 0), 0)
    progress.enter(BEFORE)
    assert progress.place("a", None) == ((BEFORE, 1, 0), 0)
    progress.enter(LOOP)
    progress.enter(AFTER)
    assert progress.place("a", None) == ((AFTER, 0, 0), 0)


def test_it_is_told_once_each_time_it_is_wanted(progress):
    progress.enter(LOOP)
    assert progress.told_if_wanted() is None
    progress.want()
    assert progress.told_if_wanted() == Progress(LOOP, 0)
    assert progress.told_if_wanted() is None
    progress.passed(0, 0)
    assert progress.told_if_wanted() is None
    progress.want()
    assert progress.told_if_wanted() == Progress(LOOP, 0, [0], decided=0)


def test_what_is_known_needs_not_be_told(progress):
    progress.enter(LOOP)
    told = progress.told()
    progress.want()
    assert progress.told_if_wanted() is None
    progress.ask(1)
    assert progress.told_if_wanted() == Progress(LOOP, 0, asked=1)
    assert told == Progress(LOOP, 0)


def test_a_generator_without_a_slice_is_done_before_that_is_decided(progress):
    progress.enter(LOOP)
    progress.passed(0, 0)
    assert (progress.next_slice(None), progress.next_slice((7, 0))) == (1, 7)
    progress.finish_generator(1)
    assert progress.told() == Progress(LOOP, 0, [1], decided=0)
    progress.decide(1)
    assert progress.told() == Progress(LOOP, 0, [1], decided=1)
