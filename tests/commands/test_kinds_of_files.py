"""Commands that look at inputs: of every kind, with h5py as the judge."""

from __future__ import annotations

import json

import h5py
import pytest

from support.kinds_of_files import OTHER, READABLE, make

FLOW = (
    "flow: {source: raw, stages: [look]}\nlook: {classname: H5FlowTestStage, requires: [kinds/text, kinds/compact]}\n"
)


@pytest.fixture
def everything(folder):
    """An input with all kinds, and a workflow on it."""
    make(folder.path / "in.h5")
    folder.write("flow.yaml", FLOW)
    return folder.path / "in.h5"


@pytest.mark.parametrize("command", ["plan", "check"])
def test_what_would_run_is_found_out(folder, everything, command):
    before = everything.read_bytes()
    done = folder.run(command, "flow.yaml", "-i", "in.h5")
    assert done.code == 0, done
    assert "could not be tried" not in done.err
    assert everything.read_bytes() == before


def test_all_is_shown(folder, everything):
    assert folder.run("inspect", "in.h5").code == 0
    done = folder.run("inspect", "in.h5", "--format", "json")
    assert done.code == 0, done
    report = json.loads(done.out)["file"]
    shown = {dataset["path"]: dataset for dataset in report["datasets"]}
    with h5py.File(everything) as file:
        for kind in READABLE:
            rows = file[f"kinds/{kind}/data"]
            facts = shown[f"kinds/{kind}"]
            assert (facts["rows"], *facts["row_shape"]) == rows.shape
            assert facts["bytes"] == rows.size * rows.dtype.itemsize
    unreadable = {path for path, _ in report["unreadable"]}
    unknown = {f"kinds/{kind}/data" for kind in ("time", "three bytes", "seven bytes")}
    assert {path for path in unreadable if "odd names" not in path} == unknown
    assert set(READABLE) | set(OTHER) >= {path.split("/")[1] for path in shown if path.startswith("kinds/")}


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_a_run_and_the_same_again(folder, everything, mode):
    done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5", "--set", f"runtime.mode={mode}")
    assert done.code == 0, done
    done = folder.run("rerun", "out.h5", "-o", "again.h5", "--compare")
    assert done.code == 0, done
    assert "'/kinds/time/data' can't be compared: No NumPy equivalent for TypeTimeID exists" in done.err + done.out
