"""When slices overlap: where it promises something, and the clock agrees."""

from __future__ import annotations

import pytest

from h5flow.runtime.batches import Batches


class Clock:
    """Runs slices of which each takes so long, overlapping or in turn."""

    def __init__(self, need=0.0, longest=0.0):
        self.batches = Batches()
        self.need, self.longest = need, longest
        self.now = 0.0
        self.ways = []

    def note(self, seconds, slices, single=False):
        longest = self.longest * seconds
        self.batches.note(seconds, slices, self.now, longest=longest, need=self.need, single=single)

    def warm_up(self, work):
        for _ in range(3):
            self.now += work
            self.note(work, 1, single=True)

    def run(self, seconds, *, overlapping, in_turn):
        end = self.now + seconds
        while self.now < end:
            alone, size = self.batches.alone, self.batches.size
            each = in_turn if alone else overlapping
            self.now += size * each
            self.note(size * (in_turn if alone else 2 * in_turn), size)
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
    assert 200 <= clock.batches.size <= 214
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


@pytest.mark.parametrize(
    ("need", "longest"), [(1.0, 0.3), (0.8, 0.3), (0.5, 0.9), (None, 0.0)], ids=["python", "much", "one", "not known"]
)
def test_what_promises_nothing_is_never_tried(need, longest):
    """Stages of Python, one stage that takes nearly all the time, or what nobody knows anything of yet."""
    clock = Clock(need, longest)
    clock.warm_up(50e-3)
    clock.run(60, overlapping=100e-3, in_turn=50e-3)
    assert clock.share_alone() == 1


def test_what_comes_to_wait_overlaps_then():
    clock = Clock(need=1.0)
    clock.warm_up(50e-3)
    clock.run(10, overlapping=50e-3, in_turn=50e-3)
    clock.need = 0.1
    clock.ways.clear()
    clock.run(10, overlapping=30e-3, in_turn=50e-3)
    assert clock.share_alone() < 0.1


def test_a_promise_that_does_not_hold_costs_little():
    """Forty slices of which eight are tried."""
    clock = Clock(need=0.2, longest=0.4)
    clock.warm_up(50e-3)
    clock.run(37 * 50e-3, overlapping=55e-3, in_turn=50e-3)
    assert sum(not alone for _, _, alone in clock.ways) <= 9


def test_where_threads_compete_a_trial_waits_until_it_is_a_small_part_of_the_run():
    """Forty slices that it would make slower never meet with it; what it makes quicker does so later."""
    clock = Clock(need=0.4, longest=0.4)
    clock.warm_up(50e-3)
    clock.run(37 * 50e-3, overlapping=65e-3, in_turn=50e-3)
    assert clock.share_alone() == 1
    clock.run(120, overlapping=30e-3, in_turn=50e-3)
    assert clock.share_alone() < 0.1


def test_trials_that_fail_where_threads_compete_are_a_small_part_of_long_runs():
    clock = Clock(need=0.4, longest=0.4)
    clock.warm_up(0.5)
    clock.run(1000, overlapping=0.6, in_turn=0.5)
    assert 0.94 < clock.share_alone() < 1


def test_slices_come_one_by_one_until_something_is_known_of_them():
    clock = Clock(need=None)
    clock.warm_up(10e-3)
    clock.run(1, overlapping=5e-3, in_turn=10e-3)
    assert clock.batches.size == 1
    clock.need = 0.1
    clock.run(0.05, overlapping=5e-3, in_turn=10e-3)
    assert not clock.batches.alone
