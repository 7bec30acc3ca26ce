"""The pace of a loop, from states that are made up: the figures are worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.telemetry.events import ActorTotals
from h5flow.telemetry.pace import WINDOW, PaceMaker
from h5flow.telemetry.state import QueueState, RunState


def state(slices, seconds, rows_per_slice=10, queues=(), total=None, loaders=1, **actors):
    return RunState(
        slices=slices,
        rows=rows_per_slice * slices,
        seconds=seconds,
        queues=tuple(queues),
        total=total,
        loaders=loaders,
        actors={name: ActorTotals(**totals) for name, totals in actors.items()},
    )


def test_how_quick_it_is_now_and_not_how_quick_it_was():
    maker = PaceMaker()
    maker.pace(state(0, 0.0, total=1000))
    maker.pace(state(500, 5.0, total=1000))  # 100 a second
    first = maker.pace(state(500, 10.0, total=1000))
    assert (first.slices_per_s, first.rows_per_s) == (50.0, 500.0)
    assert first.left_s == pytest.approx(10.0)
    maker.pace(state(510, 20.0))  # 1 a second
    now = maker.pace(state(520, 30.0, total=1000))
    assert now.slices_per_s == pytest.approx(1.0)
    assert now.left_s == pytest.approx(480.0)
    assert now.share == pytest.approx(0.52)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0.01, 20.0)), min_size=1, max_size=50))
def test_the_window_covers_what_it_says_and_no_more_than_it_has_to(steps):
    maker, slices, seconds, seen = PaceMaker(), 0, 0.0, [(0, 0.0)]
    maker.pace(state(0, 0.0))
    for more, later in steps:
        slices, seconds = slices + more, seconds + later
        seen.append((slices, seconds))
        pace = maker.pace(state(slices, seconds))
        # The latest of the states before this one that is as old as the window, or else the first there is.
        before = [s for s in seen[:-1] if seconds - s[1] >= WINDOW]
        since = before[-1] if before else seen[0]
        assert pace.slices_per_s == pytest.approx((slices - since[0]) / (seconds - since[1]))


def test_nothing_is_known_before_the_first_slice():
    pace = PaceMaker().pace(state(0, 0.0, total=10))
    assert (pace.slices_per_s, pace.left_s, pace.share, pace.bottleneck) == (0.0, None, 0.0, None)
    assert PaceMaker().pace(state(5, 1.0)).share is None
    assert PaceMaker().pace(state(0, 1.0, total=0)).share is None


def test_a_rank_that_has_more_slices_than_its_generator_said_is_done_with_all():
    pace = PaceMaker().pace(state(12, 1.0, total=10))
    assert (pace.share, pace.left_s) == (1.0, 0.0)


def test_who_works_most_of_the_time_is_the_bottleneck():
    maker = PaceMaker()
    maker.pace(state(0, 0.0, slow={}, quick={}))
    pace = maker.pace(state(100, 10.0, slow={"load_s": 1.0, "run_s": 7.0, "write_s": 1.5}, quick={"run_s": 2.0}))
    assert {actor.name: actor.busy for actor in pace.actors} == {"slow": pytest.approx(0.95), "quick": 0.2}
    assert pace.bottleneck == "slow"


def test_who_waits_for_others_does_not_work():
    maker = PaceMaker()
    maker.pace(state(0, 0.0, held={}, other={}))
    pace = maker.pace(state(9, 10.0, held={"run_s": 9.0, "held_s": 8.0}, other={"run_s": 6.0}))
    assert pace.actors[0].busy == pytest.approx(0.1)
    assert pace.bottleneck == "other"


def test_where_all_wait_nobody_is_the_bottleneck():
    maker = PaceMaker()
    maker.pace(state(0, 0.0, one={}, two={}))
    assert maker.pace(state(9, 10.0, one={"run_s": 3.0}, two={"run_s": 4.0})).bottleneck is None


def test_loaders_share_the_work_of_the_prefetcher():
    maker = PaceMaker()
    maker.pace(state(0, 0.0, prefetcher={}, stage={}))
    # What is loaded ahead for a stage is not the stage's work.
    now = state(9, 10.0, loaders=2, prefetcher={"load_s": 10.0}, stage={"prefetch_s": 10.0, "run_s": 7.0})
    pace = maker.pace(now)
    assert {actor.name: actor.busy for actor in pace.actors} == {"prefetcher": 0.5, "stage": pytest.approx(0.7)}
    assert pace.bottleneck == "stage"


def test_queues_belong_to_the_actors_that_fill_them():
    def queue(name, occupancy):
        return QueueState(
            name=name, depth=4, occupancy=occupancy, highest=4, puts=9, gets=9, put_wait=0.0, get_wait=0.0
        )

    queues = [queue("generator", 1), queue("prefetch", 3)]
    pace = PaceMaker().pace(state(9, 1.0, queues=queues, generator={}, prefetcher={}, stage={}))
    assert [(actor.name, actor.occupancy, actor.depth) for actor in pace.actors] == [
        ("generator", 1, 4),
        ("prefetcher", 3, 4),
        ("stage", None, None),
    ]


def test_another_loop_begins_anew():
    maker = PaceMaker()
    maker.pace(state(0, 0.0))
    maker.pace(state(1000, 9.0))
    maker.pace(state(0, 0.0))
    assert maker.pace(state(4, 2.0)).slices_per_s == pytest.approx(2.0)
