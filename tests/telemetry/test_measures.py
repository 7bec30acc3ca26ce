"""What slices take, as it is told, against what the stages are known to do."""

from __future__ import annotations

import itertools

import pytest

from support.logs_of_runs import ROWS, made

MODES = pytest.mark.parametrize("mode", ["pipelined", "sequential"])
KINDS = pytest.mark.parametrize("kind", ["Work", "AsyncWork"])


@MODES
@KINDS
def test_every_slice_is_told_with_its_rows(told, folder, mode, kind):
    """In both modes, and with stages of both kinds: their rows are those of the source, each once, in order."""
    ended = told(f"runtime.mode={mode}", f"second.classname={kind}")
    assert ended.code == 0, ended
    slices = ended.of("slice.done")
    assert [line["slice_index"] for line in slices] == list(range(12))
    assert sum(line["rows"] for line in slices) == ROWS == len(made(folder)["raw"])
    assert [line["start"] for line in slices] == [0, *(line["stop"] for line in slices[:-1])]
    for line in slices:
        assert list(line["stages"]) == ["first", "second"]
        assert line["rows"] == line["stop"] - line["start"]
        assert line["workflow"] == "workflow.yaml"
    (done,) = ended.of("workflow.done")
    assert (done["slices"], done["rows"]) == (12, ROWS)


@MODES
@KINDS
def test_seconds_are_those_of_who_spends_them(told, mode, kind):
    """The first stage takes 30 ms a slice, and the generator 10: nobody else may be said to."""
    ended = told(f"runtime.mode={mode}", f"first.classname={kind}", "first.params.sleep=0.03", "rows.params.sleep=0.01")
    assert ended.code == 0, ended
    slices = ended.of("slice.done")
    median = lambda values: sorted(values)[len(slices) // 2]  # noqa: E731
    for line in slices:
        first = line["stages"]["first"]
        assert first["run_s"] >= 0.028  # clocks of event loops are coarse
        assert line["generator_s"] >= 0.01
        assert line["in_flight_s"] >= 0.038
        for stage in line["stages"].values():
            assert min(value for value in stage.values() if value is not None) >= 0
        # The parts are one after the other, so they are no more than the whole.
        parts = [line["generator_s"]]
        parts += [stage[key] for stage in line["stages"].values() for key in ("wait_s", "load_s", "run_s", "write_s")]
        assert sum(parts) <= line["in_flight_s"] + 1e-4
    assert median([line["stages"]["second"]["run_s"] for line in slices]) < 0.02
    assert median([line["stages"]["first"]["load_s"] for line in slices]) < 0.02
    (done,) = ended.of("workflow.done")
    assert done["actors"]["first"]["run_s"] >= 12 * 0.028
    assert done["actors"]["generator"]["run_s"] >= 12 * 0.01


def test_waiting_is_that_before_the_slow_stage(told):
    """Slices pile up in front of it, and nowhere behind."""
    ended = told("second.params.sleep=0.03", "rows.params.slices=30")
    slices = ended.of("slice.done")[10:]
    assert sum(line["stages"]["second"]["wait_s"] for line in slices) > 10 * 0.03
    (done,) = ended.of("workflow.done")
    assert done["actors"]["second"]["wait_s"] > done["actors"]["first"]["run_s"]


@MODES
@KINDS
def test_writing_is_told_apart_from_running(told, folder, mode, kind):
    """The data manager is made slow to write, so that its share is known."""
    (folder / "parts.py").write_text(
        (folder / "parts.py").read_text()
        + "\nfrom h5flow.data import H5FlowDataManager\n"
        + "inner = H5FlowDataManager.write_data\n"
        + "def slow(self, name, rows, data):\n"
        + "    time.sleep(0.02 if name == 'first' else 0)\n"
        + "    return inner(self, name, rows, data)\n"
        + "H5FlowDataManager.write_data = slow\n"
    )
    ended = told(f"runtime.mode={mode}", f"first.classname={kind}", "rows.params.slices=6")
    assert ended.code == 0, ended
    slices = ended.of("slice.done")
    assert all(line["stages"]["first"]["write_s"] >= 0.02 for line in slices)
    assert min(line["stages"]["first"]["run_s"] for line in slices) < 0.02
    assert min(line["stages"]["second"]["write_s"] for line in slices) < 0.02


def test_bytes_are_those_of_the_cache(told):
    ended = told("runtime.mode=sequential")
    for line in ended.of("slice.done"):
        # After the second stage: raw rows, and one row and a mask entry for each of them.
        assert line["stages"]["first"]["bytes"] == 8 * line["rows"]
        assert line["stages"]["second"]["bytes"] >= 16 * line["rows"]


def test_what_is_loaded_ahead_is_told_as_that(told, folder):
    """Loading is made slow: early loading is the prefetcher's, late loading the stage's."""
    (folder / "parts.py").write_text(
        (folder / "parts.py").read_text()
        + """
from h5flow.runtime.loading import RequirementLoader
inner = RequirementLoader.load
def slow(self, requirement, source, rows):
    time.sleep(0.01 if requirement is None else 0.02)
    return inner(self, requirement, source, rows)
RequirementLoader.load = slow
"""
    )
    ended = told("rows.params.slices=10")
    assert ended.code == 0, ended
    # The first ones run one at a time, to learn what can be early.
    ahead = [line for line in ended.of("slice.done") if line["prefetch_s"] > 0]
    assert len(ahead) >= 5
    for line in ahead:
        assert line["stages"]["first"]["prefetch_s"] >= 0.01
        assert line["prefetch_s"] >= 0.01
        assert line["stages"]["second"]["prefetch_s"] == 0
        assert line["stages"]["second"]["load_s"] >= 0.02
        # A loader takes it up when it is made, and is done before the stage begins.
        loaded = line["prefetch_began_s"] + line["prefetch_s"]
        assert line["began_s"] + line["generator_s"] <= line["prefetch_began_s"]
        assert loaded <= line["stages"]["first"]["began_s"] + 1e-6
    assert [line["prefetch_began_s"] for line in ended.of("slice.done")][:3] == [None] * 3
    assert min(line["stages"]["first"]["load_s"] for line in ahead) < 0.01


@pytest.mark.parametrize(("settings", "loaders"), [(["runtime.loaders=3"], 3), (["runtime.mode=sequential"], 0)])
def test_how_many_threads_load_is_told(told, settings, loaders):
    (begun,) = told(*settings).of("workflow.start")
    assert begun["loaders"] == loaders


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
def test_what_processors_worked_is_told(told, folder, mode):
    with (folder / "parts.py").open("a") as file:
        file.write(
            """
class Busy(Work):
    def run(self, source_name, source_slice, cache):
        began = time.process_time()
        while time.process_time() < began + 0.05:
            pass
"""
        )
    (done,) = told(f"runtime.mode={mode}", "first.classname=Busy").of("workflow.done")
    assert done["processor_s"] >= 12 * 0.05


def test_batches_of_cheap_slices_are_told_one_by_one(told, folder):
    (folder / "parts.py").write_text((folder / "parts.py").read_text() + "\nclass Nothing(H5FlowStage): ...\n")
    (folder / "workflow.yaml").write_text(
        "flow: {source: rows, stages: [a]}\n"
        "rows: {classname: Source, path: parts, dset_name: raw, params: {slices: 3000}}\n"
        "a: {classname: Nothing, path: parts}\n"
    )
    ended = told("logging.level=debug")
    assert ended.code == 0, ended
    assert any(line["alone"] for line in ended.of("slices.batched"))
    slices = ended.of("slice.done")
    assert [line["slice_index"] for line in slices] == list(range(3000))
    for line in slices:
        stage = line["stages"]["a"]
        assert 0 <= stage["load_s"] + stage["run_s"] <= line["in_flight_s"]


@pytest.mark.parametrize(("sample", "count"), [("1.0", 12), ("0.5", 6), ("4", 3), ("0.25", 3), ("100", 1)])
def test_a_sample_is_the_same_each_time(told, sample, count):
    lines = told(f"logging.sample={sample}").of("slice.done")
    numbers = [line["slice_index"] for line in lines]
    assert len(numbers) == count
    assert numbers[0] == 0
    assert len({after - before for before, after in itertools.pairwise(numbers)}) <= 1


def test_queues_are_told_at_the_end(told):
    ended = told("runtime.queues.first=2", "first.params.sleep=0.01", "rows.params.slices=40")
    queues = {line["queue"]: line for line in ended.of("queue.stats")}
    assert list(queues) == ["generator", "prefetch", "first", "second"]
    assert queues["first"]["depth"] == 2
    for queue in queues.values():
        assert queue["puts"] == queue["gets"] > 0
        assert queue["occupancy"] == 0
        assert 1 <= queue["highest"] <= queue["depth"]


@pytest.mark.timeout(40)
def test_queues_are_told_now_and_then(told):
    ended = told("first.params.sleep=0.55")
    assert ended.code == 0, ended
    assert len([line for line in ended.of("queue.stats") if line["queue"] == "first"]) >= 2
