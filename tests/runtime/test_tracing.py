"""What the hazards are told of what components do, when slices go in turn and when they overlap."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from h5flow.runtime.hazards import Claim, Hazards
from h5flow.runtime.task_context import TaskContext, entered
from h5flow.runtime.tracing import Tracer

NAMES = ["generator 'g'", "stage 'a'", "stage 'b'"]


def tracer_of(names, *, several=False):
    ranks = SimpleNamespace(several=several, passed=lambda number, position: None)
    return Tracer(Hazards(names, "/raw/data"), threading.Condition(), ranks)


@pytest.fixture
def tracer():
    made = tracer_of(NAMES)
    made.start()
    made.begin(5, slice(50, 60))
    return made


def at(position, number=5):
    return entered(TaskContext(position, (number, position)))


@pytest.mark.parametrize("in_turn", [True, False])
def test_who_does_what_is_learned_in_either_case(tracer, in_turn):
    """Of slices in turn as well, since they may overlap later."""
    tracer.take_turns(in_turn)
    with at(1):
        tracer.read("/far/data", (0, 10))
        tracer.read("/near/data", (50, 60))
        tracer.append("/new/data", 0, 3)
    with at(2):
        tracer.update("/far/data", np.array([3, 1, 3]))
        tracer.update("/near/data", np.arange(59, 49, -1))
    claimed = tracer.hazards.claimed
    assert claimed("/far/data", Claim.FAR_READ) == [1]
    assert claimed("/near/data", Claim.READ) == [1]
    assert claimed("/near/data", Claim.FAR_READ) == []
    assert claimed("/new/data", Claim.APPEND) == [1]
    assert claimed("/far/data", Claim.FAR_UPDATE) == [2]
    assert claimed("/near/data", Claim.UPDATE) == [2]
    assert claimed("/near/data", Claim.FAR_UPDATE) == []


def test_slices_in_turn_see_all_there_is_and_leave_nothing_behind(tracer):
    tracer.take_turns(True)
    with at(2):
        tracer.append("/new/data", 0, 3)
        tracer.read("/new/data", None)
        tracer.update("/new/data", (0, 3))
    with at(1, number=6):
        assert tracer.length("/new/data", 3) == 3
    assert tracer.hazards.used_after((5, 2)) is None


def test_what_slices_in_turn_read_for_a_requirement_is_known(tracer):
    tracer.take_turns(True)
    context = TaskContext(1, (5, 1), footprint=set())
    with entered(context):
        tracer.read("/far/data", (0, 10))
        tracer.counted("/near/data")
    assert context.footprint == {"/far/data", "/near/data"}


def test_slices_of_other_ranks_are_never_in_turn_with_those_of_this_one():
    tracer = tracer_of(NAMES, several=True)
    tracer.take_turns(True)
    assert not tracer.in_turn


@pytest.mark.parametrize(("users", "alone"), [([], True), ([1], True), ([0, 1], False)])
def test_a_single_stage_that_nobody_shares_the_file_with_is_left_alone(users, alone):
    tracer = tracer_of(NAMES[:2])
    for position in users:
        with at(position):
            tracer.read("/raw/data", (0, 3))
    tracer.take_turns(True)
    assert not tracer.leaves_alone  # what it does is not known yet
    tracer.run_singly(False)
    tracer.take_turns(True)
    assert tracer.leaves_alone is alone
    tracer.take_turns(False)
    assert not tracer.leaves_alone


@pytest.mark.parametrize(
    ("rows", "own"), [([50, 51, 52], True), ([52, 50, 51, 50], True), ([50, 52], True), ([49, 50], False), ([], True)]
)
def test_rows_in_any_order_are_those_that_they_are(tracer, rows, own):
    tracer.take_turns(False)
    with at(1):
        tracer.update("/raw/data", np.array(rows, "i8"))
    claim = Claim.UPDATE if own else Claim.FAR_UPDATE
    assert tracer.hazards.claimed("/raw/data", claim) == [1]
