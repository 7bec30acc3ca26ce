"""The skeleton of a file: all but the rows is as it is in the file."""

from __future__ import annotations

import gc
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5a, h5d, h5g, h5o, h5s, h5t

from h5flow.data.storage.skeleton import copy_structure, new_skeleton
from support.kinds_of_files import FILES, OTHER, READABLE, make, objects_of, same

NAMED = np.dtype([("name", h5py.string_dtype()), ("leads_to", h5py.ref_dtype), ("number", "i4")])


@pytest.fixture
def skeleton(tmp_path):
    """What makes a file, and the skeleton of it."""
    opened = []

    def made(make):
        with h5py.File(tmp_path / "in.h5", "w") as file:
            make(file)
        file = h5py.File(tmp_path / "like.h5", "w")
        opened.append(file)
        with h5py.File(tmp_path / "in.h5") as original:
            copy_structure(original, file)
        return file

    yield made
    for file in opened:
        file.close()


def test_attributes_of_any_length(skeleton):
    def make(file):
        file.attrs["text"] = "naïve"
        file.attrs["texts"] = ["a", "and another one"]
        file.attrs.create("lists", np.array([np.arange(2), np.arange(3)], object), dtype=h5py.vlen_dtype("i4"))
        file.attrs["nothing"] = h5py.Empty("f4")

    for _ in range(30):  # pointers taken for Python objects do harm when these are let go
        file = skeleton(make)
        attributes = file.attrs
        assert attributes["text"] == "naïve"
        assert attributes["texts"].tolist() == ["a", "and another one"]
        assert [values.tolist() for values in attributes["lists"]] == [[0, 1], [0, 1, 2]]
        assert isinstance(attributes["nothing"], h5py.Empty)
        file.close()
        gc.collect()


def test_references_in_attributes_lead_to_the_same(skeleton):
    def make(file):
        for number in range(20):
            file.create_dataset(f"table {number}", data=np.arange(1000))
        scale, table = file["table 3"], file["table 7"]
        scale.make_scale("numbers")
        table.dims[0].attach_scale(scale)
        file.attrs["table"] = table.ref
        file.attrs["named"] = np.array([("first", scale.ref, 1), ("second", table.ref, 2)], NAMED)
        file.attrs["gone"] = file["table 19"].ref
        file.attrs["region"] = table.regionref[3:5]
        del file["table 19"]

    file = skeleton(make)
    assert file[file.attrs["table"]].name == "/table 7"
    named = file.attrs["named"]
    assert [file[reference].name for reference in named["leads_to"]] == ["/table 3", "/table 7"]
    assert named["number"].tolist() == [1, 2]
    assert [bytes(name).decode() if isinstance(name, bytes) else name for name in named["name"]] == ["first", "second"]
    assert file["table 7"].dims[0][0] == file["table 3"]
    assert not file.attrs["gone"]
    assert file[file.attrs["region"]].name == "/table 7"
    assert h5py.h5r.get_region(file.attrs["region"], file.id).get_select_bounds() == ((3,), (4,))


def test_other_names_of_what_is_there(skeleton):
    def make(file):
        file["group/table"] = np.arange(3)
        file["group/itself"] = file["group"]
        file["table"] = file["group/table"]

    file = skeleton(make)
    assert file["group/itself/itself/table"] == file["table"] == file["group/table"]


def links_of(group):
    return {name: group.links.get_info(name).type for name in group}


def compare(original, skeleton):
    """Fail where a skeleton differs from its original in more than the rows."""
    objects, others = objects_of(original), objects_of(skeleton)
    assert set(objects) == set(others)
    for name, one in objects.items():
        other = others[name]
        assert type(one) is type(other)
        if isinstance(one, h5g.GroupID):
            assert list(one) == list(other)
            assert links_of(one) == links_of(other)
        if isinstance(one, h5t.TypeID):
            assert one == other
        if isinstance(one, h5d.DatasetID):
            assert one.get_type() == other.get_type()
            assert one.shape == other.shape
            assert one.get_space().get_simple_extent_type() == other.get_space().get_simple_extent_type()
            made, alike = one.get_create_plist(), other.get_create_plist()
            lies_elsewhere = made.get_layout() == h5d.VIRTUAL or made.get_external_count()
            if not lies_elsewhere:
                assert made.get_layout() == alike.get_layout()
                assert one.get_space().get_simple_extent_dims(True) == other.get_space().get_simple_extent_dims(True)
            if made.get_layout() == h5d.CHUNKED:
                assert made.get_chunk() == alike.get_chunk()
            if made.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
                fills = [h5py.Dataset(found).fillvalue for found in (one, other)]
                assert fills[0].tobytes() == fills[1].tobytes()
        attributes, alike = (
            [h5a.open(found, index=number) for number in range(h5a.get_num_attrs(found))] for found in (one, other)
        )
        assert [found.name for found in attributes] == [found.name for found in alike]
        for first, second in zip(attributes, alike, strict=True):
            assert first.get_type() == second.get_type()
            assert first.shape == second.shape
        for key in original[name].attrs:
            try:
                value = original[name].attrs[key]
            except TypeError:  # of a type that h5py doesn't know
                continue
            assert same(value, skeleton[name].attrs[key], (original, skeleton)), (name, key)


@pytest.mark.parametrize("kind", {**READABLE, **OTHER})
def test_each_kind(tmp_path, kind):
    make(tmp_path / "in.h5", [kind])
    with h5py.File(tmp_path / "in.h5") as original, new_skeleton(str(tmp_path / "like.h5"), original) as skeleton:
        compare(original, skeleton)
        for name, found in objects_of(skeleton).items():
            if isinstance(found, h5d.DatasetID) and kind in READABLE and b"target" not in name:
                rows = h5py.Dataset(found)
                fill = np.zeros((), rows.dtype) if rows.fillvalue is None else rows.fillvalue
                if not rows.dtype.hasobject and rows.dtype.subdtype is None:
                    wanted = np.full(rows.shape, fill, rows.dtype.base)
                    assert (
                        (rows[:] == wanted).all() if wanted.dtype.kind != "V" else rows[:].tobytes() == wanted.tobytes()
                    )


@pytest.mark.parametrize("options", FILES.values(), ids=list(FILES))
def test_files_of_each_format(tmp_path, options):
    make(tmp_path / "in.h5", ["attributes", "gzip", "compact", "links"], **options)
    with h5py.File(tmp_path / "in.h5") as original:
        file = new_skeleton("like.h5", original, driver="core", backing_store=False)
        compare(original, file)
        file.close()


def test_what_can_not_be_read_is_there(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["broken/data"] = np.zeros(4)
        file["whole/data"] = np.zeros(4)
        place = h5o.get_info(file["broken"].id).addr
    content = bytearray((tmp_path / "in.h5").read_bytes())
    content[place : place + 8] = b"\xff" * 8
    (tmp_path / "in.h5").write_bytes(content)
    with h5py.File(tmp_path / "in.h5") as original, new_skeleton(str(tmp_path / "like.h5"), original) as skeleton:
        assert skeleton["whole/data"].shape == (4,)
        assert skeleton["broken"].id.get_space().get_simple_extent_type() == h5s.NULL


@pytest.mark.parametrize(
    "path", sorted(Path(h5py.__file__).parent.glob("tests/data_files/*.h5")), ids=lambda path: path.stem
)
def test_files_of_h5py(path):
    with h5py.File(path) as original:
        skeleton = new_skeleton("like.h5", original, driver="core", backing_store=False)
        compare(original, skeleton)
        skeleton.close()
