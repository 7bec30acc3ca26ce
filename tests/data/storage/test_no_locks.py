"""File systems without locks, as NFS, Lustre and DVS may be: files are opened without one where that is safe."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager
from h5flow.data.file.output_file import OutputFile
from h5flow.errors import FileError

NUMBERS = {
    37: "No locks available",
    38: "Function not implemented",
    95: "Operation not supported",
    524: "Unknown error",
}


@pytest.fixture
def lock_fails(monkeypatch):
    """Has locks fail with an error number, as HDF5 and the operating system tell it."""
    plain = h5py.File.__init__

    def fail(number):
        def opened(self, path, *arguments, **options):
            locked = options.get("locking") is not False or "HDF5_USE_FILE_LOCKING" in os.environ
            if not locked or not isinstance(path, str):  # which then is an object of an open file
                return plain(self, path, *arguments, **options)
            raise OSError(
                number,
                f"Unable to synchronously open file (unable to lock file, errno = {number}, error message ="
                f" '{NUMBERS.get(number, 'Resource temporarily unavailable')}')",
            )

        def flock(*_):
            raise OSError(number, NUMBERS.get(number, ""))

        monkeypatch.setattr(h5py.File, "__init__", opened)
        monkeypatch.setattr(fcntl, "flock", flock)

    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    return fail


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("A/data", data=np.arange(5), maxshape=(None,))
    return str(tmp_path / "in.h5")


@pytest.mark.parametrize("number", NUMBERS)
class TestWithoutLocks:
    def test_a_file_is_read(self, path, lock_fails, number, caplog):
        caplog.set_level("INFO", logger="h5flow")
        lock_fails(number)
        with H5FlowDataManager(path, "r") as dm:
            assert dm["A", :].tolist() == [0, 1, 2, 3, 4]
        assert f"'{path}' is open without a lock, which its file system doesn't have" in caplog.text

    def test_an_output_is_written(self, tmp_path, path, lock_fails, number):
        lock_fails(number)
        output = OutputFile(str(tmp_path / "out.h5"))
        output.prepare(path)
        with H5FlowDataManager(str(tmp_path / "out.h5"), output=output, drop_list=["B"]) as dm:
            dm.reserve_data("A", 1)
            dm.create_dset("B", "i4")
        output.publish()
        with H5FlowDataManager(str(tmp_path / "out.h5"), "r") as dm:
            assert dm["A", :].tolist() == [0, 1, 2, 3, 4, 0]

    def test_a_file_that_others_may_write_is_not(self, path, lock_fails, number):
        lock_fails(number)
        says = rf"in.h5' can't be locked, which its file system doesn't do \(.*errno = {number}.*FILE_LOCKING=FALSE"
        with pytest.raises(FileError, match=says):
            _ = H5FlowDataManager(path).fh

    def test_what_the_environment_asks_for_holds(self, path, lock_fails, number, monkeypatch):
        lock_fails(number)
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
        with pytest.raises(FileError, match="take HDF5_USE_FILE_LOCKING=TRUE out of the environment"):
            _ = H5FlowDataManager(path, "r").fh


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_file_that_is_locked_is_open_elsewhere(path, lock_fails, mode):
    lock_fails(11)
    with pytest.raises(FileError, match="is open in another program; close it there first"):
        _ = H5FlowDataManager(path, mode).fh


SHIM = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int operation) { errno = atoi(getenv("FLOCK_FAILS")); return -1; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="NOT RUN: needs gcc")
@pytest.mark.parametrize("number", [37, 524])
def test_a_workflow_where_the_operating_system_has_no_locks(tmp_path, path, number):
    (tmp_path / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "shim.so", "shim.c"], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "flow.yaml").write_text(
        "flow: {source: A, stages: [t], drop: [gone]}\nt: {classname: H5FlowTestStage}\n"
    )
    environment = {
        **{key: value for key, value in os.environ.items() if key != "HDF5_USE_FILE_LOCKING"},
        "LD_PRELOAD": str(tmp_path / "shim.so"),
        "FLOCK_FAILS": str(number),
    }
    command = [sys.executable, "-m", "h5flow", "flow.yaml", "-i", Path(path).name, "-o", "out.h5", "--nompi"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["A/data"][:].tolist() == [0, 1, 2, 3, 4]
