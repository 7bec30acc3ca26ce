"""Workflows on several ranks, started as users start them."""

from __future__ import annotations

import time

import h5py
import numpy as np
import pytest

from support.comparing import content
from support.components import ROW

CHAIN = """
flow: {source: source, stages: [hits, marks, sums]}
source: {classname: Source, path: support.components, dset_name: raw, params: {slices: 6, sleep: 0.002}}
hits: {classname: Hits, path: support.components, params: {sleep: 0.002}}
marks: {classname: Marks, path: support.components}
sums: {classname: Sums, path: support.components, requires: [hits, {name: again, path: hits}]}
"""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_pipelined_is_sequential(flow, tmp_path, count):
    files = []
    for mode in ("sequential", "pipelined", "pipelined"):
        ended = flow(count, CHAIN, "--set", f"runtime.mode={mode}")
        assert ended.code == 0, ended
        files.append(content(tmp_path / "out.h5"))
        (tmp_path / "out.h5").unlink()
    assert files[0] == files[1] == files[2]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_rows_of_one_call_lie_in_the_order_of_ranks(flow, tmp_path, mode):
    assert flow(3, CHAIN, "--set", f"runtime.mode={mode}").code == 0
    with h5py.File(tmp_path / "out.h5") as file:
        raw = file["raw/data"][:]
        expected = []
        for number in range(1, 7):
            for rank in range(3):
                if number <= 6 - rank:
                    expected += [rank] * (1 + (number + rank) % 4)
        assert raw["rank"].tolist() == expected
        assert raw["id"].tolist() == list(range(len(expected)))
        assert (raw["value"] >= 100).all()
        assert len(file["sums/data"]) == len(expected)
        # each row's sum, found by way of the references, is that of its hits
        pairs, hits = file["raw/ref/hits/ref"][:], file["hits/data"][:]
        assert len(pairs) == len(hits) > 0
        of_sums = {parent: row for row, parent in file["sums/ref/raw/ref"][:].tolist()}
        sums = np.zeros(len(raw))
        np.add.at(sums, pairs[:, 0], 2 * hits["value"][pairs[:, 1]])
        assert [file["sums/data"][of_sums[row]] for row in range(len(raw))] == sums.tolist()
        # regions enclose the references of each row, tightly
        for row, (start, stop) in enumerate(file["raw/ref/hits/ref_region"][:].tolist()):
            at = np.flatnonzero(pairs[:, 0] == row)
            assert (start, stop) == ((at[0], at[-1] + 1) if len(at) else (0, 0))


LOOP = """
flow: {source: raw, stages: [hits, sums]}
hits: {classname: Hits, path: support.components, params: {every: 1}}
sums: {classname: Sums, path: support.components, requires: [hits]}
"""


def make_input(path, rows=100, **options):
    with h5py.File(path, "w") as file:
        data = np.zeros(rows, ROW)
        data["id"] = np.arange(rows)
        file.create_dataset("raw/data", data=data, chunks=(16,), maxshape=(None,), **options)
        file["raw"].attrs["made"] = "for a test"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rows", [100, 17, 0])
def test_a_loop_over_the_input(flow, tmp_path, rows):
    """Each rank takes every so many chunks; with few or none of them, ranks go on with nothing."""
    make_input(tmp_path / "in.h5", rows)
    before = (tmp_path / "in.h5").read_bytes()
    for count in (1, 2, 4):
        files = []
        for mode in ("sequential", "pipelined"):
            ended = flow(count, LOOP, "-i", "in.h5", "-z", "gzip", "--set", f"runtime.mode={mode}")
            assert ended.code == 0, ended
            assert f"{rows} rows" in ended.err
            with h5py.File(tmp_path / "out.h5") as file:
                assert file["raw/data"]["id"].tolist() == list(range(rows))
                assert file["raw"].attrs["made"] == "for a test"
                assert len(file["hits/data"]) == 2 * rows
                assert len(file["sums/data"]) == rows
                assert file["hits/data"].compression == "gzip"
            files.append(content(tmp_path / "out.h5"))
            (tmp_path / "out.h5").unlink()
        assert files[0] == files[1]
    assert (tmp_path / "in.h5").read_bytes() == before


@pytest.mark.timeout(100)
def test_an_input_of_the_newest_format_with_attributes_of_all_kinds(flow, tmp_path, storage):
    make_input(tmp_path / "old.h5", 40)
    with h5py.File(tmp_path / "in.h5", "w", libver="latest") as file, h5py.File(tmp_path / "old.h5") as old:
        raw = file.create_dataset("raw/data", data=old["raw/data"][:], chunks=(8,), maxshape=(None,))
        file["raw"].attrs["texts"] = ["one", "and another one"]
        file["raw"].attrs["table"] = raw.ref
    workflow = "flow: {source: raw, stages: [looks]}\nlooks: {classname: Attributes, path: support.components}\n"
    ended = flow(3, workflow, "-i", "in.h5", "--set", f"runtime.storage={storage}")
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        assert file[file["raw"].attrs["table"]] == file["raw/data"]


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_rows_through_the_objects_of_h5py(flow, tmp_path, mode):
    make_input(tmp_path / "in.h5")
    workflow = """
flow: {source: raw, stages: [handles]}
handles: {classname: Handles, path: support.components}
"""
    for count in (1, 3):
        ended = flow(count, workflow, "-i", "in.h5", "--set", f"runtime.mode={mode}")
        assert ended.code == 0, ended
        with h5py.File(tmp_path / "out.h5") as file:
            slices = 7 if count == 1 else 9  # the last ones with nothing for some ranks
            assert file["by_hand/data"]["rank"].tolist() == [10, 11, 12, 0, 13, 0] * slices


@pytest.mark.timeout(100)
def test_workflows_one_after_the_other_dropping_and_extending(flow, tmp_path):
    (tmp_path / "second.yaml").write_text(LOOP.replace("hits", "more").replace("sums", "totals"))
    ended = flow(2, CHAIN, "second.yaml", "-d", "more")
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        assert "more" not in file
        assert "more" not in file["raw/ref"]
        assert len(file["totals/data"]) == len(file["raw/data"])
        before = len(file["raw/data"])
    assert flow(2, CHAIN).code == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["raw/data"]) == 2 * before
        assert len(file["sums/data"]) == 2 * before
    assert [path.name for path in tmp_path.glob("*.h5*")] == ["out.h5"]


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_generators_that_pass_messages_around(flow, tmp_path, mode):
    workflow = CHAIN.replace("classname: Source", "classname: Ring").replace("{slices: 6, sleep: 0.002}", "{}")
    ended = flow(3, workflow, "--set", f"runtime.mode={mode}")
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["raw/data"]["rank"].tolist() == [0, 0, 1, 1, 2, 2] * 5
        assert file["sums"].attrs["counted"] == 3 * 30


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_generators_that_let_an_iterator_end_them(flow, tmp_path, mode):
    workflow = CHAIN.replace("classname: Source", "classname: Iterates").replace("[hits, marks", "[hits, meets")
    workflow = workflow.replace("marks: {classname: Marks", "meets: {classname: Barrier")
    ended = flow(3, workflow, "--set", f"runtime.mode={mode}", limit=20)
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["sums/data"]) == len(file["raw/data"]) > 0


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize(
    ("how", "says"),
    [("forgets", "next() has returned nothing"), ("strays", "StopIteration has left next() from components.py:")],
)
def test_a_generator_that_ends_badly_on_one_rank(flow, tmp_path, mode, how, says):
    workflow = CHAIN.replace("classname: Source", "classname: EndsBadly").replace("slices: 6", f"how: {how}")
    ended = flow(2, workflow, "--set", f"runtime.mode={mode}", limit=20)
    assert ended.code == 1, ended
    assert f"generator 'source' (workflow.yaml:3), rank 1: {says}" in ended.err, ended
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.timeout(100)
def test_names_in_other_spellings(flow, tmp_path):
    files = []
    for workflow in (CHAIN, CHAIN.replace("dset_name: raw", "dset_name: /raw/").replace("[hits, {", "['//hits/', {")):
        again = workflow.replace("path: hits", "path: hits//") if "//hits/" in workflow else workflow
        ended = flow(2, again)
        assert ended.code == 0, ended
        files.append(content(tmp_path / "out.h5"))
        (tmp_path / "out.h5").unlink()
    assert files[0] == files[1]


@pytest.mark.timeout(100)
@pytest.mark.parametrize("stages", ["hits, sums", "hits, meets, sums"])
def test_components_that_wait_for_each_other_while_slices_are_cheap(flow, tmp_path, stages):
    """A rank that kept slices until it had many of them would have others wait for what they are needed for."""
    workflow = f"""
flow: {{source: source, stages: [{stages}]}}
source: {{classname: Meets, path: support.components, dset_name: raw, params: {{slices: 300}}}}
hits: {{classname: Hits, path: support.components, params: {{every: 1}}}}
meets: {{classname: Barrier, path: support.components}}
sums: {{classname: Sums, path: support.components, requires: [hits]}}
"""
    ended = flow(3, workflow)
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["sums/data"]) == 3 * 600


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_calls_that_only_some_ranks_can_wait_for(flow, tmp_path, mode):
    workflow = CHAIN.replace("[hits, marks, sums]", "[hits]").replace("classname: Hits", "classname: Crosswise")
    ended = flow(3, workflow.replace("params: {sleep: 0.002}", "params: {}"), "--set", f"runtime.mode={mode}")
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        raw, hits, pairs = file["raw/data"][:], file["hits/data"][:], file["raw/ref/hits/ref"][:]
        assert sorted(pairs[:, 0]) == sorted(pairs[:, 1]) == list(range(len(raw)))
        assert (raw[pairs[:, 0]] == hits[pairs[:, 1]]).all()


FAILING = """
flow: {source: source, stages: [hits, fails, sums]}
source: {classname: Source, path: support.components, dset_name: raw, params: {slices: 20}}
hits: {classname: Hits, path: support.components}
fails: {classname: Fails, path: support.components, params: {how: HOW}}
sums: {classname: Sums, path: support.components, requires: [hits]}
"""


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raises", "stage 'fails' (workflow.yaml:5), rank 1, slice"),
        ("exits", "stage 'fails' (workflow.yaml:5), rank 1, slice"),
        ("interrupts", "stage 'fails' (workflow.yaml:5), rank 1, slice"),
        ("is_killed", ""),
    ],
)
def test_a_rank_that_fails_ends_the_job(flow, tmp_path, mode, how, says):
    ended = flow(2, FAILING.replace("HOW", how), "--set", f"runtime.mode={mode}", limit=20)
    assert ended.code != 0
    assert says in ended.err
    assert "Traceback" not in ended.err.partition(says)[2] if says else True
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize(("how", "code", "says"), [("raises", 1, "this rank's own mistake"), ("exits", 1, "")])
def test_a_rank_that_fails_in_a_script_ends_the_others(ranks, tmp_path, mode, how, code, says):
    """Those would wait for it, and it for them, where Python ends MPI."""
    (tmp_path / "workflow.yaml").write_text(FAILING.replace("HOW", how))
    script = f"""
import yaml
from h5flow.core import H5FlowManager
config = yaml.safe_load(open("workflow.yaml"))
manager = H5FlowManager({{**config, "runtime": {{"mode": "{mode}"}}}}, "out.h5")
manager.init()
manager.run()
manager.finish()
"""
    ended = ranks(2, "-c", script, limit=20)
    assert ended.code == code, ended
    assert says in ended.err
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_a_rank_on_an_event_loop_hears_that_another_is_to_stop(ranks, tmp_path, mode):
    """One rank runs off the loop and is asked to stop; the other one, on its own loop, has all slices to go."""
    (tmp_path / "workflow.yaml").write_text(ENDLESS)
    script = f"""
import asyncio, os, signal, sys, threading, yaml
from h5flow.core import H5FlowManager
from h5flow.runtime.stopping import Stopped
config = yaml.safe_load(open("workflow.yaml"))
manager = H5FlowManager({{**config, "runtime": {{"mode": "{mode}"}}}}, "out.h5")
manager.init()
try:
    if manager.rank:
        asyncio.run(manager.run_async())
    else:
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        manager.run()
except Stopped as stopped:
    print(f"rank {{manager.rank}}: {{stopped}}", file=sys.stderr)
"""
    ended = ranks(2, "-c", script, limit=30)
    for rank in (0, 1):
        signal = "SIGTERM" if rank else "SIGINT"  # the other one only hears that somebody is asked
        assert f"rank {rank}: stopped by {signal} after" in ended.err, ended
    with h5py.File(tmp_path / "out.h5.partial") as file:
        assert 0 < len(file["raw/data"]) < 100_000


ENDLESS = """
flow: {source: source, stages: [hits]}
source: {classname: Source, path: support.components, dset_name: raw, params: {slices: 100000}}
hits: {classname: Hits, path: support.components}
"""


@pytest.mark.timeout(100)
def test_a_killed_rank_leaves_a_file_that_opens(ranks, tmp_path):
    """What ranks had written up to the last checkpoint, for whoever wants to look at it."""
    (tmp_path / "workflow.yaml").write_text(FAILING.replace("HOW", "is_killed"))
    script = (
        "import sys; from h5flow.data.file import checkpoints; from h5flow.cli import main;"
        "checkpoints.PERIOD = checkpoints.PATIENCE = 0.0; sys.exit(main())"
    )
    settings = ("--set", "runtime.mode=sequential", "--set", "runtime.storage=single-writer")
    assert ranks(2, "-c", script, "workflow.yaml", "-o", "out.h5", *settings, limit=20).code != 0
    with h5py.File(tmp_path / "out.h5.partial") as file:
        first = file["raw/data"][:5]
        assert first["rank"].tolist() == [0, 0, 1, 1, 1]
        assert first["id"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.timeout(100)
@pytest.mark.parametrize("how", ["sleeps", "receives"])
def test_a_rank_that_never_returns_is_named(flow, tmp_path, how):
    settings = ("--set", "runtime.stall_warning=1", "--set", "runtime.stall_abort=5")
    ended = flow(2, FAILING.replace("HOW", how), *settings, limit=30)
    assert ended.code != 0
    assert "rank 1 to finish stage 'fails' on slice number 2" in ended.err
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_a_rank_that_makes_more_calls_than_others(flow, tmp_path, mode):
    ended = flow(3, FAILING.replace("HOW", "reserves"), "--set", f"runtime.mode={mode}")
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["extra/data"]) == 20 - 2  # with slices of nothing for the last rank


@pytest.mark.timeout(100)
def test_different_workflows_on_different_ranks(ranks, tmp_path):
    (tmp_path / "0.yaml").write_text(CHAIN)
    (tmp_path / "1.yaml").write_text(CHAIN.replace("slices: 6", "slices: 7"))
    script = (
        "import sys; from h5flow.mpi import launched_rank; from h5flow.cli import main;"
        "sys.exit(main([f'{launched_rank()}.yaml', '-o', 'out.h5']))"
    )
    ended = ranks(2, "-c", script, limit=30)
    assert ended.code == 2, ended
    assert "differ between rank 0 and rank 1" in ended.err


@pytest.mark.timeout(100)
@pytest.mark.parametrize("wrong", ["config", "class", "input", "folder"])
def test_what_is_wrong_on_all_ranks_is_said_once(flow, tmp_path, wrong):
    workflow = CHAIN.replace("slices: 6", "slices: 6, ") if wrong != "config" else CHAIN.replace("stages:", "stagse:")
    if wrong == "class":
        workflow = workflow.replace("classname: Hits", "classname: Hitz")
    arguments = {"input": ["-i", "none.h5"], "folder": ["-o", "nowhere/out.h5"]}.get(wrong, [])
    if wrong == "input":
        workflow = LOOP
    started = time.monotonic()
    ended = flow(3, workflow, *arguments, limit=40)
    assert ended.code in (1, 2)
    assert ended.err.count("h5flow-async: ") == 1, ended
    assert time.monotonic() - started < 30


@pytest.mark.timeout(100)
def test_no_mpi_on_several_ranks_is_refused(flow):
    ended = flow(2, CHAIN, "--nompi")
    assert ended.code == 2
    assert "--nompi" in ended.err


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_a_signal_has_all_ranks_stop_before_the_same_slice(ranks, tmp_path, mode):
    (tmp_path / "workflow.yaml").write_text(CHAIN.replace("slices: 6", "slices: 100000"))
    arguments = ["-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--set", f"runtime.mode={mode}"]
    ended = ranks(3, *arguments, terminate_when=tmp_path / "seventh", limit=40)
    assert ended.code == 143, ended
    assert ended.err.count("stopped by SIGTERM after") == 1
    with h5py.File(tmp_path / "out.h5.partial") as file:
        raw = file["raw/data"][:]
        assert raw["id"].tolist() == list(range(len(raw)))
        assert len(file["sums/data"]) == len(raw)
        expected = []
        for number in range(1, 100_000):
            if len(expected) >= len(raw):
                break
            for rank in range(3):
                expected += [rank] * (1 + (number + rank) % 4)
        assert raw["rank"].tolist() == expected
        assert (raw["value"] >= 100).all()


SIGNALLED = """
flow: {source: source, stages: [signalled]}
source: {classname: Source, path: support.components, dset_name: raw}
signalled: {classname: Signalled, path: support.components, params: {during: DURING}}
"""


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("during", ["init", "run", "last", "finish"])
def test_a_signal_to_one_rank_ends_all(flow, tmp_path, mode, during):
    """In the loop all ranks stop together; before and after it, and where it ends meanwhile, that rank ends them."""
    ended = flow(3, SIGNALLED.replace("DURING", during), "--set", f"runtime.mode={mode}", limit=30)
    assert ended.code == 143, ended
    assert "stopped by SIGTERM" in ended.err, ended
    if during != "last":  # in the last slice it may be early enough for all of them to know
        assert f"stopped by SIGTERM {'after' if during == 'run' else 'on rank 2'}" in ended.err, ended
    assert not (tmp_path / "out.h5").exists()
