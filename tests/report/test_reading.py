"""Logs that are whole, cut off, mixed, from other versions, or no logs."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5flow.errors import UsageError
from h5flow.report import judged, read_run
from support.by_hand import RUN, ZERO, ByHand, stage, steady
from support.pages import is_drawn


def small(folder, **more):
    return steady(folder, spans={"x": {"run": 0.09}}, **more)


def full(folder):
    """A log with a line of each kind."""
    log = ByHand(folder).begin()
    log.tell("file.opened", 0.0, path="out.h5", working="p", input=None, storage="serial", why_storage="one rank")
    log.tell(
        "component.init",
        0.0,
        component="stage 'x'",
        classname="X",
        module="m",
        version="1",
        place="w.yaml:3",
        seconds=0.1,
    )
    for number in range(6):
        log.slice(number, 0.1 * number, 0.1 * number + 0.1, {"x": stage(0.1 * number, run=0.09)})
        if number % 2:
            log.tell("log", 0.1 * number, level="warning", logger="user", message=f"careful at {number} <b>")
    queue = {"queue": "generator", "depth": 4, "occupancy": 1, "highest": 2, "puts": 6, "gets": 5}
    log.tell("queue.stats", 0.6, **queue, put_wait_s=0.0, get_wait_s=0.1)
    return log.done(0.6, slices=6, rows=60).end(0.6, slices=6, rows=60)


def test_slices_are_columns(tmp_path):
    run = read_run(str(full(tmp_path).write()))
    ((workflow,),) = run.workflows
    assert list(workflow.slices.number) == list(range(6))
    assert np.allclose(workflow.slices.stages["x"].ended, 0.1 * np.arange(6) + 0.09)
    assert (run.run_id, run.status, run.size, run.notices) == (RUN, "done", 1, [])
    (trouble,) = run.troubles
    assert (trouble.count, trouble.message, trouble.what) == (3, "careful at 1 <b>", "user")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    log = full(tmp_path_factory.mktemp("whole"))
    log.write()
    return log.path.read_bytes()


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_log_may_end_anywhere(tmp_path_factory, whole, data):
    """What is there is told, up to the last whole line; or that there is nothing yet."""
    cut = data.draw(st.integers(0, len(whole)))
    folder = tmp_path_factory.mktemp("cut")
    (folder / "rank-0000.jsonl").write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    try:
        run = read_run(str(folder))
    except UsageError as error:
        assert lines == 0
        assert "tells of no run yet" in str(error)  # noqa: PT017
        return
    told = [json.loads(line) for line in whole[:cut].split(b"\n")[:lines]]
    # A last line may lack nothing but its end.
    count = sum(line["event"] == "slice.done" for line in told)
    assert len(run.workflows[0][0].slices if run.workflows else []) in (count, count + 1)
    verdict = judged(run)
    assert verdict.status == ("done" if cut >= len(whole) - 1 else "incomplete")
    assert is_drawn(run, verdict)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_log_may_be_damaged_anywhere(tmp_path_factory, whole, data):
    """Never a traceback: a report, or what is wrong and where."""
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "rank-0000.jsonl").write_bytes(damaged)
    try:
        run = read_run(str(folder))
    except UsageError as error:
        assert "rank-0000.jsonl', line" in str(error)  # noqa: PT017
        return
    is_drawn(run, judged(run))


def test_what_later_versions_say_more_is_passed_over(tmp_path):
    log = ByHand(tmp_path).begin()
    log.tell("weather", 0.0, sunny=True)
    log.tell("thunder", 0.0, level="warning", message="it thunders", far=3)
    for number in range(10):
        log.slice(
            number, 0.1 * number, 0.1 * number + 0.1, {"x": stage(0.1 * number, run=0.09) | {"joules": 3}}, mood="good"
        )
    run = read_run(str(log.done(1.0).end(1.0).write()))
    assert len(run.workflows[0][0].slices) == 10
    assert [trouble.message for trouble in run.troubles] == ["it thunders"]
    assert run.notices == []


def test_logs_of_before_some_fields_are_read(tmp_path):
    log = small(tmp_path).done(1.0).end(1.0)
    log.write()
    lines = [json.loads(line) for line in log.lines]
    for line in lines:
        for key in ("prefetch_began_s", "loaders", "ranks_wait_s"):
            line.pop(key, None)
    log.lines = [json.dumps(line) for line in lines]
    run = read_run(str(log.write()))
    assert judged(run).loops[0].limit.actor == "x"
    assert is_drawn(run, judged(run))


def test_another_version_of_the_vocabulary_is_said(tmp_path):
    log = small(tmp_path)
    log.lines = [line.replace('"schema_version": 1', '"schema_version": 2') for line in log.lines]
    with pytest.raises(UsageError, match=r"rank-0000.jsonl', line 1: written in version 2 .* knows version 1"):
        read_run(str(log.write()))


@pytest.mark.parametrize(
    "text", ["plain text\nmore\n", "{\n}\n", '{"event": "slice.done"}\n', "[1, 2]\n", "\x00\xff\n", "2026 INFO x: y\n"]
)
def test_what_is_no_log_is_said_with_file_and_line(tmp_path, report, text):
    (tmp_path / "some.jsonl").write_text(text)
    ended = report("some.jsonl")
    assert ended.returncode == 2
    assert "h5flow-async: 'some.jsonl', line 1: not a line of a JSON log of h5flow-async" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_where_there_are_no_logs_is_said(tmp_path, report):
    (tmp_path / "empty").mkdir()
    (tmp_path / "void.jsonl").write_text("")
    for given_path, words in (
        ("nowhere", "no logs at 'nowhere'"),
        ("empty", "no logs in 'empty'"),
        ("void.jsonl", "'void.jsonl' tells of no run yet: 'void.jsonl' is empty"),
    ):
        ended = report(given_path)
        assert ended.returncode == 2
        assert words in ended.stderr


def test_lines_in_between_that_can_not_be_read_are_counted(tmp_path):
    log = small(tmp_path)
    log.lines[4] = "rubbish"
    log.lines[6] = log.lines[6].replace('"began_s"', '"begun_s"')
    run = read_run(str(log.write()))
    assert len(run.workflows[0][0].slices) == 8
    assert run.notices[0] == "'rank-0000.jsonl' has 2 lines that can't be read, the first is line 5"


def test_ranks_without_a_log_are_named(tmp_path):
    for rank in (0, 2):
        log = ByHand(tmp_path, rank, 4).begin()
        log.slice(0, 0.0, 0.1, {"x": stage(0.0, run=0.09)}).done(0.1).end(0.1).write()
    run = read_run(str(tmp_path / RUN))
    assert "there is no log of ranks 1, 3" in run.notices
    assert is_drawn(run, judged(run))


def test_of_several_runs_the_newest_is_taken(tmp_path):
    small(tmp_path).done(1.0).end(1.0).write()
    later = ByHand(tmp_path, run_id="20260201-000000-000000", zero=ZERO + timedelta(days=1)).begin()
    later.slice(0, 0.0, 0.1, {"x": stage(0.0, run=0.09)}).write()
    assert read_run(str(tmp_path)).run_id == "20260201-000000-000000"
    # One file for all runs, as with `logging.file: log.jsonl`.
    both = tmp_path / "log.jsonl"
    first = small(tmp_path / "other").done(1.0).end(1.0)
    both.write_text("\n".join([*first.lines, *later.lines]) + "\n")
    run = read_run(str(both))
    assert run.run_id == "20260201-000000-000000"
    assert "the logs tell of 1 other run, which began before" in run.notices


def test_a_sample_is_scaled_up(tmp_path):
    log = ByHand(tmp_path).begin()
    for number in range(0, 1000, 10):
        log.slice(number, 0.01 * number, 0.01 * number + 0.01, {"x": stage(0.01 * number, run=0.009)})
    killed = read_run(str(log.write()))
    ((workflow,),) = killed.workflows
    assert workflow.is_sampled
    assert judged(killed).loops[0].limit.share == pytest.approx(0.9, abs=0.02)
    assert any("a sample of all" in notice for notice in killed.notices)
    spent = {
        "x": {
            **dict.fromkeys(("wait_s", "prefetch_s", "load_s", "write_s", "held_s"), 0.0),
            "run_s": 9.5,
            "slices": 1000,
        }
    }
    done = read_run(str(log.done(10.0, slices=1000, spent=spent).end(10.0).write()))
    assert judged(done).loops[0].limit.share == pytest.approx(0.95, abs=0.001)
    assert is_drawn(done, judged(done))
