"""The decisions about order, without loop, file or threads."""

import numpy as np
import pytest

from h5flow.data.resource import Resource
from h5flow.runtime.hazards import HOW_MANY, Claim, Conflict, Hazards, Prefetched

GENERATOR, FIRST, SECOND, THIRD = range(4)
RAW, HITS = Resource("rows", "/raw/data"), Resource("rows", "/hits/data")


@pytest.fixture
def hazards():
    made = Hazards(["generator 'gen'", "stage 'first'", "stage 'second'", "stage 'third'"], RAW)
    for number in range(4):
        made.begin(number, 10 * number, 10 * number + 10)
    return made


def finish(hazards, number, *positions):
    for position in positions:
        hazards.finish((number, position))


class TestVisibleLength:
    def test_what_later_moments_append_is_not_seen(self, hazards):
        for number in range(3):
            hazards.append((number, FIRST), HITS, 5 * number, 5)
        assert hazards.length((0, SECOND), HITS, 15) == 5
        assert hazards.length((1, GENERATOR), HITS, 15) == 5
        assert hazards.length((1, FIRST), HITS, 15) == 10
        assert hazards.length((7, GENERATOR), HITS, 15) == 15

    def test_before_the_first_append(self, hazards):
        hazards.append((2, FIRST), HITS, 7, 5)
        assert hazards.length((1, THIRD), HITS, 12) == 7

    def test_what_has_been_created_later_is_not_there(self, hazards):
        hazards.create((2, FIRST), Resource("existence", "/new"))
        assert not hazards.exists((1, THIRD), Resource("existence", "/new"))
        assert hazards.exists((2, FIRST), Resource("existence", "/new"))

    def test_it_holds_when_what_is_old_is_forgotten(self, hazards):
        for number in range(500):
            hazards.append((number, FIRST), HITS, 5 * number, 5)
            if number > 2:
                finish(hazards, number - 3, *range(4))
                assert hazards.length((number - 2, SECOND), HITS, 5 * number + 5) == 5 * (number - 1)


class TestWaiting:
    """`awaited` for the second slice; what a component does is known from the first one."""

    def test_nobody_waits_for_what_nobody_writes(self, hazards):
        hazards.read((0, SECOND), HITS, (0, 3))
        assert hazards.awaited((1, FIRST), HITS, Claim.READ, (0, 3)) is None

    def test_readers_wait_for_later_writers(self, hazards):
        hazards.append((0, SECOND), HITS, 0, 3)
        for rows in (HOW_MANY, None):
            assert hazards.awaited((1, FIRST), HITS, Claim.READ, rows) == (0, SECOND)
            assert hazards.awaited((1, THIRD), HITS, Claim.READ, rows) is None
        assert hazards.awaited((1, FIRST), HITS, Claim.READ, (0, 3)) is None, "rows that are there don't change"
        finish(hazards, 0, SECOND)
        assert hazards.awaited((1, FIRST), HITS, Claim.READ, None) is None

    def test_appends_wait_for_later_appends(self, hazards):
        hazards.append((0, THIRD), HITS, 0, 3)
        assert hazards.awaited((1, FIRST), HITS, Claim.APPEND, None) == (0, THIRD)
        assert hazards.awaited((1, THIRD), HITS, Claim.APPEND, None) is None

    def test_updates_of_own_rows_keep_nobody_waiting(self, hazards):
        hazards.update((0, SECOND), RAW, (0, 10))
        assert hazards.awaited((1, FIRST), RAW, Claim.READ, (10, 20)) is None
        assert hazards.awaited((1, FIRST), RAW, Claim.READ, (9, 20)) == (0, SECOND)

    def test_updates_of_other_rows_do(self, hazards):
        hazards.update((1, SECOND), RAW, (0, 10))
        assert hazards.awaited((2, FIRST), RAW, Claim.READ, (20, 30)) == (1, SECOND)
        assert hazards.awaited((2, FIRST), RAW, Claim.UPDATE, (20, 30)) == (1, SECOND)

    def test_updates_wait_for_readers_that_look_back(self, hazards):
        hazards.read((1, SECOND), RAW, np.array([3, 12]))
        assert hazards.awaited((2, FIRST), RAW, Claim.UPDATE, (20, 30)) == (1, SECOND)

    def test_rows_that_the_slice_has_appended_are_its_own(self, hazards):
        hazards.update((1, SECOND), HITS, (0, 2))
        hazards.append((2, FIRST), HITS, 50, 5)
        assert hazards.awaited((2, FIRST), HITS, Claim.READ, (50, 55)) == (1, SECOND), "others look far"
        finish(hazards, 1, SECOND)
        hazards.update((2, SECOND), HITS, (51, 52))
        assert hazards.claimed(HITS, Claim.UPDATE) == [SECOND]

    def test_rows_of_a_table_belong_to_the_slice_that_has_appended_the_rows_of_its_dataset(self, hazards):
        region = Resource("rows", "/hits/ref/raw/ref_region")
        hazards.same_rows(region, HITS)
        hazards.append((1, FIRST), HITS, 50, 5)
        hazards.update((1, FIRST), region, (50, 55))
        assert hazards.claimed(region, Claim.FAR_UPDATE) == []
        hazards.update((1, FIRST), region, (49, 55))
        assert hazards.claimed(region, Claim.FAR_UPDATE) == [FIRST]

    def test_slices_that_overlap_own_no_rows(self):
        hazards = Hazards(["generator", "stage"], RAW)
        hazards.begin(0, 0, 10)
        hazards.begin(1, 5, 15)
        hazards.read((1, 1), RAW, (5, 15))
        assert hazards.claimed(RAW, Claim.FAR_READ) == [1]
        hazards.finish((0, 1))
        hazards.finish((1, 1))
        hazards.begin(2, 15, 25)
        hazards.update((2, 1), RAW, (15, 25))
        assert hazards.claimed(RAW, Claim.FAR_UPDATE) == [], "the others are done"


class TestChecking:
    def test_a_write_that_a_later_slice_has_missed(self, hazards):
        hazards.read((2, FIRST), RAW, (0, 30))
        with pytest.raises(Conflict) as raised:
            hazards.update((1, THIRD), RAW, np.array([4, 40]))
        assert str(raised.value) == (
            "stage 'third' writes 'raw' on slice number 1, which stage 'first' has read on slice number 2 already;"
            " run this workflow with runtime.mode: sequential"
        )

    def test_a_read_that_comes_after_a_later_write(self, hazards):
        hazards.update((2, FIRST), RAW, (4, 5))
        with pytest.raises(Conflict, match="stage 'third' reads 'raw' on slice number 1, which stage 'first' has ch"):
            hazards.read((1, THIRD), RAW, None)
        hazards.read((1, THIRD), RAW, (5, 9))
        hazards.read((2, SECOND), RAW, (4, 5))

    def test_appends_in_the_wrong_order(self, hazards):
        hazards.append((2, FIRST), HITS, 0, 1)
        with pytest.raises(Conflict, match="'third' appends to 'hits' on slice number 1, which stage 'first' has app"):
            hazards.append((1, THIRD), HITS, 1, 1)

    def test_whoever_has_counted_rows_has_missed_those_that_come(self, hazards):
        hazards.read((2, FIRST), HITS, HOW_MANY)
        with pytest.raises(Conflict):
            hazards.append((1, SECOND), HITS, 3, 1)

    def test_rows_that_were_there_do_not_change_by_growing(self, hazards):
        hazards.read((2, FIRST), HITS, (0, 3))
        hazards.append((1, SECOND), HITS, 3, 1)

    def test_prefetched_values_become_stale(self, hazards):
        early, other = Prefetched(1), Prefetched(2)
        hazards.read((2, FIRST), RAW, (20, 30), early)
        hazards.read((2, FIRST), RAW, (20, 30), other)
        other.accepted = True
        with pytest.raises(Conflict):
            hazards.update((1, SECOND), RAW, (25, 26))
        assert early.stale
        assert not other.stale

    def test_prefetched_values_that_saw_too_much(self, hazards):
        hazards.update((2, GENERATOR), RAW, (0, 1))
        late = Prefetched(1)
        hazards.read((1, FIRST), RAW, (0, 5), late)
        assert late.stale

    def test_look_ups_may_miss_what_is_in_order(self, hazards):
        region = Resource("rows", "/raw/ref/hits/ref_region")
        hazards.update((2, FIRST), region, (0, 5), in_order=True)
        hazards.read((1, THIRD), region, (0, 5), as_lookup=True)
        with pytest.raises(Conflict):
            hazards.read((1, THIRD), region, (0, 5))

    def test_attributes(self, hazards):
        hazards.update((2, FIRST), Resource("attributes", "hits"), None)
        with pytest.raises(Conflict, match="reads the attributes of 'hits'"):
            hazards.read((1, SECOND), Resource("attributes", "hits"), None)

    def test_everything(self, hazards):
        assert hazards.others_before((0, SECOND)) is None
        assert hazards.others_before((1, FIRST)) == (0, SECOND)
        finish(hazards, 0, *range(4))
        assert hazards.others_before((1, FIRST)) is None
        assert hazards.used_after((1, FIRST)) is None
        hazards.append((2, GENERATOR), RAW, 20, 10)
        assert hazards.used_after((1, FIRST)) == "'raw'"


def test_memory_does_not_grow_with_slices():
    hazards = Hazards(["generator", "stage"], RAW)
    for number in range(5000):
        hazards.append((number, 0), RAW, number, 1)
        hazards.begin(number, number, number + 1)
        hazards.update((number, 1), RAW, (max(0, number - 1), number))
        hazards.read((number, 1), RAW, None)
        hazards.finish((number, 0))
        hazards.finish((number, 1))
    kept = hazards._resources[RAW]
    assert max(len(kept.reads), len(kept.updates), len(kept.grown_at), len(hazards._own)) <= 64
