"""Reports of real runs: stages that sleep, fail, are killed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import h5flow
from h5flow.report import judged, read_run
from support.logs_of_runs import PARTS, ROWS
from support.pages import is_drawn


@pytest.fixture
def judge(folder):
    """The verdict of the run whose logs are in the folder; its page can be made, too."""

    def verdict(path="logs"):
        run = read_run(str(folder / path))
        result = judged(run)
        assert is_drawn(run, result)
        return result

    return verdict


def slow_loading(folder, seconds):
    """Loading what a stage requires takes so long."""
    patch = f"""
from h5flow.runtime.loading import RequirementLoader
inner = RequirementLoader.load
def slow(self, requirement, source, rows):
    time.sleep({seconds})
    return inner(self, requirement, source, rows)
RequirementLoader.load = slow
"""
    (folder / "parts.py").write_text(PARTS + patch)


def test_a_stage_that_sleeps_limits(told, judge):
    assert told("first.params.sleep=0.05", "rows.params.slices=20").code == 0
    verdict = judge()
    (loop,) = verdict.loops
    assert verdict.status == "done"
    assert (loop.limit.kind, loop.limit.actor) == ("stage", "first")
    assert loop.limit.share > 0.75
    assert (loop.slices, loop.computing_s > 20 * 0.05) == (20, True)
    assert verdict.outcome.endswith(": 20 slices, 270 rows.")


def test_loading_ahead_limits_and_overlaps(told, folder, judge):
    """Two loaders take 60 ms a slice each, the stages next to nothing, apart from what is late."""
    slow_loading(folder, 0.06)
    (folder / "workflow.yaml").write_text(
        "flow: {source: rows, stages: [first]}\n"
        "rows: {classname: Source, path: parts, dset_name: raw, params: {slices: 40}}\n"
        "first: {classname: Work, path: parts, params: {sleep: 0.005}}\n"
    )
    assert told().code == 0
    (loop,) = judge().loops
    assert (loop.limit.kind, loop.limit.actor) == ("loading", "prefetcher")
    assert loop.loading_s >= 40 * 0.06
    # Two loaders and a stage at once.
    assert loop.overlap > 1.3
    assert loop.hidden > 0.05
    run = read_run(str(folder / "logs"))
    slices = run.workflows[0][0].slices
    ahead = slices.prefetch > 0.05
    assert ahead.sum() >= 30
    # While a loader is at work on a slice, the stage is on one before it.
    stage = slices.stages["first"]
    beside = [
        ((stage.began < began + lasts) & (stage.ended > began) & (slices.number < number)).any()
        for number, began, lasts in zip(
            slices.number[ahead], slices.prefetch_began[ahead], slices.prefetch[ahead], strict=True
        )
    ]
    assert sum(beside) >= 12
    assert (slices.prefetch_began[ahead] >= slices.made[ahead]).all()
    assert (slices.prefetch_began[ahead] + slices.prefetch[ahead] <= stage.began[ahead] + 1e-6).all()


def test_late_loading_limits(told, folder, judge):
    slow_loading(folder, 0.03)
    assert told("rows.params.slices=20", "runtime.loaders=4").code == 0
    (loop,) = judge().loops
    assert (loop.limit.kind, loop.limit.actor) == ("loading", "second")


def test_a_slow_generator_limits(told, judge):
    assert told("rows.params.sleep=0.03", "rows.params.slices=20").code == 0
    (loop,) = judge().loops
    assert (loop.limit.kind, loop.limit.actor) == ("generator", "generator")


def test_sequential_mode_is_named(told, judge):
    sleeping = ("first.params.sleep=0.03", "second.params.sleep=0.03", "rows.params.slices=40")
    assert told("runtime.mode=sequential", *sleeping).code == 0
    (loop,) = judge().loops
    assert loop.limit.kind == "sequential"
    assert loop.overlap == pytest.approx(1, abs=0.1)
    # Two stages that sleep equally long; what goes on beside that takes its share.
    told = [re.match(r"runtime\.mode: pipelined, in which this could be up to (\d\.\d)", line) for line in loop.advice]
    (times,) = (float(found[1]) for found in told if found is not None)
    assert 1.6 <= times <= 2.4


def test_slices_that_must_go_one_at_a_time_say_why(told, folder, judge):
    (folder / "parts.py").write_text(
        PARTS
        + """
class Draws(Work):
    def run(self, source_name, source_slice, cache):
        np.random.uniform()
        super().run(source_name, source_slice, cache)
"""
    )
    assert told("first.classname=Draws", "second.classname=Draws", "first.params.sleep=0.02").code == 0
    (loop,) = judge().loops
    assert loop.limit.kind == "serialized"
    assert "draw from the same random generator" in loop.sentences[0]
    assert any("runtime.random: per-stage" in advice for advice in loop.advice)


def test_a_failed_run_says_where(told, report, judge):
    ended = told("second.params.fails=22", "first.params.sleep=0.02")
    assert ended.code == 1
    verdict = judge()
    assert verdict.status == "failed"
    assert "stage 'second' (workflow.yaml:5), rank 0, slice 22:" in verdict.outcome
    assert "a mistake" in verdict.outcome
    printed = report("logs", "--format", "text")
    assert printed.returncode == 0, printed.stderr
    assert verdict.outcome in printed.stdout


def test_a_run_that_failed_before_its_first_slice_has_a_report(told, folder, judge):
    bad = "\nclass Bad(Work):\n    def init(self, source_name):\n        raise RuntimeError('no <init>')\n"
    (folder / "parts.py").write_text(PARTS + bad)
    assert told("first.classname=Bad").code == 1
    verdict = judge()
    assert "stage 'first' (workflow.yaml:4), rank 0: RuntimeError: no <init>" in verdict.outcome
    (loop,) = verdict.loops
    assert (loop.sentences, loop.advice, loop.slices) == (("No slice was done.",), (), 0)


def test_a_run_that_was_killed_has_a_report(told, report, judge):
    assert told("second.classname=Killed", "first.params.sleep=0.01").code == -9
    verdict = judge()
    assert verdict.status == "incomplete"
    assert "it is at work, or was killed" in verdict.outcome


def test_a_sample_is_enough(told, judge):
    assert told("first.params.sleep=0.02", "rows.params.slices=40", "logging.sample=5").code == 0
    verdict = judge()
    (loop,) = verdict.loops
    assert (loop.limit.kind, loop.limit.actor, loop.slices) == ("stage", "first", 40)
    assert any("8 slices of 'workflow.yaml', a sample" in notice for notice in verdict.notices)


def test_a_log_of_warnings_only_is_not_judged(told, judge):
    assert told("logging.level=warning", "second.params.says=[warn]").code == 0
    verdict = judge()
    assert verdict.status == "incomplete"


def test_workflows_of_a_job_are_judged_one_by_one(told, folder, judge):
    (folder / "again.yaml").write_text(
        "flow: {source: raw, stages: [third]}\nthird: {classname: Work, path: parts, params: {sleep: 0.05}}\n"
    )
    assert told("first.params.sleep=0.04", arguments=("workflow.yaml", "again.yaml", "-o", "out.h5")).code == 0
    first, second = judge().loops
    assert (first.workflow, first.limit.actor, first.rows) == ("workflow.yaml", "first", ROWS)
    assert (second.workflow, second.rows) == ("again.yaml", ROWS)
    assert second.limit.actor in (None, "third")


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
@pytest.mark.parametrize("slices", [0, 5])
def test_a_generator_may_be_alone_and_have_nothing(told, folder, judge, mode, slices):
    (folder / "workflow.yaml").write_text(
        "flow: {source: rows}\nrows: {classname: Source, path: parts, dset_name: raw}\n"
    )
    assert told(f"rows.params.slices={slices}", f"runtime.mode={mode}").code == 0
    (loop,) = judge().loops
    assert loop.slices == slices
    assert (loop.sentences == ("There were no slices.",)) == (slices == 0)


def test_words_and_json_say_the_same(told, report):
    assert told("first.params.sleep=0.03").code == 0
    text, data = report("logs", "--format", "text"), report("logs", "--format", "json")
    assert (text.returncode, data.returncode) == (0, 0)
    verdict = json.loads(data.stdout)
    for sentence in verdict["loops"][0]["sentences"]:
        assert sentence in text.stdout.splitlines()
    for advice in verdict["loops"][0]["advice"]:
        assert f"  - {advice}" in text.stdout.splitlines()


#: So that ranks have the same package as the tests.
PATH = str(Path(h5flow.__file__).parents[1])


class TestRanks:
    def test_the_slow_one_is_named(self, ranks, folder, judge):
        """Rank 1 sleeps twice as long in the first stage, and the others wait for it in its collective calls."""
        uneven = PARTS.replace(
            "sleep(self.sleep)\n        if", "sleep(self.sleep * (1 + (self.rank == 1)))\n        if"
        )
        assert uneven != PARTS
        (folder / "parts.py").write_text(uneven)
        ended = ranks(
            3,
            *("-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--log-dir", "logs"),
            *("--set", "first.params.sleep=0.05", "--set", "rows.params.slices=20"),
            PYTHONPATH=PATH,
        )
        assert ended.code == 0, ended
        verdict = judge()
        (loop,) = verdict.loops
        assert (loop.limit.kind, loop.limit.rank, loop.limit.actor) == ("rank", 1, "first")
        assert 0.2 < loop.limit.share < 0.7
        assert loop.slices == 60
        assert verdict.outcome.endswith("on 3 ranks.")

    def test_a_failure_on_one_of_them_is_told(self, ranks, folder, judge):
        (folder / "parts.py").write_text(PARTS.replace("self.fails == source_slice.start", "self.rank == self.fails"))
        ended = ranks(
            2,
            *("-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--log-dir", "logs", "--set", "second.params.fails=1"),
            PYTHONPATH=PATH,
        )
        assert ended.code == 1
        verdict = judge()
        assert verdict.status == "failed"
        assert verdict.outcome.startswith("Failed on rank 1 after ")
