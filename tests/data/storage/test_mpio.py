"""Files opened with `driver="mpio"` by components, where h5py is built without MPI."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager
from h5flow.data.storage import mpio
from h5flow.errors import NoParallelFiles

pytestmark = pytest.mark.skipif(h5py.get_config().mpi, reason="this h5py is built with MPI, and opens them itself")


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["x"] = np.arange(5)
    H5FlowDataManager(str(tmp_path / "out.h5"))  # as a run makes one before its components
    mpio._tell.cache_clear()
    return tmp_path / "in.h5"


@pytest.mark.parametrize(
    "options", [{}, {"comm": None, "info": None}, {"comm": object(), "libver": "latest", "rdcc_nbytes": 1 << 20}]
)
@pytest.mark.parametrize("mode", [(), ("r",)])
def test_are_read(path, options, mode, caplog):
    caplog.set_level("INFO", logger="h5flow")
    for _ in range(2):
        with h5py.File(path, *mode, driver="mpio", **options) as file:
            assert file.mode == "r"
            with file["x"].collective:
                assert file["x"][:].tolist() == [0, 1, 2, 3, 4]
            with pytest.raises((OSError, RuntimeError, ValueError)):
                file["x"][0] = 5
    assert caplog.messages == [
        f"'{path}' is read by each rank by itself, not with driver='mpio', since h5py is built without MPI"
    ]


@pytest.mark.parametrize("mode", ["r+", "a", "w", "x", "w-"])
def test_are_not_written(path, mode):
    before = path.read_bytes()
    says = re.escape(f"in.h5' can't be opened with driver='mpio' in mode '{mode}', since h5py is built without MPI")
    with pytest.raises(ValueError, match=says):
        h5py.File(path, mode, driver="mpio", comm=None)
    with pytest.raises(NoParallelFiles, match="write through the data manager"):
        h5py.File(str(path), mode=mode, driver="mpio")
    assert path.read_bytes() == before


def test_by_a_class_of_users_own(path):
    class Own(h5py.File):
        def __init__(self, place, **options):
            super().__init__(place, "r", **options)

    with Own(path, driver="mpio", comm=None) as file:
        assert len(file["x"]) == 5


def test_other_drivers_stay(path):
    with h5py.File(path, "r+", driver="core", backing_store=False) as file:
        file["x"][0] = 7
    with h5py.File(path, "r+", driver="sec2") as file:
        file["x"][0] = 8
    with pytest.raises(TypeError, match="comm"):
        h5py.File(path, comm=None)
