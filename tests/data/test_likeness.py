"""The likeness of a file: all but the rows is as it is in the file."""

from __future__ import annotations

import gc

import h5py
import numpy as np
import pytest

from h5flow.data.storage.likeness import copy_structure

NAMED = np.dtype([("name", h5py.string_dtype()), ("leads_to", h5py.ref_dtype), ("number", "i4")])


@pytest.fixture
def likeness(tmp_path):
    """What makes a file, and the likeness of it."""
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


def test_attributes_of_any_length(likeness):
    def make(file):
        file.attrs["text"] = "naïve"
        file.attrs["texts"] = ["a", "and another one"]
        file.attrs.create("lists", np.array([np.arange(2), np.arange(3)], object), dtype=h5py.vlen_dtype("i4"))
        file.attrs["nothing"] = h5py.Empty("f4")

    for _ in range(30):  # pointers taken for Python objects do harm when these are let go
        file = likeness(make)
        attributes = file.attrs
        assert attributes["text"] == "naïve"
        assert attributes["texts"].tolist() == ["a", "and another one"]
        assert [values.tolist() for values in attributes["lists"]] == [[0, 1], [0, 1, 2]]
        assert isinstance(attributes["nothing"], h5py.Empty)
        file.close()
        gc.collect()


def test_references_in_attributes_lead_to_the_same(likeness):
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

    file = likeness(make)
    assert file[file.attrs["table"]].name == "/table 7"
    named = file.attrs["named"]
    assert [file[reference].name for reference in named["leads_to"]] == ["/table 3", "/table 7"]
    assert named["number"].tolist() == [1, 2]
    assert [bytes(name).decode() if isinstance(name, bytes) else name for name in named["name"]] == ["first", "second"]
    assert file["table 7"].dims[0][0] == file["table 3"]
    assert not file.attrs["gone"]
    assert not file.attrs["region"]


def test_other_names_of_what_is_there(likeness):
    def make(file):
        file["group/table"] = np.arange(3)
        file["group/itself"] = file["group"]
        file["table"] = file["group/table"]

    file = likeness(make)
    assert file["group/itself/itself/table"] == file["table"] == file["group/table"]
