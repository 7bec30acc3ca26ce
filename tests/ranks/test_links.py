"""A source that lies in another file: what a run adds goes into the output."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

MODULE = """
from h5flow.core import H5FlowStage
import numpy as np

class Double(H5FlowStage):
    def init(self, source_name):
        self.data_manager.create_dset("double", "i8")
        self.data_manager.create_dset(source_name + "/below", "i8")
        self.data_manager.create_ref(source_name, "double")
        self.data_manager.set_attrs(source_name, made_by="a stage")

    def run(self, source_name, source_slice, cache):
        values = 2 * cache[source_name]
        rows = self.data_manager.reserve_data("double", len(values))
        self.data_manager.write_data("double", rows, values)
        below = self.data_manager.reserve_data(source_name + "/below", len(values))
        self.data_manager.write_data(source_name + "/below", below, values)
        parents = np.arange(source_slice.start, source_slice.stop) if len(values) else np.zeros(0, int)
        self.data_manager.write_ref(source_name, "double", np.c_[parents, np.r_[rows]])
        found = self.data_manager[source_name, "double", source_slice]
        assert found.shape == (len(values), 1) and (found[:, 0] == values).all()

    def finish(self, source_name):
        assert self.data_manager.get_attrs(source_name)["unit"] == "mm"
        self.data_manager.delete(source_name + "/old")
        assert not self.data_manager.exists(source_name + "/old")
"""


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("source", ["ext", "soft"])
def test_a_run_on_it(ranks, tmp_path, count, mode, source, storages):
    with h5py.File(tmp_path / "other.h5", "w", libver="latest") as file:
        file.create_dataset("A/data", data=np.arange(22), maxshape=(None,), chunks=(4,))
        file["A"].attrs["unit"] = "mm"
        file["A/old/data"] = np.arange(3)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["ext"] = h5py.ExternalLink("other.h5", "/A")
        file["soft"] = h5py.SoftLink("ext")
    (tmp_path / "stage.py").write_text(MODULE)
    (tmp_path / "flow.yaml").write_text(
        f"runtime: {{mode: {mode}}}\nflow: {{source: {source}, stages: [double]}}\n"
        "double: {classname: Double, path: stage}\n"
    )
    before = [(tmp_path / name).read_bytes() for name in ("in.h5", "other.h5")]
    for storage in storages if count > 1 else ["auto"]:
        command = ("flow.yaml", "-i", "in.h5", "-o", "out.h5", "--set", f"runtime.storage={storage}")
        ended = ranks(count, "-m", "h5flow", *command)
        assert ended.code == 0, ended
        assert [(tmp_path / name).read_bytes() for name in ("in.h5", "other.h5")] == before
        with h5py.File(tmp_path / "out.h5") as file:
            pairs, values = file[f"{source}/ref/double/ref"], file["double/data"][:]
            assert pairs.file.filename == str(tmp_path / "out.h5")
            assert sorted(values) == list(range(0, 44, 2))
            assert (values[pairs[:, 1]] == 2 * pairs[:, 0].astype(int)).all()
            assert sorted(pairs[:, 0]) == list(range(22))
            assert dict(file[source].attrs) == {"unit": "mm", "made_by": "a stage"}
            assert sorted(file[f"{source}/below/data"][:]) == list(range(0, 44, 2))
            assert file[f"{source}/data"][:].tolist() == list(range(22))
            assert sorted(file[source]) == ["below", "data", "ref"]
        (tmp_path / "out.h5").unlink()


LOOKING = """
from h5flow.core import H5FlowStage
import numpy as np

class Look(H5FlowStage):
    def init(self, source_name):
        if len(self.data_manager[source_name, :]):  # none in a plan
            for name in ("ext", "virtual", "raw"):
                assert self.data_manager[name, :].tolist() == list(range(22)), (name, self.data_manager[name, :])

    def run(self, source_name, source_slice, cache):
        found = cache["C"].filled(-1)
        for row, children in zip(range(source_slice.start, source_slice.stop), found):
            assert children.tolist() == ([2] if row == 5 else [-1])
        for name in ("ext", "virtual", "raw"):
            assert (cache[name] == np.arange(source_slice.start, source_slice.stop)).all()
"""


@pytest.mark.parametrize("count", [1, 2])
def test_rows_in_other_files_beside_an_input_that_lies_elsewhere(ranks, tmp_path, count):
    place = tmp_path / "data"
    place.mkdir()
    with h5py.File(place / "other.h5", "w", libver="latest") as file:
        file.create_dataset("A/data", data=np.arange(22), maxshape=(None,), chunks=(4,))
        file.create_dataset("C/data", data=np.arange(3), maxshape=(None,), chunks=(4,))
        file.create_dataset("ext/ref/C/ref", data=np.array([[5, 2]], "u4"), maxshape=(None, 2), chunks=(4, 2))
        file["A/ref"] = file["ext/ref"]
    np.arange(22).tofile(tmp_path / "rows.raw")  # HDF5 looks for it in the working directory
    with h5py.File(place / "in.h5", "w") as file:
        file["ext"] = h5py.ExternalLink("other.h5", "/A")
        file["C"] = h5py.ExternalLink("other.h5", "/C")
        sheet = h5py.VirtualLayout((22,), "i8")
        sheet[:] = h5py.VirtualSource("other.h5", "/A/data", (22,))
        file.create_virtual_dataset("virtual/data", sheet)
        file.create_dataset("raw/data", (22,), "i8", external=[("rows.raw", 0, 22 * 8)])
    (tmp_path / "stage.py").write_text(LOOKING)
    (tmp_path / "flow.yaml").write_text(
        "flow: {source: ext, stages: [look]}\nlook: {classname: Look, path: stage, requires: [ext, virtual, raw, C]}\n"
    )
    files = [place / "in.h5", place / "other.h5", tmp_path / "rows.raw"]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    for command in (("check", "flow.yaml"), ("flow.yaml", "flow.yaml", "-o", "out.h5")):
        ended = ranks(count, "-m", "h5flow", *command, "-i", "data/in.h5")
        assert ended.code == 0, ended
        assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before
