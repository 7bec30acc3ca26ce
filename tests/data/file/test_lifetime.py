"""When a file is written and closed without being told to, and what old handles do afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager
from h5flow.errors import H5FlowError


def filled(path: Path, **options) -> H5FlowDataManager:
    dm = H5FlowDataManager(str(path), **options)
    for name in ("A", "B", "dropped"):
        dm.create_dset(name, "i8")
        dm.reserve_data(name, 3)
        dm.write_data(name, slice(0, 3), [1, 2, 3])
    dm.create_ref("A", "B")
    dm.write_ref("A", "B", [[0, 1], [2, 2]])
    return dm


def is_complete(path: Path) -> bool:
    with h5py.File(path) as file:
        return file["A/data"][()].tolist() == [1, 2, 3] and file["A/ref/B/ref"][()].tolist() == [[0, 1], [2, 2]]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class TestWithoutFinish:
    def test_a_deleted_manager_leaves_a_complete_file(self, tmp_path):
        dm = filled(tmp_path / "out.h5", drop_list=["dropped"])
        view = dm.view()
        assert dm["dropped", :].tolist() == [1, 2, 3]
        del dm
        assert view["A", :].tolist() == [1, 2, 3]
        del view
        assert is_complete(tmp_path / "out.h5")
        assert names_in(tmp_path) == ["out.h5"]
        with h5py.File(tmp_path / "out.h5") as file:
            assert "dropped" not in file
        h5py.File(tmp_path / "out.h5", "w").close()  # which it can't do while the file is open

    def test_objects_outlive_their_manager(self, tmp_path):
        dataset = filled(tmp_path / "out.h5").get_dset("A")
        group = filled(tmp_path / "other.h5")["A"]
        file = filled(tmp_path / "third.h5").fh
        dataset[1] = group["data"][1] = file["A/data"][1]
        assert (dataset[:].tolist(), group["data"][:].tolist(), file["A/data"][:].tolist()) == ([1, 2, 3],) * 3
        del dataset, group, file
        assert is_complete(tmp_path / "out.h5")
        assert is_complete(tmp_path / "other.h5")
        for path in tmp_path.iterdir():
            h5py.File(path, "w").close()

    def test_so_do_attributes_and_scalars(self, tmp_path):
        path = tmp_path / "out.h5"
        filled(path).set_attrs("A", key=5)
        attrs = filled(path)["A"].attrs
        filled(path).fh["scalar"] = 3
        scalar = filled(path).fh["scalar"]
        assert (attrs["key"], scalar[()]) == (5, 3)
        del attrs, scalar
        h5py.File(path, "w").close()

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("", ""),
            ("import tempfile; early = tempfile.TemporaryDirectory()", ""),  # exit handlers run before h5py's
            ("", "raise SystemExit('wrong')"),
            ("", "dm.self = dm"),
            ("", "if not os.fork(): dm.write_data('A', slice(0, 1), [9]); sys.exit()\nos.wait()"),
        ],
    )
    def test_a_script_that_ends_leaves_a_complete_file(self, tmp_path, before, after):
        script = f"""
{before}
import os, sys
from h5flow.data import H5FlowDataManager
dm = H5FlowDataManager("out.h5", drop_list=["dropped"])
for name in ("A", "B", "dropped"):
    dm.create_dset(name, "i8")
    dm.reserve_data(name, 3)
    dm.write_data(name, slice(0, 3), [1, 2, 3])
dm.create_ref("A", "B")
dm.write_ref("A", "B", [[0, 1], [2, 2]])
keep = dm.get_dset("A"), dm.fh
dm.reserve_data("B", 2)
{after}
"""
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=50)
        assert "Traceback" not in done.stderr
        assert is_complete(tmp_path / "out.h5")
        assert names_in(tmp_path) == ["out.h5"]
        with h5py.File(tmp_path / "out.h5") as file:
            assert len(file["B/data"]) == len(file["B/ref/A/ref_region"]) == 5

    def test_an_abandoned_file_is_not_touched_again(self, tmp_path):
        dm = filled(tmp_path / "out.h5", drop_list=["dropped"])
        dm.data_file.abandon()
        (tmp_path / "out.h5").unlink()
        del dm
        assert names_in(tmp_path) == []

    def test_closing_the_h5py_file_keeps_what_is_buffered(self, tmp_path):
        dm = filled(tmp_path / "out.h5")
        with dm.fh as file:
            dm.write_data("B", [0], [7])
            assert file.mode == "r+"
        assert not file
        assert dm["B", :].tolist() == [7, 2, 3]


class TestOldHandles:
    @pytest.mark.parametrize(
        "use",
        [
            lambda handle: handle[:],
            lambda handle: handle[0:2],
            lambda handle: handle.take(np.array([0, 2])),
            lambda handle: handle[[0, 2]],
            lambda handle: handle[0],
            lambda handle: len(handle),
            lambda handle: handle.shape,
            lambda handle: np.asarray(handle),
            lambda handle: handle.__setitem__(0, 1),
            lambda handle: handle.resize((9,)),
        ],
    )
    @pytest.mark.parametrize("how", ["closed", "deleted", "deleted through h5py", "moved"])
    def test_they_do_not_answer(self, tmp_path, how, use):
        dm = filled(tmp_path / "out.h5")
        handle = dm.get_dset("A")
        if how == "closed":
            dm.close_file()
        elif how == "deleted":
            dm.delete("A")
        elif how == "deleted through h5py":
            del dm.fh["A"]
        else:
            dm.fh.move("A", "C")
        if how != "closed":
            dm.create_dset("A", "i8")
            dm.reserve_data("A", 5)
        assert not handle
        assert "Closed" in repr(handle)
        with pytest.raises(ValueError) as caught:
            use(handle)
        assert isinstance(caught.value, H5FlowError)
        assert "out.h5' has been closed" in str(caught.value) or "'/A/data' has been deleted" in str(caught.value)
        dm.finish()
        assert "A" in H5FlowDataManager(str(tmp_path / "out.h5"), "r").fh

    def test_new_ones_do(self, tmp_path):
        dm = filled(tmp_path / "out.h5")
        dm.close_file()
        assert dm.get_dset("A")[:].tolist() == [1, 2, 3]
        dm.finish()
