"""Generators that open their input with `driver="mpio"`, as users' do where `H5FLOW_MPI` is true."""

from __future__ import annotations

import h5py
import pytest

MODULE = """
import h5py
from h5flow.core import H5FLOW_MPI, H5FlowGenerator

class Read(H5FlowGenerator):
    def __init__(self, **params):
        super().__init__(**params)
        assert H5FLOW_MPI
        self.file = h5py.File(self.input_filename, 'r', driver='mpio', comm=self.comm)
        self.rows = iter(range(self.rank, len(self.file['x']), self.size))

    def init(self):
        self.data_manager.create_dset(self.dset_name, 'i8')

    def next(self):
        row = next(self.rows, None)
        with self.file['x'].collective:
            value = self.file['x'][row if row is not None else slice(0, 0)]
        if row is None:
            return self.EMPTY
        rows = self.data_manager.reserve_data(self.dset_name, 1)
        self.data_manager.write_data(self.dset_name, rows, value)
        return rows
"""


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "reading.py").write_text(MODULE)
    (tmp_path / "flow.yaml").write_text(
        "flow: {source: read}\nread: {classname: Read, path: reading, dset_name: raw}\n"
    )
    for name in ("a", "b"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = [ord(name), 1, 2, 3]
    return tmp_path


def rows(path):
    with h5py.File(path) as file:
        return sorted(file["raw/data"][:].tolist())


def test_on_two_ranks(ranks, inputs):
    for command in (("flow.yaml", "-i", "a.h5", "-o", "out.h5", "-v"), ("plan", "flow.yaml", "-i", "a.h5")):
        ended = ranks(2, "-m", "h5flow", *command)
        assert ended.code == 0, ended
        if command[0] != "plan" and not h5py.get_config().mpi:
            assert "not with driver='mpio', since h5py is built without MPI" in ended.err
    assert rows(inputs / "out.h5") == [1, 2, 3, ord("a")]


def test_in_a_farm(ranks, inputs):
    ended = ranks(2, "-m", "h5flow", "flow.yaml", "-i", "a.h5", "b.h5", "-o", "out/{stem}.h5")
    assert ended.code == 0, ended
    for name in ("a", "b"):
        assert rows(inputs / f"out/{name}.h5") == [1, 2, 3, ord(name)]
