"""How much may be in flight, and how many slices travel together."""

from hypothesis import given
from hypothesis import strategies as st

from h5flow.runtime.budget import Budget


def test_slices():
    budget = Budget(slices=2)
    for number in range(2):
        assert budget.admits()
        budget.enter(number)
    assert not budget.admits()
    budget.leave(0)
    assert budget.admits()


def test_one_slice_over_the_budget_passes():
    budget = Budget(size=100)
    budget.enter(0)
    assert budget.may_load(0)
    budget.charge(0, 500)
    assert not budget.admits()
    assert budget.bytes == 500
    budget.leave(0)
    assert budget.admits()
    budget.enter(1)
    budget.enter(2)
    assert budget.may_load(1), "nobody else can make room for the oldest one"
    assert not budget.may_load(2), "it is expected to be as large as the one before"


@given(st.lists(st.integers(1, 150), min_size=1, max_size=40), st.integers(50, 400))
def test_no_more_than_the_budget_and_one_slice_is_ever_charged(sizes, limit):
    budget, waiting, loaded = Budget(size=limit), list(enumerate(sizes)), []
    while waiting or loaded:
        if waiting and budget.admits():
            number, size = waiting.pop(0)
            budget.enter(number)
            if budget.may_load(number):
                budget.charge(number, size)
            loaded.append(number)
            assert budget.bytes <= limit + max(sizes)
        else:
            budget.leave(loaded.pop(0))
    assert budget.bytes == 0
    assert budget.in_flight == 0
