"""The h5py objects that a data manager hands out: what is found through them sees the buffer, too."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager, dereference
from h5flow.errors import DataMismatch


@pytest.fixture
def dm(tmp_path: Path):
    with H5FlowDataManager(str(tmp_path / "out.h5")) as manager:
        for name in ("A", "B"):
            manager.create_dset(name, "i8")
            manager.reserve_data(name, 3)
        manager.close_file()
        manager.reserve_data("A", 3)
        manager.write_data("A", slice(0, 6), np.arange(6))
        yield manager


FOUND = {
    "file": lambda dm: dm.get_dset("A").file["A/data"],
    "file of file": lambda dm: dm.get_dset("A").file.file["A"].file["A/data"],
    "parent": lambda dm: dm.get_dset("A").parent["data"],
    "parent of parent": lambda dm: dm.get_dset("A").parent.parent["A/data"],
    "file of a group": lambda dm: dm["B"].file["A/data"],
    "get": lambda dm: dm.fh.get("A/data"),
    "get from a group": lambda dm: dm["A"].get("data"),
    "values": lambda dm: next(iter(dm["A"].values())),
    "values of the file": lambda dm: next(iter(dm.fh.values()))["data"],
    "items": lambda dm: next(iter(dm["A"].items()))[1],
    "dict": lambda dm: dict(dm["A"])["data"],
    "require": lambda dm: dm.fh.require_dataset("A/data", (6,), "i8"),
    "require group": lambda dm: dm.fh.require_group("A")["data"],
    "visit": lambda dm: dm.fh.visititems(lambda path, found: found if path == "A/data" else None),
}


@pytest.mark.parametrize("how", FOUND)
def test_what_is_found_is_buffered(dm, how):
    found = FOUND[how](dm)
    dm.reserve_data("A", 2)
    dm.write_data("A", slice(6, 8), [6, 7])
    assert isinstance(found, h5py.Dataset)
    assert found[:].tolist() == list(range(8))
    assert len(found) == 8
    found[1:3] = 9
    assert dm["A", :].tolist() == [0, 9, 9, 3, 4, 5, 6, 7]


def test_get_answers_as_h5py_does(dm):
    assert dm.fh.get("C") is None
    assert dm.fh.get("C", 5) == 5
    assert dm.fh.get("A/data", getclass=True) is h5py.Dataset
    assert isinstance(dm.fh.get("A", getlink=True), h5py.HardLink)
    assert list(dm.fh) == list(dm.fh.keys()) == ["A", "B"]
    paths: list[str] = []
    assert dm.fh.visit(paths.append) is None
    assert paths == ["A", "A/data", "B", "B/data"]


def test_following_references_by_handles(dm):
    """Where no region table says how many rows there are, it is the dataset itself, buffered rows included."""
    dm.create_ref("A", "B")
    dm.write_ref("A", "B", [[5, 1]])
    ref, direction = dm.get_ref("A", "B")
    dm.reserve_data("A", 1)
    assert dereference(-2, ref, ref_direction=direction).tolist() == [[1]]
    assert dereference(slice(-2, None), ref, ref_direction=direction).tolist() == [[1], [None]]


class TestMaking:
    @pytest.mark.parametrize(
        "make",
        [
            lambda fh: fh.create_dataset("new/data", (2,), "i8", maxshape=(None,), chunks=(4,)),
            lambda fh: fh.require_dataset("new/data", (2,), "i8", maxshape=(None,), chunks=(4,)),
            lambda fh: fh.create_group("new").create_dataset("data", (2,), "i8", maxshape=(None,), chunks=(4,)),
            lambda fh: fh.require_group("new").create_dataset(b"data", (2,), "i8", maxshape=(None,), chunks=(4,)),
        ],
    )
    def test_a_dataset(self, dm, make):
        assert not dm.dset_exists("new")
        made = make(dm.fh)
        assert dm.reserve_data("new", 1) == slice(2, 3)
        dm.write_data("new", slice(1, 3), [5, 6])
        assert made[:].tolist() == [0, 5, 6]
        made[0] = 4
        assert dm["new", :].tolist() == [4, 5, 6]

    def test_by_assigning(self, dm):
        dm.fh["new/data"] = np.arange(3)
        dm.write_data("new", slice(0, 1), [7])
        assert dm.fh["new/data"][:].tolist() == [7, 1, 2]
        assert dm.fh.create_dataset(None, (2,), "i8").shape == (2,)

    def test_a_copy_has_what_is_buffered(self, dm):
        file = dm.fh
        dm.write_data("A", slice(0, 1), [8])
        file.copy("A", "C")
        assert dm["C", :].tolist() == dm["A", :].tolist() == [8, 1, 2, 3, 4, 5]

    def test_references_are_found_as_soon_as_they_are_there(self, dm, tmp_path):
        assert not dm.ref_exists("A", "B")
        with H5FlowDataManager(str(tmp_path / "other.h5")) as other:
            for name in ("A", "B"):
                other.create_dset(name, "i8")
            other.create_ref("A", "B")
            for path in ("A/ref", "B/ref"):
                other.fh.copy(path, dm.fh, path)
        dm.fh.create_group("anything")
        assert dm.ref_exists("A", "B")


def test_moving(dm):
    file = dm.fh
    dm.write_data("A", slice(0, 1), [8])
    file.move("A", "Z")
    assert not dm.dset_exists("A")
    assert dm["Z", :].tolist() == [8, 1, 2, 3, 4, 5]


class TestRegionTables:
    """They are as long as the dataset that they belong to."""

    def lengths(self, dm) -> tuple[int, int]:
        dm.close_file()
        with h5py.File(dm.filepath) as file:
            return len(file["A/ref/B/ref_region"]), len(file["B/ref/A/ref_region"])

    def test_of_references_that_nobody_looks_at(self, dm):
        dm.close_file()
        dm.create_ref("A", "B")
        assert self.lengths(dm) == (6, 3)

    @pytest.mark.parametrize("how", ["get_dset", "get"])
    def test_of_datasets_that_grow_through_a_handle(self, dm, how):
        dm.create_ref("A", "B")
        assert self.lengths(dm) == (6, 3)
        (dm.get_dset("B") if how == "get_dset" else dm.fh.get("B/data")).resize((5,))
        assert self.lengths(dm) == (6, 5)


@pytest.mark.parametrize("dtype", ["i8", [("x", "i4"), ("y", "f8")]])
@pytest.mark.parametrize("row_shape", [(2,), (2, 3)])
def test_masks_of_elements(dm, tmp_path, dtype, row_shape):
    """As h5py has them."""
    shape = (5, *row_shape)
    draw = np.random.default_rng(7)
    dm.create_dset("wide", dtype, row_shape)
    dm.reserve_data("wide", 5)
    with h5py.File(tmp_path / "oracle.h5", "w") as file:
        oracle = file.create_dataset("wide", shape, dtype)
        handle = dm.get_dset("wide")
        for mask in (draw.random(shape) < 0.4, np.zeros(shape, bool), np.ones(shape, bool)):
            values = draw.integers(0, 99, int(mask.sum()))
            if not isinstance(dtype, str):
                values = np.rec.fromarrays([values, values / 2], dtype=np.dtype(dtype))
            for dataset in (oracle, handle):
                if mask.any():
                    dataset[mask] = values
            assert handle[:].tobytes() == oracle[:].tobytes()
            assert handle[mask].tolist() == oracle[mask].tolist()
        with pytest.raises((DataMismatch, TypeError)):
            handle[np.ones((4, *row_shape), bool)] = 1
