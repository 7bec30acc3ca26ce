"""The data manager against a model of plain Python lists, and against files as h5py sees them."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5flow.data import H5FlowDataManager, print_attr, print_data, print_ref
from h5flow.data.buffer import paged_dataset
from h5flow.errors import DataMismatch, FileError, InvalidReference, NotInFile, RowsOutOfRange

HIT = np.dtype([("id", "u4"), ("q", "f4"), ("xyz", "f4", (3,))])


@pytest.fixture
def dm(tmp_path: Path):
    with H5FlowDataManager(str(tmp_path / "out.h5")) as manager:
        yield manager


def rows_in(path: str, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file[name][()]


class TestRows:
    def test_reserved_rows_hold_zeros(self, dm):
        dm.create_dset("a/b", "f8", shape=(2,))
        assert dm.reserve_data("a/b", 3) == slice(0, 3)
        assert dm.reserve_data("a/b", np.int64(2)) == slice(3, 5)
        dm.write_data("a/b", slice(1, 2), [[1.5, 2.5]])
        expected = [[0, 0], [1.5, 2.5], [0, 0], [0, 0], [0, 0]]
        assert dm["a/b", :].tolist() == expected
        assert dm.get_dset("a/b").shape == (5, 2)
        dm.close_file()
        assert rows_in(dm.filepath, "/a/b/data").tolist() == expected

    @pytest.mark.parametrize(
        ("spec", "length"),
        [
            (slice(0, 2), 5),
            (slice(3, 9), 9),
            (slice(2, None), 5),
            (slice(30, 20), 5),
            (slice(30, None), 5),
            (slice(7, 7), 5),
            (slice(-2, None), 5),
            (slice(None, -2), 5),
            (slice(3, 9, 4), 9),
            (slice(8, 2, -1), 9),
            (slice(8, None, -3), 9),
            (slice(2, 8, -1), 5),
            (slice(None, None, -1), 5),
            (slice(-1, -1), 5),
            ([slice(30, 20), slice(0, 6)], 6),
            ([1, 7], 8),
            (np.array([0, 6]), 7),
            (np.array([], int), 5),
            ([slice(0, 2), slice(4, 12)], 12),
            ([], 5),
            (0, 5),
        ],
    )
    def test_reserving_grows_only_as_far_as_needed(self, dm, spec, length):
        dm.create_dset("a", "i4")
        dm.reserve_data("a", 5)
        got = dm.reserve_data("a", spec)
        assert len(dm.get_dset("a")) == length
        assert got is spec or got == slice(5, 5)

    @pytest.mark.parametrize("spec", [-1, True, 1.0, np.float64(2), "x", [0.5], [True], slice(0, 5, 0)])
    def test_what_is_no_number_of_rows_is_refused(self, dm, spec):
        dm.create_dset("a", "i4")
        with pytest.raises(DataMismatch, match="dataset 'a'"):
            dm.reserve_data("a", spec)
        assert len(dm.get_dset("a")) == 0

    def test_writing_past_the_reserved_rows_names_dataset_and_rows(self, dm):
        dm.create_dset("a", "i4")
        dm.reserve_data("a", 10)
        with pytest.raises(RowsOutOfRange, match=r"^dataset 'a' has 10 rows, rows 8:12 are not reserved$"):
            dm.write_data("a", slice(8, 12), np.arange(4))

    def test_data_of_the_wrong_shape_or_type_names_them(self, dm):
        dm.create_dset("a", "i4", shape=(2,))
        dm.reserve_data("a", 4)
        with pytest.raises(DataMismatch, match=r"dataset 'a', rows 0:4: data of shape \(3,\) and type int64"):
            dm.write_data("a", slice(0, 4), np.arange(3))
        with pytest.raises(DataMismatch, match="dataset 'a', rows 0:4: data of shape"):
            dm.write_data("a", slice(0, 4), np.array([["x", "y"]] * 4))

    @pytest.mark.parametrize(
        ("dtype", "data"),
        [
            ("u1", np.array([0, 255, 7, 1, 100])),
            ("i4", np.array([0.9, -0.9, 2147483647.5, -2147483648.5, 3])),
            ("u8", np.array([-0.9, 0, 2.0**63, 2.0**64 - 2048, 3])),
            ("i2", np.array([True, False, True, True, False])),
            ("f4", np.array([1e300, 0.1, -1e300, np.nan, 2**60])),
            ("f4", np.arange(5, dtype="u8") + 2**53),
            ("?", np.array([True, False, True, True, False])),
            ("S3", np.array([b"abc", b"a", b"", b"xyz", b"q"], "S7")),
            (">i4", np.arange(5)),
            (HIT, np.array([(1, 2.5, (1, 2, 3))] * 5, HIT)),
            (HIT, np.array([((1, 2, 3), 2.5, 7)] * 5, [("xyz", "f8", (3,)), ("q", "f8"), ("id", "i8")])),
        ],
    )
    def test_values_are_converted_as_h5py_does(self, dm, tmp_path, dtype, data):
        with h5py.File(tmp_path / "oracle.h5", "w") as oracle:
            expected = oracle.create_dataset("x", (5,), dtype)
            expected[0:5] = data
            dm.create_dset("a", dtype)
            dm.reserve_data("a", 5)
            dm.write_data("a", slice(0, 5), data)
            assert dm["a", :].tobytes() == expected[()].tobytes()

    def test_masked_data_is_written_as_it_lies_under_the_mask(self, dm):
        dm.create_dset("a", "i8")
        dm.reserve_data("a", 3)
        dm.write_data("a", slice(0, 3), np.ma.masked_array([1, 2, 3], mask=[0, 1, 0]))
        assert dm["a", :].tolist() == [1, 2, 3]

    def test_strings_of_any_length(self, dm):
        dm.create_dset("text", h5py.string_dtype())
        dm.reserve_data("text", 3)
        dm.write_data("text", slice(0, 2), ["one", "two"])
        dm.write_data("text", [2], ["three"])
        assert [value.decode() for value in dm["text", :]] == ["one", "two", "three"]

    def test_what_was_read_is_the_readers_own(self, dm):
        dm.create_dset("a", "i4")
        dm.reserve_data("a", 4)
        dm["a", 0:4][:] = 9
        dm["a", [0, 1]][:] = 9
        dm.get_dset("a")[0:4][:] = 9
        assert dm["a", :].tolist() == [0, 0, 0, 0]

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_any_sequence_of_writes_and_reads(self, tmp_path_factory, data):
        """Catches pages that miss, lose or repeat rows at their borders, in memory and after reopening."""
        path = str(tmp_path_factory.mktemp("model") / "out.h5")
        model = list(range(-data.draw(st.integers(0, 20), "rows in the file"), 0))
        chunk_rows = data.draw(st.integers(1, 4), "chunk rows")
        page_rows = chunk_rows * data.draw(st.integers(1, 3), "chunks of a page")
        compression = data.draw(st.sampled_from([None, "gzip"]), "compression")
        with h5py.File(path, "w") as file:
            rows = np.array(model, "i8")
            file.create_dataset("a/data", data=rows, chunks=(chunk_rows,), maxshape=(None,), compression=compression)
        with H5FlowDataManager(path) as dm, mock.patch.object(paged_dataset, "_PAGE_BYTES", 8 * page_rows):
            dm.data_file._cache.budget = data.draw(st.sampled_from([0, 64, 1 << 20]), "budget")
            assert dm._file.catalog.dataset("a").rows.page_rows == page_rows
            for step in range(1, data.draw(st.integers(3, 20), "steps")):
                what = data.draw(
                    st.sampled_from(["grow", "write", "update", "read", "take", "settle", "h5py", "close"])
                )
                # Rows at the borders of pages, and beside them, as often as all others.
                borders = st.sampled_from([row for row in range(len(model) + 1) if (row + 1) % page_rows <= 2])
                place = st.integers(0, len(model)) | borders
                start, stop = sorted((data.draw(place), data.draw(place)))
                rows = [row for row in data.draw(st.lists(place, max_size=9)) if row < len(model)]
                if what == "grow":
                    grown = data.draw(st.integers(0, 2 * page_rows))
                    assert dm.reserve_data("a", grown) == slice(len(model), len(model) + grown)
                    model += [0] * grown
                elif what == "write":
                    dm.write_data("a", slice(start, stop), np.arange(start, stop) + 1000 * step)
                    model[start:stop] = [row + 1000 * step for row in range(start, stop)]
                elif what == "update":
                    dm.write_data("a", rows, np.arange(len(rows)) + 1000 * step)
                    for value, row in enumerate(rows):
                        model[row] = value + 1000 * step
                elif what == "read":
                    assert dm["a", start:stop].tolist() == model[start:stop]
                elif what == "take":
                    assert dm["a", rows].tolist() == [model[row] for row in rows]
                elif what == "settle":
                    dm.data_file.settle()
                elif what == "close":
                    dm.close_file()
                else:
                    assert dm.fh["a/data"][start:stop:2].tolist() == model[start:stop:2]
            assert dm["a", :].tolist() == model
        assert rows_in(path, "/a/data").tolist() == model


class TestHandles:
    def test_h5py_objects_see_what_is_buffered(self, dm):
        dm.create_dset("a", HIT)
        handle = dm.get_dset("a")
        assert isinstance(handle, h5py.Dataset)
        dm.reserve_data("a", 4)
        dm.write_data("a", slice(0, 4), np.array([(i, i / 2, (i, i, i)) for i in range(4)], HIT))
        assert len(handle) == 4
        assert handle.shape == (4,)
        assert handle["id"].tolist() == [0, 1, 2, 3]
        assert handle[-1]["q"] == 1.5
        assert handle[[0, 2]]["id"].tolist() == [0, 2]
        assert np.asarray(handle)["id"].tolist() == [0, 1, 2, 3]
        assert handle.fields("q")[1:3].tolist() == [0.5, 1.0]
        assert [row["id"] for row in handle] == [0, 1, 2, 3]
        assert dm.fh["a"]["data"][1]["id"] == 1
        assert dm["a"]["data"][2]["id"] == 2
        found = {}
        dm.fh.visititems(lambda name, item: found.update({name: item}))
        assert found["a/data"][3]["id"] == 3

    def test_what_is_written_through_them_is_seen(self, dm):
        dm.create_dset("a", "i4")
        dm.reserve_data("a", 4)
        dm.write_data("a", slice(0, 4), [1, 2, 3, 4])
        dm.get_dset("a")[1:3] = [20, 30]
        dm.write_data("a", [3], [40])
        assert dm["a", :].tolist() == [1, 20, 30, 40]
        dm.get_dset("a").resize(6, axis=0)
        assert dm.reserve_data("a", 1) == slice(6, 7)

    def test_what_is_deleted_through_them_is_gone(self, dm):
        dm.create_dset("a", "i4")
        dm.reserve_data("a", 4)
        del dm.fh["a"]
        assert not dm.dset_exists("a")
        dm.create_dset("a", "f4")
        assert len(dm.get_dset("a")) == 0


class TestCreating:
    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            (np.int64(3), (3,)),
            ((np.int64(3),), (3,)),
            (np.array([2, 2]), (2, 2)),
            ([2], (2,)),
            (3, (3,)),
            (np.array(3), (3,)),
            ((), ()),
        ],
    )
    def test_with_any_shape_that_h5py_takes(self, dm, shape, expected):
        dm.create_dset("a", "i4", shape=shape)
        dm.create_dset("a", "i4", shape=expected)
        assert dm.get_dset("a").shape == (0, *expected)

    @pytest.mark.parametrize("compression", [None, "gzip"])
    @pytest.mark.parametrize("shape", [0, (0,), (2, 0), (0, 3)])
    def test_rows_that_hold_nothing(self, tmp_path, shape, compression):
        path = str(tmp_path / "a.h5")
        row = (shape,) if isinstance(shape, int) else shape
        with H5FlowDataManager(path, compression=compression) as dm:
            dm.create_dset("a", "f4", shape=shape)
            dm.create_dset("b", "i4")
            dm.create_ref("a", "b")
            rows = dm.reserve_data("a", 3)
            dm.reserve_data("b", 1)
            dm.write_data("a", rows, np.zeros((3, *row)))
            dm.write_data("a", [1], 5)
            dm.write_ref("a", "b", [(2, 0)])
            assert dm["a", :].shape == dm.get_dset("a").shape == (3, *row)
            assert dm["b", "a", :].shape == (1, 1, *row)
            assert dm["a", "b", 2].tolist() == [[0]]
        with h5py.File(path) as file:
            assert file["a/data"].shape == (3, *row)
            assert file["a/data"].maxshape == (None, *row)

    @pytest.mark.parametrize("shape", [1.5, (2.0,), -1, (2, -3), "x", None])
    def test_what_is_no_shape_is_refused(self, dm, shape):
        with pytest.raises(DataMismatch, match="dataset 'a': the shape of a row is"):
            dm.create_dset("a", "i4", shape=shape)
        assert not dm.exists("a")

    def test_where_something_else_is(self, dm):
        dm.create_dset("X", "i4")
        dm.create_dset("Y/data", "i4")
        with pytest.raises(DataMismatch, match=r"dataset 'X/data' can't be made in '.*out.h5': '/X/data' is a dataset"):
            dm.create_dset("X/data", "i4")
        with pytest.raises(DataMismatch, match=r"dataset 'Y' can't be made in '.*out.h5': '/Y/data' is a group"):
            dm.create_dset("Y", "i4")
        with pytest.raises(DataMismatch, match=r"group 'X/data/q' for attributes .*out.h5': '/X/data' is a dataset"):
            dm.set_attrs("X/data/q", a=1)
        assert not dm.exists("X/data/q")
        dm.set_attrs("Y", a=1)
        assert dm.get_attrs("Y") == {"a": 1}

    def test_creating_again_does_nothing(self, dm):
        dm.create_dset("a", HIT)
        dm.reserve_data("a", 2)
        dm.create_dset("a", np.dtype(HIT, align=True))
        assert len(dm.get_dset("a")) == 2

    def test_creating_otherwise_is_refused(self, dm):
        dm.create_dset("a", "i4")
        with pytest.raises(DataMismatch, match=r"dataset 'a' exists with row shape \(\) and type int32"):
            dm.create_dset("a", "f8")
        with pytest.raises(DataMismatch, match=r"not \(3,\) and int32"):
            dm.create_dset("a", "i4", shape=(3,))

    def test_a_type_that_hdf5_does_not_have_is_named(self, dm):
        with pytest.raises(DataMismatch, match="dataset 'a': type <U5 can't be stored"):
            dm.create_dset("a", "U5")
        assert not dm.exists("a")

    def test_what_does_not_exist_is_named(self, dm):
        for call in (
            lambda: dm.get_dset("nope"),
            lambda: dm["nope", 0:1],
            lambda: dm["nope"],
            lambda: dm.write_data("nope", slice(0, 1), 0),
            lambda: dm.reserve_data("nope", 1),
            lambda: dm.get_attrs("nope"),
        ):
            with pytest.raises(NotInFile, match="'nope' isn't in"):
                call()

    def test_a_fixed_size_dataset_can_not_grow(self, tmp_path):
        with h5py.File(tmp_path / "fixed.h5", "w") as file:
            file["a/data"] = np.arange(5)
        with H5FlowDataManager(str(tmp_path / "fixed.h5")) as dm:
            dm.write_data("a", slice(1, 2), 7)
            assert dm["a", :].tolist() == [0, 7, 2, 3, 4]
            with pytest.raises(DataMismatch, match="fixed size of 5 rows"):
                dm.reserve_data("a", 1)

    def test_mode_w_truncates_once(self, tmp_path):
        dm = H5FlowDataManager(str(tmp_path / "out.h5"), mode="w")
        dm.create_dset("a", "i4")
        dm.close_file()
        assert dm.dset_exists("a")
        dm.finish()

    def test_a_file_that_is_read_only(self, tmp_path):
        path = str(tmp_path / "out.h5")
        with H5FlowDataManager(path) as dm:
            dm.create_dset("a", "i4")
            dm.reserve_data("a", 3)
        with H5FlowDataManager(path, mode="r", drop_list=["a"]) as dm:
            assert dm["a", :].tolist() == [0, 0, 0]
            for call in (
                lambda: dm.reserve_data("a", 1),
                lambda: dm.write_data("a", slice(0, 1), 1),
                lambda: dm.create_dset("b", "i4"),
                lambda: dm.set_attrs("a", x=1),
                lambda: dm.delete("a"),
            ):
                with pytest.raises(FileError, match="open for reading only"):
                    call()
        assert rows_in(path, "/a/data").tolist() == [0, 0, 0]

    def test_a_file_that_does_not_exist(self, tmp_path):
        with pytest.raises(FileError, match=r"none.h5' doesn't exist"):
            _ = H5FlowDataManager(str(tmp_path / "none.h5"), mode="r").fh


class TestAttributes:
    def test_values_that_users_store(self, dm):
        dm.create_dset("a", "i4")
        dm.set_attrs(
            "a",
            name="x",
            flag=True,
            number=1.5,
            names=["p", "q"],
            array=np.arange(3),
            structured=np.zeros(2, HIT),
            empty=np.zeros(0),
            where=dm.fh["a"].ref,
        )
        attrs = dm.get_attrs("a")
        assert attrs["name"] == "x"
        assert attrs["flag"]
        assert list(attrs["names"]) == ["p", "q"]
        assert attrs["array"].tolist() == [0, 1, 2]
        assert attrs["empty"].shape == (0,)
        assert dm.fh[attrs["where"]].name == "/a"
        assert dm.attr_exists("a", "number")
        assert not dm.attr_exists("a", "nothing")
        assert not dm.attr_exists("nowhere", "nothing")

    def test_they_are_live(self, dm):
        """As h5py's, and in the file when it is closed."""
        dm.set_attrs("a", old=1)
        attrs = dm.get_attrs("/a/")
        assert isinstance(attrs, h5py.AttributeManager)
        attrs["y"] = 5
        attrs.create("small", 3, dtype="u1")
        attrs.modify("old", 2)
        attrs.update(z="text")
        dm.set_attrs("a", after="seen")
        assert attrs["after"] == "seen"
        del attrs["after"]
        assert dict(attrs) == {**attrs} == dict(attrs.items())
        assert sorted(attrs) == sorted(attrs.keys()) == ["old", "small", "y", "z"]
        assert len(attrs) == 4
        assert "y" in attrs
        assert "after" not in attrs
        assert attrs.get("nothing", 7) == 7
        assert list(attrs.values()) == [2, 3, 5, "text"]
        with pytest.raises(DataMismatch, match="attribute 'y' of 'a'"):
            attrs["y"] = None
        dm.close_file()
        with h5py.File(dm.filepath) as file:
            found = file["a"].attrs
            assert dict(found) == {"old": 2, "small": 3, "y": 5, "z": "text"}
            assert found["small"].dtype == "u1"

    def test_they_stay_when_nobody_holds_the_manager(self, tmp_path):
        dm = H5FlowDataManager(str(tmp_path / "a.h5"))
        dm.set_attrs("a", x=1)
        attrs = dm.get_attrs("a")
        del dm
        assert attrs["x"] == 1
        attrs["y"] = 2
        del attrs
        with h5py.File(tmp_path / "a.h5") as file:
            assert dict(file["a"].attrs) == {"x": 1, "y": 2}

    @pytest.mark.parametrize(
        "change",
        [
            lambda attrs: attrs.__setitem__("x", 2),
            lambda attrs: attrs.create("x", 2, dtype="i2"),
            lambda attrs: attrs.modify("x", 2),
            lambda attrs: attrs.__delitem__("x"),
        ],
    )
    def test_a_file_that_is_read_only_keeps_them(self, tmp_path, change):
        path = str(tmp_path / "a.h5")
        with H5FlowDataManager(path) as dm:
            dm.set_attrs("a", x=1)
        with H5FlowDataManager(path, mode="r") as dm:
            attrs = dm.get_attrs("a")
            with pytest.raises(FileError, match=r"attribute 'x' of 'a': .* open for reading only"):
                change(attrs)
            assert attrs == {"x": 1}

    def test_those_of_what_is_dropped(self, tmp_path):
        with H5FlowDataManager(str(tmp_path / "a.h5"), drop_list=["a"]) as dm:
            dm.create_dset("a", "i4")
            dm.get_attrs("a")["x"] = 1
            assert dm.get_attrs("a") == {"x": 1}
        with h5py.File(tmp_path / "a.h5") as file:
            assert "a" not in file

    def test_without_values_the_group_is_made(self, dm):
        dm.set_attrs("only/a/group")
        assert dm.exists("only/a/group")
        assert not dm.dset_exists("only/a/group")

    def test_a_value_that_can_not_be_stored_is_named(self, dm):
        with pytest.raises(DataMismatch, match="attribute 'x' of 'a': a value of type NoneType"):
            dm.set_attrs("a", x=None)


def test_printing_what_there_is(dm, capsys):
    dm.create_dset("A", "i4")
    dm.create_dset("B/C", "f8", shape=(3,))
    dm.reserve_data("A", 2)
    dm.create_ref("A", "B/C")
    dm.write_ref("A", "B/C", [(0, 0)])
    dm.set_attrs("A", x=1)
    print_data(dm.fh)
    print_ref(dm.fh)
    print_attr(dm.fh)
    assert capsys.readouterr().out.splitlines() == [
        "A: (2,) int32",
        "B/C: (0, 3) float64",
        "A -> B/C: 1",
        "/A",
        "    x: 1",
    ]


class TestReferences:
    @pytest.fixture
    def linked(self, dm):
        for name in ("A", "B"):
            dm.create_dset(name, "i8")
            dm.reserve_data(name, 10)
            dm.write_data(name, slice(0, 10), np.arange(10) * 10)
        dm.create_ref("A", "B")
        return dm

    def test_layout(self, linked):
        linked.write_ref("A", "B", [(1, 5), (1, 3), (4, 3)])
        linked.close_file()
        with h5py.File(linked.filepath) as file:
            ref = file["A/ref/B/ref"]
            assert ref.dtype == np.dtype("u4")
            assert ref[()].tolist() == [[1, 5], [1, 3], [4, 3]]
            assert dict(ref.attrs) == {
                "dset0": "/A/data",
                "dset1": "/B/data",
                "ref_region0": "/A/ref/B/ref_region",
                "ref_region1": "/B/ref/A/ref_region",
            }
            of_a, of_b = file["A/ref/B/ref_region"], file["B/ref/A/ref_region"]
            assert of_a.dtype == np.dtype([("start", "i4"), ("stop", "i4")])
            assert dict(of_a.attrs) == dict(of_b.attrs) == {"ref": "/A/ref/B/ref"}
            assert of_a[()].tolist() == [(0, 0), (0, 2), (0, 0), (0, 0), (2, 3)] + [(0, 0)] * 5
            assert of_b[()].tolist() == [(0, 0)] * 3 + [(1, 3), (0, 0), (0, 1)] + [(0, 0)] * 4

    def test_both_directions(self, linked):
        linked.write_ref("A", "B", [(1, 5), (1, 3)])
        linked.write_ref("B", "A", [(7, 1), (3, 2)])
        assert linked["A", "B", 1].compressed().tolist() == [30, 50, 70]
        assert linked["B", "A", [3]].compressed().tolist() == [10, 20]
        assert linked["A", "B"].shape == (10, 3)
        assert linked.get_ref("A", "B")[1] == (0, 1)
        assert linked.get_ref("B", "A")[1] == (1, 0)
        assert linked.get_ref("B", "A")[0][:].tolist() == [[1, 5], [1, 3], [1, 7], [2, 3]]
        assert linked.get_ref_region("B", "A")[3:4].tolist() == [(1, 4)]
        assert linked.ref_exists("B", "A")
        assert linked.ref_region_exists("B", "A")
        assert [ref.name for ref in linked.get_refs("B")] == ["/A/ref/B/ref"]

    @pytest.mark.parametrize(
        "refs",
        [
            [],
            np.zeros((0, 2)),
            np.zeros((0, 2), "u8"),
            np.ma.zeros((0, 2), int),
            np.ma.masked_array(np.zeros((2, 2), int), mask=True),
        ],
    )
    def test_no_references(self, linked, refs):
        linked.write_ref("A", "B", refs)
        assert len(linked.get_ref("A", "B")[0]) == 0

    @pytest.mark.parametrize(
        "refs",
        [
            [(1, 2), (3, 4)],
            np.array([[1.0, 2.0], [3.0, 4.0]]),
            np.array([[1, 2], [3, 4]], "u2"),
            np.ma.masked_array([[1, 2], [9, 9], [3, 4]], mask=[[0, 0], [0, 1], [0, 0]]),
        ],
    )
    def test_kinds_of_arrays(self, linked, refs):
        linked.write_ref("A", "B", refs)
        assert linked.get_ref("A", "B")[0][:].tolist() == [[1, 2], [3, 4]]

    @pytest.mark.parametrize(
        ("refs", "says"),
        [
            ([(0, 1), (-1, 2)], r"entry 1 is \[-1, 2\]"),
            ([(0, 2**32)], "entry 0 is"),
            ([(0, 0.5)], r"entry 0 is \[0.0, 0.5\]"),
            ([(0, np.nan)], "entry 0 is"),
            ([1, 2], r"shape \(K, 2\), got shape \(2,\)"),
            ([("a", "b")], "integers, got type"),
        ],
    )
    def test_what_is_no_reference_leaves_the_file_alone(self, linked, refs, says):
        with pytest.raises(InvalidReference, match=f"references 'A' → 'B': .*{says}"):
            linked.write_ref("A", "B", refs)
        assert len(linked.get_ref("A", "B")[0]) == 0
        assert not linked.get_ref_region("A", "B")[:]["stop"].any()

    def test_references_to_rows_that_come_later_survive(self, linked, caplog):
        linked.write_ref("A", "B", [(12, 3), (1, 2)])
        assert linked.dangling_references() == [
            "dataset 'A' has 10 rows, a reference between it and 'B' points to row 12"
        ]
        linked.reserve_data("A", 5)
        assert linked.dangling_references() == []
        linked.write_data("A", [12], [77])
        assert linked["B", "A", 3].compressed().tolist() == [77]
        assert linked["A", "B", 12].compressed().tolist() == [30]

    def test_region_tables_grow_with_their_data(self, linked):
        linked.reserve_data("B", 7)
        assert len(linked.get_ref_region("B", "A")) == 17
        linked.close_file()
        linked.reserve_data("B", 3)
        linked.close_file()
        assert len(rows_in(linked.filepath, "/B/ref/A/ref_region")) == 20

    def test_names_below_names(self, dm):
        for name in ("A", "B", "B/C"):
            dm.create_dset(name, "i4")
            dm.reserve_data(name, 3)
        dm.create_ref("A", "B/C")
        dm.create_ref("A", "B")
        dm.write_ref("A", "B", [(0, 1)])
        dm.write_ref("A", "B/C", [(0, 2)])
        assert dm["A", "B", 0].shape == (1, 1)
        assert {ref.name for ref in dm.get_refs("A")} == {"/A/ref/B/ref", "/A/ref/B/C/ref"}

    def test_within_one_dataset(self, dm):
        dm.create_dset("A", "i4")
        dm.reserve_data("A", 5)
        dm.write_data("A", slice(0, 5), np.arange(5))
        for _ in range(2):
            dm.create_ref("A", "A")
        dm.write_ref("A", "A", [(1, 0), (0, 2), (3, 1)])
        assert dm["A", "A"].tolist() == [[2], [0], [None], [1], [None]]

    def test_created_from_the_other_side(self, linked):
        linked.create_ref("A", "B")
        with pytest.raises(RuntimeError, match="exist the other way round"):
            linked.create_ref("B", "A")

    def test_missing_datasets_leave_nothing_behind(self, dm):
        dm.create_dset("A", "i4")
        for _ in range(2):
            with pytest.raises(NotInFile, match="dataset 'B' isn't in"):
                dm.create_ref("A", "B")
        assert not dm.exists("A/ref")
        with pytest.raises(NotInFile, match="no references between 'A' and 'B'"):
            dm.write_ref("A", "B", [])

    def test_far_apart_rows_leave_those_between_alone(self, linked):
        linked.write_ref("A", "B", [(2, 1)])
        linked.write_ref("A", "B", [(0, 0), (4, 4)])
        regions = linked.get_ref_region("A", "B")[0:5].tolist()
        assert regions == [(1, 2), (0, 0), (0, 1), (0, 0), (2, 3)]

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_any_references(self, tmp_path_factory, data):
        """Catches regions that don't enclose all references of a row, are not tight, or are reset."""
        path = str(tmp_path_factory.mktemp("model") / "out.h5")
        row = st.integers(0, 11)
        batches = data.draw(st.lists(st.tuples(st.booleans(), st.lists(st.tuples(row, row), max_size=9)), max_size=6))
        stored: list[tuple[int, int]] = []
        with H5FlowDataManager(path) as dm:
            for name in "AB":
                dm.create_dset(name, "i4")
                dm.reserve_data(name, 12)
                dm.write_data(name, slice(0, 12), np.arange(12))
            dm.create_ref("A", "B")
            for region in dm._file.catalog.reference("A", "B").regions:
                region.page_rows = data.draw(st.integers(1, 5))
            dm.data_file._cache.budget = data.draw(st.sampled_from([0, 100, 1 << 20]))
            for forward, pairs in batches:
                dm.write_ref(*("AB" if forward else "BA"), pairs)
                stored += pairs if forward else [(a, b) for b, a in pairs]
                dm.data_file.settle()
                for a in range(12):
                    children = sorted(child for parent, child in stored if parent == a)
                    assert dm["A", "B", a].compressed().tolist() == children
        assert rows_in(path, "/A/ref/B/ref").tolist() == [list(pair) for pair in stored]
        for column, region in enumerate(("/A/ref/B/ref_region", "/B/ref/A/ref_region")):
            for a, (start, stop) in enumerate(rows_in(path, region).tolist()):
                at = [index for index, pair in enumerate(stored) if pair[column] == a]
                assert (start, stop) == ((min(at), max(at) + 1) if at else (0, 0))


class TestDropping:
    def names(self, path: str) -> set[str]:
        found: list[str] = []
        with h5py.File(path) as file:
            file.visit(found.append)
        return {name for name in found if name.endswith(("data", "ref", "ref_region")) and "." not in name}

    def test_by_path_not_by_letters(self, tmp_path):
        path = str(tmp_path / "out.h5")
        with H5FlowDataManager(path, drop_list=["stage1"]) as dm:
            for name in ("stage1", "stage10", "other/stage1x", "stage1/below", "kept"):
                dm.create_dset(name, "i4")
                dm.reserve_data(name, 2)
            dm.create_ref("kept", "stage1")
            dm.create_ref("kept", "stage10")
            dm.write_ref("kept", "stage1", [(0, 1)])
            assert dm["kept", "stage1", 0].shape == (1, 1)
            assert dm.dset_exists("stage1/below")
            dm.set_attrs("stage1", x=1)
            assert dm.get_attrs("stage1") == {"x": 1}
            assert len(list(tmp_path.glob("tmp-h5flow-*.h5"))) == 1
            dm.close_file()
            assert len(dm.get_dset("stage1")) == 2
        assert list(tmp_path.glob("tmp-h5flow-*")) == []
        with h5py.File(path) as file:
            assert set(file) == {"stage10", "other", "kept"}
            assert set(file["kept/ref"]) == {"stage10"}

    def test_what_was_there_before(self, tmp_path):
        path = str(tmp_path / "out.h5")
        with H5FlowDataManager(path) as dm:
            for name in ("a", "b", "c"):
                dm.create_dset(name, "i4")
            dm.create_ref("b", "a")
            dm.create_ref("b", "c")
        with H5FlowDataManager(path, drop_list=["a", "/never/there"]) as dm:
            assert dm.dset_exists("a")
        with h5py.File(path) as file:
            assert set(file) == {"b", "c"}
            assert set(file["b/ref"]) == {"c"}

    def test_after_an_error(self, tmp_path):
        path = str(tmp_path / "out.h5")

        def fail() -> None:
            with H5FlowDataManager(path, drop_list=["a"]) as dm:
                dm.create_dset("a", "i4")
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError):
            fail()
        assert list(tmp_path.glob("tmp-h5flow-*")) == []

    def test_deleting(self, dm):
        for name in ("A", "B", "B/C", "D"):
            dm.create_dset(name, "i4")
            dm.reserve_data(name, 2)
        dm.create_ref("A", "B")
        dm.create_ref("A", "B/C")
        dm.create_ref("D", "A")
        dm.write_ref("D", "A", [(0, 1)])
        dm.delete("B/C")
        assert dm.ref_exists("A", "B")
        assert not dm.ref_exists("A", "B/C")
        assert not dm.dset_exists("B/C")
        dm.delete("B/data")
        assert not dm.ref_exists("A", "B")
        assert not dm.exists("A/ref/B")
        assert dm["D", "A", 0].compressed().tolist() == [0]
        dm.set_attrs("plain/group", x=1)
        dm.delete("plain/group")
        assert not dm.exists("plain/group")


@pytest.mark.parametrize("selection", [slice(0, 10), slice(None), [0, 5, 3000], 7])
def test_rows_that_are_damaged(tmp_path, selection):
    path = tmp_path / "in.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a/data", (4000,), "i8", chunks=(1000,), compression="gzip", maxshape=(None,))
        data[:] = np.arange(4000)
        file.flush()
        chunk = data.id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    with H5FlowDataManager(str(path), "r") as dm:
        with pytest.raises(FileError, match=r"in.h5', dataset '/a/data': rows \d+:\d+ can't be read .* damaged"):
            dm["a", selection]
        assert dm["a", 2000:2002].tolist() == [2000, 2001]
