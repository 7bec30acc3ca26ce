"""How much may be in flight, and how many slices travel together."""

from hypothesis import given
from hypothesis import strategies as st

from h5flow.runtime.batches import Batches
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


class Clock:
    """Runs slices of which each takes so long, overlapping or in turn."""

    def __init__(self):
        self.batches = Batches()
        self.now = 0.0
        self.ways = []

    def warm_up(self, work):
        for _ in range(3):
            self.now += work
            self.batches.note(work, 1, self.now, single=True)

    def run(self, seconds, *, overlapping, in_turn):
        end = self.now + seconds
        while self.now < end:
            alone, size = self.batches.alone, self.batches.size
            each = in_turn if alone else overlapping
            self.now += size * each
            self.batches.note(size * (in_turn if alone else 2 * in_turn), size, self.now)
            self.ways.append((self.now, size * each, alone))
            if alone and not self.batches.alone:
                self.warm_up(in_turn)

    def share_alone(self):
        """Of the time."""
        return sum(each for _, each, alone in self.ways if alone) / sum(each for _, each, _ in self.ways)


def test_cheap_slices_travel_together():
    clock = Clock()
    assert not clock.batches.alone
    clock.warm_up(50e-6)
    clock.run(1, overlapping=20e-6, in_turn=50e-6)
    assert clock.batches.alone
    assert 100 <= clock.batches.size <= 256
    assert clock.share_alone() > 0.99


def test_they_part_when_they_get_dear():
    clock = Clock()
    clock.warm_up(50e-6)
    clock.run(1, overlapping=20e-6, in_turn=50e-6)
    clock.run(1, overlapping=10e-3, in_turn=20e-3)
    clock.ways.clear()
    clock.run(60, overlapping=10e-3, in_turn=20e-3)
    assert not clock.batches.alone
    assert clock.batches.size == 1
    assert clock.share_alone() < 0.05


def test_slices_that_overlapping_makes_slower_go_in_batches():
    clock = Clock()
    clock.warm_up(1.4e-3)
    clock.run(60, overlapping=3.1e-3, in_turn=1.4e-3)
    assert clock.batches.alone
    assert 5 <= clock.batches.size <= 8
    assert clock.share_alone() > 0.95
    clock.run(200, overlapping=0.7e-3, in_turn=1.4e-3)  # the load has changed
    assert not clock.batches.alone


def test_what_overlaps_well_is_left_to():
    clock = Clock()
    clock.warm_up(40e-3)
    clock.run(60, overlapping=21e-3, in_turn=40e-3)
    assert clock.share_alone() == 0


def test_one_long_stage_loses_little_by_the_comparison():
    clock = Clock()
    clock.warm_up(10.5e-3)
    clock.run(120, overlapping=10.2e-3, in_turn=10.5e-3)
    best = 120 / 10.2e-3
    assert len(clock.ways) > 0.97 * best
