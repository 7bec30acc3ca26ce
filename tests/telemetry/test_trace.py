"""Traces: what is drawn, against the rules of the format and what the stages are known to do."""

from __future__ import annotations

import json
import resource
import signal
from collections import defaultdict

import pytest

from h5flow.telemetry.trace import Trace, clocks_apart, merge, part_of
from support.logs_of_runs import ROWS

ARGUMENTS = ("workflow.yaml", "-o", "out.h5", "--trace", "t.json")


def checked(path):
    """The events of a trace, which keeps to the rules: sorted, spans on a track nested, arrows bound to spans."""
    events = json.loads(path.read_text())["traceEvents"]
    times = [event["ts"] for event in events]
    assert times == sorted(times)
    spans = defaultdict(list)
    for event in events:
        assert event["ph"] in "MXCstf"
        if event["ph"] == "X":
            assert event["dur"] >= 0
            spans[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"], event["name"]))
    for on_track in spans.values():
        open_until = []
        for start, end, _ in sorted(on_track, key=lambda span: (span[0], -span[1])):
            while open_until and open_until[-1] <= start + 1e-3:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 2e-3
            open_until.append(end)
    arrows = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            assert any(a <= event["ts"] <= b for a, b, _ in spans[event["pid"], event["tid"]])
            arrows[event["id"]].append(event["ph"])
    for phases in arrows.values():
        assert (phases[0], phases[-1], set(phases[1:-1]) - {"t"}) == ("s", "f", set())
    return events


def tracks(events, rank=0):
    """Names of tracks by number, in the order in which they are shown."""
    named = {
        event["tid"]: event["args"]["name"]
        for event in events
        if event["name"] == "thread_name" and event["pid"] == rank
    }
    return {track: named[track] for track in sorted(named)}


def spans(events, track, rank=0):
    """The slices on a track."""
    (number,) = (found for found, name in tracks(events, rank).items() if name == track)
    return [
        event
        for event in events
        if event["ph"] == "X" and (event["pid"], event["tid"]) == (rank, number) and event["name"].startswith("slice")
    ]


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
@pytest.mark.parametrize("kind", ["Work", "AsyncWork"])
def test_each_slice_is_on_the_track_of_each_actor(told, folder, mode, kind):
    ended = told(
        *(f"runtime.mode={mode}", f"second.classname={kind}", "first.params.sleep=0.02"), log=False, arguments=ARGUMENTS
    )
    assert ended.code == 0, ended
    events = checked(folder / "t.json")
    names = list(tracks(events).values())
    assert (names[0], names[-3:]) == ("generator", ["first", "second", "committer"])
    assert all(name.startswith("prefetcher: loader ") for name in names[1:-3])
    for track in ("generator", "first", "second"):
        found = spans(events, track)
        assert [event["name"] for event in found] == [f"slice {number}" for number in range(12)]
        assert sum(event["args"]["stop"] - event["args"]["start"] for event in found) == ROWS
    assert all(event["dur"] >= 18_000 for event in spans(events, "first"))
    assert len({event["id"] for event in events if event["ph"] == "s"}) == 12
    counters = {event["name"] for event in events if event["ph"] == "C"}
    queues = {f"queue {name}" for name in ("generator", "prefetch", "first", "second")}
    assert counters >= {"in flight", "in flight, bytes"} | (queues if mode == "pipelined" else set())
    assert {path.name for path in folder.glob("t.json*")} == {"t.json"}


def test_stages_overlap_where_they_do(told, folder):
    """Two stages that sleep are at work at the same time, as the picture is to show."""
    told("first.params.sleep=0.02", "second.params.sleep=0.02", log=False, arguments=ARGUMENTS)
    events = checked(folder / "t.json")
    one, other = (
        [(event["ts"], event["ts"] + event["dur"]) for event in spans(events, track)] for track in ("first", "second")
    )
    assert sum(max(0, min(b, d) - max(a, c)) for a, b in one for c, d in other) > 50_000


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
@pytest.mark.parametrize("kind", ["Work", "AsyncWork"])
def test_a_run_that_fails_is_drawn_up_to_there(told, folder, mode, kind):
    ended = told(
        *(f"runtime.mode={mode}", "second.params.fails=15", f"second.classname={kind}"), log=False, arguments=ARGUMENTS
    )
    assert ended.code == 1
    *before, last = spans(checked(folder / "t.json"), "second")
    assert last["name"] == "slice 3"
    assert last["args"]["failed"] is True
    assert [event["name"] for event in before] == ["slice 0", "slice 1", "slice 2"]


def test_a_run_that_is_killed_leaves_its_part(told, folder):
    """A part is a trace by itself: a list whose end may be missing."""
    ended = told("first.classname=Killed", log=False, arguments=ARGUMENTS)
    assert ended.code == -signal.SIGKILL
    text = (folder / "t.json.rank-0000.part").read_text()
    events = json.loads(text.rstrip().rstrip(",") + "]")
    assert any(event["name"] == "slice 2" for event in events)


def test_workflows_of_a_job_have_tracks_each(told, folder):
    (folder / "more.yaml").write_text("flow: {source: raw, stages: [third]}\nthird: {classname: Work, path: parts}\n")
    ended = told(log=False, arguments=("workflow.yaml", "more.yaml", *ARGUMENTS[1:]))
    assert ended.code == 0, ended
    events = checked(folder / "t.json")
    assert len(spans(events, "more.yaml: third")) == 1
    assert len(spans(events, "second")) == 12


def test_that_can_not_be_written_is_a_mistake(told, folder):
    ended = told(log=False, arguments=(*ARGUMENTS[:3], "--trace", "parts.py/t.json"))
    assert ended.code == 2
    assert "trace 'parts.py/t.json' can't be written" in ended.err
    assert not (folder / "out.h5.partial").exists()


def test_is_for_a_single_input(told):
    ended = told(log=False, arguments=("workflow.yaml", "-i", "parts.py", "-o", "{stem}.h5", "--trace", "t.json"))
    assert ended.code == 2
    assert "--trace is for a single input" in ended.err


class TestRanks:
    def test_are_processes_on_one_clock(self, ranks, folder):
        """All ranks wait for each other in a collective call on each slice, so that slices of a number lie together."""
        ended = ranks(3, "-m", "h5flow", *ARGUMENTS, "--set", "first.params.sleep=0.05")
        assert ended.code == 0, ended
        events = checked(folder / "t.json")
        names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
        assert set(names) == {0, 1, 2}
        assert all(name.startswith(f"rank {rank} on ") for rank, name in names.items())
        slices = [spans(events, "second", rank) for rank in range(3)]
        assert [len(found) for found in slices] == [12, 12, 12]
        for together in zip(*slices, strict=True):
            ends = [event["ts"] + event["dur"] for event in together]
            assert max(ends) - min(ends) < 40_000
        assert {path.name for path in folder.glob("t.json*")} == {"t.json"}

    def test_that_fail_leave_a_trace_of_all(self, ranks, folder):
        text = (folder / "parts.py").read_text()
        failing = text.replace("self.fails == source_slice.start", "self.rank == 1 and source_slice.start > 50")
        (folder / "parts.py").write_text(failing)
        ended = ranks(2, "-m", "h5flow", *ARGUMENTS)
        assert ended.code == 1
        events = checked(folder / "t.json")
        assert {event["pid"] for event in events if event["ph"] == "X"} == {0, 1}
        assert any(event.get("args", {}).get("failed") for event in spans(events, "first", 1))


def test_clocks_are_as_far_apart_as_the_quickest_exchange_says():
    assert clocks_apart([(0.0, 1.0, 100.0), (2.0, 2.002, 52.001), (3.0, 4.0, 0.0)]) == pytest.approx(50.0)


def test_parts_are_joined_by_time_and_without_what_was_not_finished(tmp_path):
    path = str(tmp_path / "t.json")
    for rank in (0, 2):
        trace = Trace(path, rank, 0.0, f"rank {rank}", pytest.fail)
        track = trace.tracks(1)
        trace.name(track, "x")
        for moment in (5.0, 3.0, 4.0):
            trace.span(track, f"{rank}-{moment}", moment + rank / 10, moment + 0.5)
        trace.close()
    with open(part_of(path, 2), "a") as part:  # noqa: PTH123
        part.write('{"ph":"X","na')
    merge(path, 3, keep=True)
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    spans = [event["name"] for event in events if event["ph"] == "X"]
    assert spans == ["0-3.0", "2-3.0", "0-4.0", "2-4.0", "0-5.0", "2-5.0"]


def test_one_that_can_not_be_joined_leaves_its_parts_and_nothing_else(tmp_path):
    (tmp_path / "t.json").mkdir()
    trace = Trace(str(tmp_path / "t.json"), 0, 0.0, "rank 0", pytest.fail)
    trace.close()
    with pytest.raises(OSError, match=r"t\.json"):
        merge(str(tmp_path / "t.json"), 1)
    assert {path.name for path in tmp_path.iterdir()} == {"t.json", "t.json.rank-0000.part"}


def test_a_full_disk_ends_the_trace_and_says_so(tmp_path):
    """Once, however much there is to draw after that; what was drawn before is joined."""
    said: list[str] = []
    trace = Trace(str(tmp_path / "t.json"), 0, 0.0, "rank 0", said.append)
    trace.span(1, "before", 0.0, 1.0)
    trace.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "t.json.rank-0000.part").stat().st_size + 5, hard))
    try:
        for _ in range(3):
            trace.span(1, "after", 2.0, 3.0)
            trace.flush()
        trace.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said == [f"trace '{tmp_path}/t.json' ends here, it can't be written: File too large"]
    merge(str(tmp_path / "t.json"), 1)
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [event["name"] for event in events if event["ph"] == "X"] == ["before"]
