"""Runs that are killed leave what they have written, in a file that opens."""

from __future__ import annotations

import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

KILLED_AT = 30
ROWS = 700

PARTS = f'''
import os, signal
import numpy as np
from h5flow.core import H5FlowGenerator, H5FlowStage

class Source(H5FlowGenerator):
    made = 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, "i8")

    def next(self):
        self.made += 1
        rows = self.data_manager.reserve_data(self.dset_name, {ROWS})
        self.data_manager.write_data(self.dset_name, rows, np.arange(rows.start, rows.stop) + 1)
        return rows

class Hits(H5FlowStage):
    """Two for each row; the dataset is made with the first slice, as real stages do."""

    made = False

    def run(self, source_name, source_slice, cache):
        if source_slice.start == {KILLED_AT} * {ROWS}:
            os.kill(os.getpid(), signal.SIGKILL)
        if not self.made:
            self.data_manager.create_dset("hits", [("id", "u4"), ("x", "f4", (3,))])
            self.data_manager.create_ref(source_name, "hits")
            self.data_manager.set_attrs("hits", colour="red")
            self.made = True
        rows = self.data_manager.reserve_data("hits", 2 * {ROWS})
        ids = np.arange(rows.start, rows.stop)
        hits = np.zeros(len(ids), [("id", "u4"), ("x", "f4", (3,))])
        hits["id"], hits["x"] = ids, 1.5
        self.data_manager.write_data("hits", rows, hits)
        parents = np.repeat(np.arange(source_slice.start, source_slice.stop), 2)
        self.data_manager.write_ref(source_name, "hits", np.c_[parents, ids])
'''
WORKFLOW = """
flow: {source: source, stages: [hits]}
source: {classname: Source, path: parts, dset_name: raw}
hits: {classname: Hits, path: parts}
"""
# With a checkpoint after each slice, since the runs of tests are over before the second one is due.
SCRIPT = """
import sys
from h5flow.data.file import checkpoints
checkpoints.PERIOD = checkpoints.PATIENCE = 0.0
from h5flow.cli import main
sys.exit(main())
"""


@pytest.fixture
def killed(folder):
    """Runs a workflow that is killed on a slice; gives what it leaves."""
    folder.write("parts.py", PARTS)
    folder.write("workflow.yaml", WORKFLOW)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, "workflow.yaml", "-o", "out.h5", *arguments],
            cwd=folder.path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        return folder.path / "out.h5.partial"

    return run


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("compression", [(), ("-z", "gzip"), ("-z", "lzf")], ids=["plain", "gzip", "lzf"])
def test_what_was_written_can_be_read(killed, folder, mode, compression):
    """Up to the last checkpoint; compressed datasets without the chunk that isn't whole yet."""
    settings = ("--set", f"runtime.mode={mode}", "--set", "runtime.max_in_flight=5")
    with h5py.File(killed(*settings, *compression), "r") as file:
        raw, hits, ref = file["raw/data"][:], file["hits/data"][:], file["raw/ref/hits/ref"][:]
        regions, chunk = file["raw/ref/hits/ref_region"][:], file["raw/data"].chunks[0]
        assert file["hits"].attrs["colour"] == "red"
        assert file["h5flow/run_0001"].attrs["status"] == "running"
    there = KILLED_AT * ROWS
    assert not (folder.path / "out.h5").exists()
    if compression:
        assert len(raw) % chunk == 0
        assert len(raw) > there - 10 * ROWS - chunk
    elif mode == "sequential":
        assert (len(raw), len(hits), len(ref)) == (there, 2 * there, 2 * there)
    # In pipelined mode the last slices may have been on their way, and were reserved.
    whole = min(len(raw), there - 10 * ROWS)
    assert raw[:whole].tolist() == list(range(1, whole + 1))
    many = min(len(hits), 2 * (there - 10 * ROWS))
    assert hits["id"][:many].tolist() == list(range(many))
    assert (hits["x"][:many] == 1.5).all()
    pairs = min(len(ref), 2 * (there - 10 * ROWS))
    assert ref[:pairs].tolist() == np.c_[np.arange(pairs) // 2, np.arange(pairs)].tolist()
    some = min(len(regions), pairs // 2)
    assert regions["start"][:some].tolist() == list(range(0, 2 * some, 2))
    assert regions["stop"][:some].tolist() == list(range(2, 2 * some + 2, 2))


@pytest.mark.parametrize("libver", ["earliest", "v108"])
def test_an_output_that_began_as_a_copy_can_be_read(killed, folder, libver):
    """Files of older programs, and such that h5py makes when nobody says otherwise."""
    with h5py.File(folder.path / "out.h5", "w", libver=(libver, "latest")) as file:
        file.create_dataset("old/data", data=np.arange(5000), maxshape=(None,), chunks=(100,))
    before = (folder.path / "out.h5").read_bytes()
    with h5py.File(killed("--set", "runtime.mode=sequential"), "r") as file:
        assert file["old/data"][:].tolist() == list(range(5000))
        assert len(file["raw/data"]) == KILLED_AT * ROWS
    assert (folder.path / "out.h5").read_bytes() == before


def test_a_mark_that_another_program_has_left_is_explained(folder):
    """HDF5 marks files of newer formats while they are written, and refuses them when their program was killed."""
    folder.write("parts.py", PARTS)
    folder.write("workflow.yaml", "flow: {source: old, stages: []}\n")
    script = """
import h5py, os, signal
file = h5py.File("in.h5", "w", libver="latest")
file.create_dataset("old/data", data=range(10))
file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], cwd=folder.path, timeout=50, check=False)
    done = folder.run("workflow.yaml", "-i", "in.h5", "-o", "out.h5")
    assert done.code == 1
    assert "'h5clear -s' makes it readable" in done.err


GROWS = """
import os, signal, sys
import numpy as np
from h5flow.data import H5FlowDataManager
from h5flow.data.file import checkpoints
from h5flow.data.storage import SerialStorage
checkpoints.PERIOD = checkpoints.PATIENCE = 0.0
dm = H5FlowDataManager("out.h5", compression=sys.argv[1])
random = np.random.default_rng(1)
for rows in (15_000, 25_000):
    for name in "xyz":
        dm.create_dset(name, "u8")
        dm.write_data(name, dm.reserve_data(name, rows), random.integers(0, 1 << 63, rows, "u8"))
    if rows == 25_000:
        SerialStorage.flush = lambda self: os.kill(os.getpid(), signal.SIGKILL)
    dm.data_file.settle()
"""


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_longer_chunks_come_into_being_with_a_checkpoint(folder, compression):
    """The last of them moves when it is filled, so until then the file has the short ones, whose place is kept."""
    done = subprocess.run(
        [sys.executable, "-c", GROWS, compression], cwd=folder.path, timeout=50, check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    random = np.random.default_rng(1)
    with h5py.File(folder.path / "out.h5") as file:
        for name in "xyz":
            wanted, found = random.integers(0, 1 << 63, 15_000, "u8"), file[f"{name}/data"][:]
            assert len(found) > 14_000
            np.testing.assert_array_equal(found[:15_000], wanted[: len(found)])
