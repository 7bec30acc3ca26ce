"""How long chunks are: those that h5py would take, those on disk, and the slices of a loop over them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from hypothesis import given
from hypothesis import strategies as st

from h5flow.data import H5FlowDataManager
from h5flow.data.storage.chunks.length import guessed_chunk, slice_rows

# Rows of so many bytes, and the chunks that users' files have for them.
KNOWN = {
    1: 1024, 8: 1024, 12: 512, 16: 512, 28: 256, 36: 256, 48: 128, 76: 128,
    124: 64, 684: 16, 2324: 8, 32768: 2, 65536: 1,
}  # fmt: skip


@given(item=st.integers(1, 1 << 22), shape=st.lists(st.integers(0, 5000), max_size=3))
def test_guess_is_that_of_h5py(item: int, shape: list[int]) -> None:
    with h5py.File("guess", "w", driver="core", backing_store=False) as file:
        made = file.create_dataset(
            "x", shape=(0, *shape), maxshape=(None, *shape), chunks=True, dtype=np.dtype((np.void, item))
        )
        assert guessed_chunk(item, tuple(shape)) == made.chunks


@pytest.mark.parametrize(("size", "rows"), KNOWN.items())
def test_slices_of_what_was_written_here(size: int, rows: int, tmp_path: Path) -> None:
    """However many rows there are, and however they came to be in the file."""
    path = tmp_path / "a.h5"
    for _ in range(2):
        with H5FlowDataManager(str(path)) as dm:
            dm.create_dset("x", f"V{size}")
            dm.reserve_data("x", 400_000 // size + 1)
            assert slice_rows(dm.get_dset("x")) == rows
    with h5py.File(path) as file:
        assert slice_rows(file["x/data"]) == rows


@pytest.mark.parametrize("chunk", [3, 16384, None])
def test_slices_of_what_others_have_written(chunk: int | None, tmp_path: Path) -> None:
    """16,384 is what rows of eight bytes would get here. As HDF5 does it: h5py before 3.11 marked its datasets, too."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        creation = h5p.create(h5p.DATASET_CREATE)
        if chunk is not None:
            creation.set_chunk((chunk,))
        space = h5s.create_simple((50_000,), (50_000 if chunk is None else h5s.UNLIMITED,))
        made = h5py.Dataset(h5d.create(file.create_group("x").id, b"data", h5t.IEEE_F64LE, space, creation))
        assert slice_rows(made) == (chunk or 1024)


@pytest.mark.parametrize("arguments", [["-f", "GZIP=1"], ["-f", "NONE"]])
def test_slices_stay_the_same_when_a_file_is_compressed_afterwards(arguments: list[str], tmp_path: Path) -> None:
    h5repack = shutil.which("h5repack")
    if h5repack is None:
        pytest.skip("h5repack isn't installed (apt-get install hdf5-tools)")
    with H5FlowDataManager(str(tmp_path / "a.h5")) as dm:
        dm.create_dset("x", "f8")
        dm.write_data("x", dm.reserve_data("x", 100_000), 1.5)
    subprocess.run([h5repack, *arguments, tmp_path / "a.h5", tmp_path / "b.h5"], check=True)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["x/data"].chunks == (16384,)
        assert slice_rows(file["x/data"]) == 1024


class TestOnDisk:
    """A dataset begins with short chunks, and gets long ones when it fills one."""

    def test_what_stays_small_is_small(self, tmp_path: Path) -> None:
        """Five datasets, four references: 8 kB of data, which took 660 KiB with long chunks from the start."""
        path = tmp_path / "a.h5"
        with H5FlowDataManager(str(path)) as dm:
            for name in "abcde":
                dm.create_dset(name, [("x", "f8"), ("y", "i8")])
                dm.write_data(name, dm.reserve_data(name, 100), np.zeros(100, [("x", "f8"), ("y", "i8")]))
            for one, other in zip("abcd", "bcde", strict=True):
                dm.create_ref(one, other)
                dm.write_ref(one, other, np.c_[np.arange(100), np.arange(100)])
        assert path.stat().st_size < 200 << 10

    @pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
    @pytest.mark.parametrize("steps", [[16383], [16384], [100, 20_000, 5], [16000, 500], [3, 40_000], [70_000]])
    @pytest.mark.parametrize("again", [False, True])
    def test_rows_survive_longer_chunks(
        self, steps: list[int], compression: str | None, again: bool, tmp_path: Path
    ) -> None:
        """Also where some of them are in the file already, in short chunks; these stay if another run made them."""
        path = str(tmp_path / "a.h5")
        wanted = np.arange(sum(steps)) * 0.5
        start = 0
        dm = H5FlowDataManager(path, compression=compression)
        dm.create_dset("x", "f8")
        for count in steps:
            dm.write_data("x", dm.reserve_data("x", count), wanted[start : start + count])
            start += count
            if again:
                dm.finish()
                dm = H5FlowDataManager(path, compression=compression)
            else:
                dm.fh.flush()
        dm.finish()
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["x/data"][()], wanted)
            assert file["x/data"].chunks == ((16384,) if (steps[0] if again else sum(steps)) >= 16384 else (1024,))
            assert file["x/data"].compression == compression

    def test_references_and_texts(self, tmp_path: Path) -> None:
        """Attributes of references say what they lead to; rows of variable length are no plain bytes."""
        path = str(tmp_path / "a.h5")
        pairs = np.c_[np.arange(40_000), np.arange(40_000)[::-1]]
        with H5FlowDataManager(path) as dm:
            dm.create_dset("a", "u1")
            dm.create_dset("b", h5py.string_dtype())
            dm.create_ref("a", "b")
            for start in range(0, 40_000, 8_000):
                stop = start + 8_000
                dm.write_data("a", dm.reserve_data("a", 8_000), 1)
                texts = np.array([str(n) for n in range(start, stop)], object)
                dm.write_data("b", dm.reserve_data("b", 8_000), texts)
                dm.write_ref("a", "b", pairs[start:stop])
                dm.fh.flush()
        with h5py.File(path) as file:
            ref = file["a/ref/b/ref"]
            assert ref.chunks[0] > 1024
            assert dict(ref.attrs) == {
                "dset0": "/a/data",
                "dset1": "/b/data",
                "ref_region0": "/a/ref/b/ref_region",
                "ref_region1": "/b/ref/a/ref_region",
            }
            np.testing.assert_array_equal(ref[()], pairs)
            assert file["b/ref/a/ref_region"].attrs["ref"] == "/a/ref/b/ref"
            assert file["b/data"].asstr()[()].tolist() == [str(n) for n in range(40_000)]
            regions = file["b/ref/a/ref_region"][()]
            assert regions["start"].tolist() == list(range(40_000))[::-1]

    def test_handles_stay_good(self, tmp_path: Path) -> None:
        """One that was taken before sees, and writes, what is in the longer chunks."""
        with H5FlowDataManager(str(tmp_path / "a.h5")) as dm:
            dm.create_dset("x", "f8")
            handle = dm.get_dset("x")
            dm.write_data("x", dm.reserve_data("x", 1000), 1.0)
            assert handle[999] == 1.0
            dm.fh.flush()
            dm.write_data("x", dm.reserve_data("x", 40_000), 2.0)
            dm.fh.flush()
            handle[5] = 7.0
            assert (handle[0], handle[5], handle[40_999], len(handle)) == (1.0, 7.0, 2.0, 41_000)
            assert handle.chunks == (16384,)
            handle.flush()
        with h5py.File(tmp_path / "a.h5") as file:
            assert file["x/data"][4:7].tolist() == [1.0, 7.0, 1.0]

    def test_what_is_referred_to_stays_the_same_object(self, tmp_path: Path) -> None:
        with H5FlowDataManager(str(tmp_path / "a.h5")) as dm:
            for name in ("x", "y", "z"):
                dm.create_dset(name, "f8")
            dm.set_attrs("x", itself=dm.get_dset("x").ref)
            attributes = dm.get_dset("y").attrs
            region = dm.get_dset("z").regionref[:0]
            moved = dm.get_dset("y").ref
            for name in ("x", "y", "z"):
                dm.write_data(name, dm.reserve_data(name, 100_000), 3.0)
            attributes["late"] = 1
            dm.fh.move("y/data", "moved/data")
            dm.write_data("moved", dm.reserve_data("moved", 10), 3.0)
            dm.set_attrs("z", none=region, some=dm.get_dset("z").regionref[:10])
        with h5py.File(tmp_path / "a.h5") as file:
            assert file[file["x"].attrs["itself"]].shape == (100_000,)
            assert file[moved] == file["moved/data"]
            assert file["moved/data"].attrs["late"] == 1
            for name, rows in (("none", 0), ("some", 10)):
                region = file["z"].attrs[name]
                assert file[region][region].tolist() == [3.0] * rows

    def test_what_others_may_refer_to_stays_the_same_object(self, tmp_path: Path) -> None:
        """What has been done with a dataset since another run has made it, nobody can know."""
        path = str(tmp_path / "a.h5")
        with H5FlowDataManager(path) as dm:
            dm.create_dset("x", "f8")
            dm.write_data("x", dm.reserve_data("x", 10), 1.0)
        with h5py.File(path, "a") as file:
            file["chosen"] = np.array([file["x/data"].ref], h5py.ref_dtype)
            file["link/data"] = h5py.SoftLink("/x/data")
        with H5FlowDataManager(path) as dm:
            dm.write_data("link", dm.reserve_data("link", 99_990), 2.0)
        with h5py.File(path) as file:
            assert file[file["chosen"][0]].shape == (100_000,)
            assert isinstance(file.get("link/data", getlink=True), h5py.SoftLink)
            assert file["x/data"][99_999] == 2.0

    @pytest.mark.parametrize("how", ["linked", "scale", "scaled", "low level", "opened"])
    def test_what_is_in_use_stays_the_same_object(self, how: str, tmp_path: Path) -> None:
        with H5FlowDataManager(str(tmp_path / "a.h5")) as dm:
            dm.create_dset("x", "f8")
            dm.write_data("x", dm.reserve_data("x", 10), 1.0)
            kept: Any = None
            if how == "linked":
                dm.fh["other"] = dm.fh["x/data"]
            elif how == "scale":
                plain = h5py.File(dm.fh.id).create_dataset("other", (10,), "f8")
                h5py.h5ds.attach_scale(plain.id, dm.get_dset("x").id, 0)
            elif how == "scaled":
                plain = h5py.File(dm.fh.id).create_dataset("other", (10,), "f8")
                h5py.h5ds.attach_scale(dm.get_dset("x").id, plain.id, 0)
            elif how == "low level":
                kept = h5py.Dataset(dm.get_dset("x").id)
            else:
                dm.fh.flush()
                kept = h5py.File(dm.fh.id)["x/data"]
            dm.write_data("x", dm.reserve_data("x", 99_990), 1.0)
            dm.fh.flush()
            if kept is not None:
                assert kept.shape == (100_000,)
                kept[5] = 2.0
                kept = None
        with h5py.File(tmp_path / "a.h5") as file:
            rows, other = file["x/data"], file.get("other")
            assert rows.shape == (100_000,)
            if how == "linked":
                assert other == rows
            elif how == "scale":
                assert other.dims[0][0] == rows
            elif how == "scaled":
                assert file[other.attrs["REFERENCE_LIST"][0][0]] == rows
            else:
                assert rows[5] == 2.0

    @pytest.mark.parametrize("length", [0, 2])
    def test_rows_of_variable_length_that_are_all_of_one(self, length: int, tmp_path: Path) -> None:
        with H5FlowDataManager(str(tmp_path / "a.h5")) as dm:
            dm.create_dset("x", h5py.vlen_dtype("i4"))
            rows = dm.reserve_data("x", 100)
            for row in range(*rows.indices(100)) if length else ():
                dm.get_dset("x")[row] = np.full(length, row)
            dm.reserve_data("x", 19_900)
        with h5py.File(tmp_path / "a.h5") as file:
            rows = file["x/data"]
            assert rows.chunks == (16384,)
            assert rows[99].tolist() == [99] * length
            assert rows[19_999].tolist() == []

    def test_a_handle_knows_the_chunks(self, tmp_path: Path) -> None:
        with H5FlowDataManager(str(tmp_path / "a.h5")) as dm:
            dm.create_dset("x", "f8")
            handle = dm.get_dset("x")
            assert handle.chunks == (1024,)
            dm.write_data("x", dm.reserve_data("x", 40_000), 1.0)
            assert next(handle.iter_chunks()) == (slice(0, 16384, 1),)
            assert handle.chunks == (16384,)
