"""What is said of runs whose moments are known."""

from __future__ import annotations

import pytest

from h5flow.report import judged, read_run
from support.by_hand import ByHand, stage, steady, totals


def verdict_of(log):
    return judged(read_run(str(log.write())))


def loop_of(log):
    (loop,) = verdict_of(log).loops
    return loop


def test_a_stage_that_is_at_work_nearly_all_of_the_time_limits(tmp_path):
    log = steady(tmp_path, spans={"x": {"run": 0.09, "load": 0.005}, "y": {"run": 0.03}}, stages=("x", "y"))
    loop = loop_of(log.done(1.0).end(1.0))
    assert (loop.limit.kind, loop.limit.actor) == ("stage", "x")
    assert loop.limit.share == pytest.approx(0.95, abs=0.001)
    assert (
        loop.sentences[0]
        == "Stage 'x' limited this run: it was at work 95 % of the time, and the others waited for it."
    )
    # 0.95 of the time against 0.3 of it.
    assert "Next is stage 'y' with 30 %" in loop.sentences[1]
    assert "3.2 times as fast" in loop.sentences[1]
    assert any("split in two" in advice for advice in loop.advice)
    # Ten times 5 ms are loaded, and ten times 120 ms worked, in a second.
    assert (loop.loading_s, loop.computing_s) == (pytest.approx(0.05), pytest.approx(1.2))
    assert loop.overlap == pytest.approx(1.25, rel=0.001)


@pytest.mark.parametrize(("processor", "less"), [(None, False), (0.1, False), (0.95, True)])
def test_overlap_is_the_most_there_may_be_where_processors_are_busy(tmp_path, processor, less):
    log = steady(tmp_path, spans={"x": {"run": 0.09}, "y": {"run": 0.06}}, stages=("x", "y"))
    loop = loop_of(log.done(1.0, processor=processor).end(1.0))
    assert any("up to 1.5 times as fast" in sentence for sentence in loop.sentences)
    assert any("processors worked for 950 ms" in sentence for sentence in loop.sentences) is less


def test_loaders_that_are_all_at_work_limit(tmp_path):
    log = ByHand(tmp_path).begin()
    for number in range(10):
        began = 0.1 * number
        stages = {"x": stage(began + 0.19, run=0.03, prefetch=0.19)}
        log.slice(number, began, began + 0.23, stages, prefetch_began=began, prefetch=0.19)
    loop = loop_of(log.done(1.13).end(1.13))
    # Ten times 190 ms on two threads, in 1.13 s.
    assert loop.limit.kind == "loading"
    assert loop.limit.actor == "prefetcher"
    assert loop.limit.share == pytest.approx(1.9 / 2 / 1.13, abs=0.001)
    assert loop.sentences[0].startswith("Loading ahead limited this run: its 2 threads were at work 84 %")
    assert any("runtime.loaders: 4 (now 2)" in advice for advice in loop.advice)
    assert any("raw_chunks" in advice for advice in loop.advice)
    # Stage x is at work for 30 ms a slice, while others are loaded, but for the last one.
    assert loop.hidden == pytest.approx(9 * 0.03 / 1.09, abs=0.01)


@pytest.mark.parametrize(
    ("spans", "kind", "words", "advice"),
    [
        ({"load": 0.08, "run": 0.01}, "loading", "Loading for stage 'x' limited", "put into the cache"),
        ({"write": 0.07, "run": 0.02}, "writing", "Writing in stage 'x' limited", "compression"),
    ],
)
def test_what_a_stage_mostly_does_is_said(tmp_path, spans, kind, words, advice):
    loop = loop_of(steady(tmp_path, spans={"x": spans}).done(1.0).end(1.0))
    assert (loop.limit.kind, loop.limit.actor) == (kind, "x")
    assert loop.limit.share == pytest.approx(0.9, abs=0.001)
    assert loop.sentences[0].startswith(words)
    assert any(advice in each for each in loop.advice)


@pytest.mark.parametrize(
    ("actor", "seconds", "kind", "words", "advice"),
    [
        ("committer", {"write_s": 0.8}, "writing", "Writing in the committer limited", "compression"),
        ("generator", {"run_s": 0.8}, "generator", "The generator limited", "to a first stage"),
        ("generator", {"write_s": 0.8}, "writing", "Writing in the generator limited", "compression"),
    ],
)
def test_those_that_are_no_stages_may_limit(tmp_path, actor, seconds, kind, words, advice):
    log = steady(tmp_path, spans={"x": {"run": 0.02}})
    loop = loop_of(log.done(1.0, spent={"x": totals(run_s=0.2), actor: totals(**seconds)}).end(1.0))
    assert (loop.limit.kind, loop.limit.actor) == (kind, actor)
    assert loop.sentences[0].startswith(words)
    assert any(advice in each for each in loop.advice)


def test_waiting_is_no_work(tmp_path):
    """Nine tenths of what the stage has spent it waited for another component to go first."""
    loop = loop_of(steady(tmp_path, spans={"x": {"run": 0.09, "held": 0.08}}).done(1.0).end(1.0))
    assert (loop.limit.kind, loop.limit.actor) == ("order", "x")
    assert loop.limit.share == pytest.approx(0.8)
    assert "waited 80 % of the time until others had done their part" in loop.sentences[0]
    assert any("datasets of their own" in advice for advice in loop.advice)
    assert loop.overlap == pytest.approx(0.1)


def test_sequential_mode_says_what_pipelining_could_win(tmp_path):
    spans = {"x": {"load": 0.03, "run": 0.03}, "y": {"run": 0.04}}
    log = steady(tmp_path, spans=spans, stages=("x", "y"), mode="sequential", loaders=0)
    loop = loop_of(log.done(1.0).end(1.0))
    assert loop.limit.kind == "sequential"
    # 0.1 s a slice in all, and 0.04 of its longest part.
    assert "up to 2.5 times as fast, and stage 'y' would limit it, which took 40 %" in loop.sentences[0]
    assert "runtime.mode: pipelined, in which this could be up to 2.5 times as fast" in loop.advice


def test_sequential_mode_is_not_blamed_where_one_stage_is_all(tmp_path):
    log = steady(tmp_path, spans={"x": {"run": 0.099}}, mode="sequential", loaders=0)
    loop = loop_of(log.done(1.0).end(1.0))
    assert loop.sentences[0].startswith("Stage 'x' limited this run: it took 99 % of the time.")
    assert not any("runtime.mode" in advice for advice in loop.advice)


def test_why_slices_go_one_at_a_time_is_said_with_the_cure(tmp_path):
    reason = "stage 'x' and stage 'y' draw from the same random generator; with runtime.random: per-stage they overlap"
    log = steady(tmp_path, spans={"x": {"run": 0.09}})
    log.tell("slices.serialized", 0.3, level="warning", message=reason, reason=reason)
    verdict = verdict_of(log.done(1.0).end(1.0))
    (loop,) = verdict.loops
    assert loop.limit.kind == "serialized"
    assert reason in loop.sentences[0]
    assert any("runtime.random: per-stage" in advice for advice in loop.advice)


def test_small_slices_and_few_ones_can_not_overlap(tmp_path):
    small = loop_of(
        steady(
            tmp_path / "small", count=50, period=1e-4, spans={"x": {"run": 6e-5}, "y": {"run": 3e-5}}, stages=("x", "y")
        )
        .done(5e-3, slices=50)
        .end(5e-3)
    )
    assert small.limit.kind == "in turn"
    assert small.sentences[0].startswith("Slices were too small to overlap: one takes 90 µs")
    assert any("chunk_size" in advice for advice in small.advice)
    few = loop_of(steady(tmp_path / "few", count=3, spans={"x": {"run": 0.09}}).done(0.3, slices=3).end(0.3))
    assert few.limit.kind == "in turn"
    assert "too few to overlap: the first 3 run one at a time, and there were 3" in few.sentences[0]


def test_slices_that_take_turns_point_to_the_interpreter(tmp_path):
    spans = {"x": {"run": 0.05}, "y": {"run": 0.045}}
    loop = loop_of(steady(tmp_path, count=50, spans=spans, stages=("x", "y")).done(5.0, slices=50).end(5.0))
    assert loop.limit.kind == "in turn"
    assert "interpreter" in loop.sentences[0]


def test_a_long_start_limits_a_short_run(tmp_path):
    log = ByHand(tmp_path).begin()
    log.tell(
        "component.init",
        3.0,
        component="stage 'x'",
        classname="X",
        module="m",
        version="1",
        place="w.yaml:3",
        seconds=2.5,
    )
    for number in range(10):
        log.slice(number, 3 + 0.1 * number, 3.1 + 0.1 * number, {"x": stage(3 + 0.1 * number, run=0.09)})
    loop = loop_of(log.done(4.0).end(4.0))
    assert loop.limit.kind == "start"
    assert loop.limit.share == pytest.approx(0.75, abs=0.01)
    assert "3 s before the first slice, 2.5 s of it in the init of stage 'x'" in loop.sentences[0]
    assert "a quicker init of stage 'x'" in loop.advice


def test_nobody_is_blamed_where_nobody_is_at_work(tmp_path):
    loop = loop_of(steady(tmp_path, spans={"x": {"run": 0.01}}).done(1.0).end(1.0))
    assert loop.limit.kind == "nobody"
    assert "stage 'x' most, 10 % of the time" in loop.sentences[0]


def test_values_that_are_loaded_again_and_again_are_told(tmp_path):
    log = steady(tmp_path, spans={"x": {"run": 0.09}})
    log.tell("requirement.late", 0.5, requirement="hits", message="")
    loop = loop_of(log.done(1.0, reloads=9).end(1.0))
    assert any(sentence.startswith("9 values had changed") for sentence in loop.sentences)
    assert any("'hits' changed each time" in sentence for sentence in loop.sentences)


def several(folder, works, waits, rows=(10, 10, 10)):
    for rank, (work, wait, count) in enumerate(zip(works, waits, rows, strict=True)):
        log = ByHand(folder, rank, len(works)).begin()
        for number in range(10):
            at = 0.1 * number
            log.slice(number, at, at + 0.1, {"x": stage(at, run=work, write=wait + 0.001)}, rows=count)
        spent = {"x": totals(run_s=10 * work, write_s=10 * (wait + 0.001))}
        log.done(1.0, spent=spent, ranks_wait={"x": 10 * wait}).end(1.0)
        log.write()
    return log


def test_a_slow_rank_is_named(tmp_path):
    loop = loop_of(several(tmp_path, (0.05, 0.05, 0.09), (0.04, 0.04, 0.0)))
    assert (loop.limit.kind, loop.limit.rank, loop.limit.actor) == ("rank", 2, "x")
    assert loop.limit.share == pytest.approx(0.4)
    assert "Rank 2 limited this run: stage 'x' was at work there 1.8 times as long" in loop.sentences[0]
    assert "they waited 40 % of the time" in loop.sentences[0]
    assert any("node2" in advice for advice in loop.advice)
    # 51 ms and twice 51, 91 ms of work a slice on three ranks.
    assert loop.overlap == pytest.approx((0.051 + 0.051 + 0.091) / 0.3, rel=0.01)


def test_a_rank_without_an_end_is_told(tmp_path):
    """One of three was killed, and its log has no end."""
    log = several(tmp_path, (0.09, 0.09, 0.09), (0.0, 0.0, 0.0))
    log.lines = log.lines[:-2]
    verdict = verdict_of(log)
    assert verdict.status == "incomplete"
    assert verdict.outcome.startswith("Rank 2 has no end")


def test_a_rank_with_more_rows_should_have_less(tmp_path):
    loop = loop_of(several(tmp_path, (0.05, 0.09, 0.05), (0.04, 0.0, 0.04), rows=(10, 18, 10)))
    assert loop.limit.rank == 1
    assert any("180 rows, others 100" in advice for advice in loop.advice)


def test_ranks_that_wait_for_each_other_in_turn(tmp_path):
    loop = loop_of(several(tmp_path, (0.05, 0.05, 0.05), (0.04, 0.045, 0.04)))
    assert loop.limit.kind == "ranks"
    assert "they waited 40 % of the time" in loop.sentences[0]


def test_ranks_that_do_not_wait_are_judged_by_their_actors(tmp_path):
    loop = loop_of(several(tmp_path, (0.09, 0.095, 0.09), (0.0, 0.0, 0.0)))
    assert (loop.limit.kind, loop.limit.actor, loop.limit.rank) == ("stage", "x", 1)
    assert "on rank 1" in loop.sentences[0]


def test_how_a_run_ended_is_said(tmp_path):
    log = steady(tmp_path / "killed", spans={"x": {"run": 0.09}})
    killed = verdict_of(log)
    assert killed.status == "incomplete"
    assert killed.outcome == "The run has no end: it is at work, or was killed. It was last heard of after 1 s."
    assert killed.loops[0].limit.actor == "x"
    log = steady(tmp_path / "stopped", spans={"x": {"run": 0.09}})
    log.tell(
        "run.stopped", 1.0, level="warning", message="", signal="SIGTERM", at_once=False, progress="after 10 slices"
    )
    stopped = verdict_of(log)
    assert (stopped.status, stopped.outcome) == ("stopped", "Stopped by SIGTERM after 10 slices.")
    log = steady(tmp_path / "failed", spans={"x": {"run": 0.09}})
    told = {"error": "stage 'x' (w.yaml:3), rank 0, slice 100:110: ValueError: bad", "kind": "ValueError"}
    told |= {"component": "stage 'x'", "place": "w.yaml:3", "slice_index": 10, "start": 100, "stop": 110}
    log.tell("run.failed", 1.2, level="error", message="", **told, requirement=None, traceback="Traceback: bad")
    failed = verdict_of(log)
    assert failed.status == "failed"
    assert failed.outcome == f"Failed after 1.2 s: {told['error']}"


def test_without_slices_there_is_nothing_to_blame(tmp_path):
    verdict = verdict_of(ByHand(tmp_path).begin().done(0.1, slices=0, rows=0).end(0.1))
    (loop,) = verdict.loops
    assert loop.sentences == ("There were no slices.",)
    assert (loop.overlap, loop.advice) == (None, ())
