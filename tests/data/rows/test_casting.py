"""What a dataset can hold, and what is refused or told where it can't hold a value as it is."""

from __future__ import annotations

import contextlib
import logging

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5flow.data import H5FlowDataManager
from h5flow.errors import DataMismatch

HIT = np.dtype([("id", "u2"), ("excess", "f8")])
WIDE = np.dtype([("pos", [("x", "i4"), ("y", "i4")]), ("text", "S4"), ("xyz", "i2", (3,))])
NESTED = np.dtype([("pos", [("x", "i2"), ("y", "i2")]), ("text", "S4"), ("xyz", "i2", (3,))])


@pytest.fixture
def dm(tmp_path):
    with H5FlowDataManager(str(tmp_path / "out.h5")) as manager:
        yield manager


def made(dm, dtype, rows=3):
    dm.create_dset("a", dtype)
    dm.reserve_data("a", rows)
    return dm.get_dset("a")


#: Types, values that they can't hold, and how the first of these is told.
UNFIT = [
    ("u2", [-1, 70000, 3], r"-1 \(entry 0\) doesn't fit type uint16, which holds 0 to 65535"),
    ("u2", np.array([3, 70000, -1]), r"70000 \(entry 1\) doesn't fit type uint16"),
    ("u4", np.array([1, 2, 2**32]), r"4294967296 \(entry 2\) doesn't fit type uint32"),
    ("u4", [1, 2, -5], r"-5 \(entry 2\) doesn't fit type uint32"),
    ("i8", [0, 2**70, 0], r"1180591620717411303424 \(entry 1\) doesn't fit type int64"),
    ("i8", np.array([0, 2**63, 1], "u8"), r"9223372036854775808 \(entry 1\) doesn't fit type int64"),
    ("u8", np.array([0, -1, 1]), r"-1 \(entry 1\) doesn't fit type uint64"),
    ("i4", [0.0, np.nan, 1], r"nan \(entry 1\) doesn't fit type int32"),
    ("i4", np.array([np.inf, 0, 1]), r"inf \(entry 0\) doesn't fit type int32"),
    ("i4", np.array([0, 0, 1e12], "f4"), r"\(entry 2\) doesn't fit type int32"),
    ("i8", np.array([0, 0, 2.0**63]), r"\(entry 2\) doesn't fit type int64"),
    ("u1", -1, r"-1 doesn't fit type uint8"),
    ("u1", np.float64(256), r"256.0 doesn't fit type uint8"),
    ("f4", np.array([1j, 0, 0]), "complex, type float32 isn't"),
    ("f8", [1j, 0, 0], "complex, type float64 isn't"),
    ("S4", [b"abcd", b"abcde", b""], r"b'abcde' \(entry 1\) has 5 bytes, type \|S4 holds 4"),
    ("S4", ["abcd", "", "abcdef"], r"b'abcdef' \(entry 2\) has 6 bytes"),
    ("S4", np.array(["abcdef", "", ""]), r"b'abcdef' \(entry 0\) has 6 bytes"),
    ("S4", ["é", "", ""], "'é' isn't ascii"),
    ("S4", np.arange(3), "0 is no text"),
    ("i2", np.array([[1, 2], [3, 40000], [5, 6]]), r"40000 \(entry 1, 1\) doesn't fit"),
    (HIT, [(1, 2.0), (-1, 2.0), (70000, 1.0)], r"field 'id': -1 \(entry 1\) doesn't fit type uint16"),
    (HIT, (70000, 1.0), r"field 'id': 70000 doesn't fit type uint16"),
    (HIT, -1, "field 'id': -1 doesn't fit type uint16"),
    (HIT, np.array([(1, 1j)] * 3, [("id", "u2"), ("excess", "c16")]), "field 'excess': 1j is complex"),
    (HIT, np.array([(0, 0.5), (-7, 0), (0, 0)], [("id", "i8"), ("excess", "f8")]), r"field 'id': -7 \(entry 1\)"),
    (NESTED, [((1, 2), "abcde", [1, 2, 3])] * 3, "field 'text': b'abcde'"),
    (NESTED, [((1, 40000), "a", [1, 2, 3])] * 3, "field 'pos\\.y': 40000"),
    (NESTED, [((1, 4), "a", [1, 2, 70000])] * 3, r"field 'xyz': 70000 \(entry 0, 2\)"),
    (
        NESTED,
        np.array(
            [((1, 99999), b"", 0)] * 3, [("pos", [("x", "i4"), ("y", "i4")]), ("text", "S4"), ("xyz", "i2", (3,))]
        ),
        r"field 'pos\.y': 99999",
    ),
]


@pytest.mark.parametrize(("dtype", "data", "says"), UNFIT)
def test_what_a_type_can_not_hold_is_refused(dm, dtype, data, says):
    shape = np.shape(data)[1:] if isinstance(data, np.ndarray) else ()
    dm.create_dset("a", dtype, shape)
    dm.reserve_data("a", 3)
    before = dm["a", :].tobytes()
    with pytest.raises(DataMismatch, match=f"^dataset 'a', rows 0:3: .*{says}"):
        dm.write_data("a", slice(0, 3), data)
    with pytest.raises(DataMismatch, match=rf"^dataset 'a', rows \[3 row numbers\]: .*{says}"):
        dm.write_data("a", [2, 0, 1], data)
    with pytest.raises(DataMismatch, match=f"^dataset 'a': .*{says}"):
        dm.get_dset("a")[0:3] = data
    assert dm["a", :].tobytes() == before


def test_through_handles(dm):
    handle = made(dm, HIT)
    with pytest.raises(DataMismatch, match=r"dataset 'a': -1 .*uint16"):
        handle["id", 0:2] = [1, -1]
    with pytest.raises(DataMismatch, match="dataset 'a': 70000 doesn't fit"):
        handle["id", 1] = 70000
    with pytest.raises(DataMismatch, match="the dataset has no field 'exces'"):
        handle[0:3] = np.zeros(3, [("id", "u2"), ("exces", "f8")])
    with pytest.raises(DataMismatch, match="field 'id': -1"):
        handle.write_direct(np.array([(-1, 0.0)] * 3, [("id", "i4"), ("excess", "f8")]))
    handle[0:2] = np.array([(5,), (6,)], [("id", "i8")])  # some of the fields, as h5py has it
    handle["excess", 1:] = [7, 8]
    assert dm["a", :].tolist() == [(5, 0.0), (6, 7.0), (0, 8.0)]


class TestFields:
    @pytest.mark.parametrize(
        ("names", "says"),
        [
            (("id", "exces"), "the dataset has no field 'exces', data has no field 'excess'"),
            (("id",), "data has no field 'excess'"),
            (("id", "excess", "more"), "the dataset has no field 'more'"),
            (("x", "y"), "the dataset has no field 'x', the dataset has no field 'y', data has no field 'id'"),
        ],
    )
    @pytest.mark.parametrize("text", [False, True])
    def test_other_names_are_refused(self, dm, names, says, text):
        """Also where HDF5 writes the rows, since some are texts of any length."""
        more = [("text", h5py.string_dtype())] if text else []
        made(dm, np.dtype([*HIT.descr, *more]))
        data = np.zeros(3, [*((name, "f8") for name in names), *more])
        with pytest.raises(DataMismatch, match=rf"^dataset 'a', rows 0:3: {says}.*\(data: id|x.*; dataset: id, excess"):
            dm.write_data("a", slice(0, 3), data)
        if not text:
            assert dm["a", :].tolist() == [(0, 0.0)] * 3

    def test_nested_ones_too(self, dm):
        made(dm, NESTED)
        data = np.zeros(3, [("pos", [("x", "i2"), ("z", "i2")]), ("text", "S4"), ("xyz", "i2", (3,))])
        with pytest.raises(DataMismatch, match="field 'pos': the dataset has no field 'z', data has no field 'y'"):
            dm.write_data("a", slice(0, 3), data)

    def test_records_in_a_list_have_names_too(self, dm):
        made(dm, HIT)
        with pytest.raises(DataMismatch, match="no field 'exces'"):
            dm.write_data("a", slice(0, 2), list(np.zeros(2, [("id", "u2"), ("exces", "f8")])))

    def test_any_order_will_do(self, dm):
        made(dm, HIT)
        dm.write_data("a", slice(0, 3), np.array([(0.5, 1), (1.5, 2), (2.5, 3)], [("excess", "f4"), ("id", "i8")]))
        assert dm["a", :].tolist() == [(1, 0.5), (2, 1.5), (3, 2.5)]

    @pytest.mark.parametrize("data", [np.arange(3), [1, 2, 3], np.zeros((3, 2)), [[1, 2], [3, 4], [5, 6]]])
    def test_a_plain_array_is_no_record(self, dm, data):
        made(dm, HIT)
        with pytest.raises(DataMismatch, match=r"dataset 'a', rows 0:3: data is a plain array .*id, excess"):
            dm.write_data("a", slice(0, 3), data)
        with pytest.raises(DataMismatch, match="plain array"):
            dm.get_dset("a")[0:3] = data

    @pytest.mark.parametrize(
        ("data", "rows"),
        [
            (np.array((4, 2.5), HIT), [(4, 2.5)] * 3),
            (np.array([(4, 2.5)], HIT), [(4, 2.5)] * 3),
            (np.array([(4, 2.5)], HIT)[0], [(4, 2.5)] * 3),
            ((4, 2.5), [(4, 2.5)] * 3),
            ([(4, 2.5)], [(4, 2.5)] * 3),
            ([(1, 0.5), (2, 1.5), (3, 2.5)], [(1, 0.5), (2, 1.5), (3, 2.5)]),
            (list(np.array([(1, 0.5), (2, 1.5), (3, 2.5)], HIT)), [(1, 0.5), (2, 1.5), (3, 2.5)]),
            (np.rec.array([(1, 0.5), (2, 1.5), (3, 2.5)], HIT), [(1, 0.5), (2, 1.5), (3, 2.5)]),
            (0, [(0, 0.0)] * 3),
            (np.float64(7), [(7, 7.0)] * 3),
        ],
    )
    def test_one_record_or_value_for_all(self, dm, data, rows):
        made(dm, HIT)
        dm.write_data("a", slice(0, 3), data)
        assert dm["a", :].tolist() == rows

    def test_nested_records_by_position(self, dm):
        made(dm, NESTED)
        dm.write_data("a", slice(0, 3), [((n, -n), f"t{n}", [n, n, 9]) for n in range(3)])
        expected = np.array([((n, -n), f"t{n}", [n, n, 9]) for n in range(3)], NESTED)
        assert dm["a", :].tobytes() == expected.tobytes()

    @pytest.mark.parametrize("data", [[], np.zeros(0), np.zeros(0, HIT), np.zeros(0, int), np.ma.zeros(0)])
    def test_nothing_to_write(self, dm, data):
        made(dm, HIT)
        dm.write_data("a", slice(1, 1), data)
        dm.write_data("a", [], data)
        dm.write_data("a", slice(30, 20), data)
        assert dm["a", :].tolist() == [(0, 0.0)] * 3


class TestFractions:
    def said(self, caplog):
        return [record.getMessage() for record in caplog.records if "is cut to" in record.getMessage()]

    def test_are_cut_with_one_warning_for_a_dataset(self, dm, caplog):
        made(dm, "i4")
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                dm.write_data("a", slice(0, 3), [1.0, -2.75, 3.5])
                dm.get_dset("a")[0] = 0.5
        assert dm["a", :].tolist() == [0, -2, 3]
        (line,) = self.said(caplog)
        assert line.startswith("dataset 'a' holds integers: -2.75 is cut to -2")

    def test_of_fields_name_the_field(self, dm, caplog):
        made(dm, HIT)
        with caplog.at_level(logging.WARNING):
            dm.write_data("a", slice(0, 3), np.array([(1.5, 1.5)] * 3, [("id", "f8"), ("excess", "f8")]))
        (line,) = self.said(caplog)
        assert line.startswith("dataset 'a', field 'id' holds integers: 1.5 is cut to 1")

    @pytest.mark.parametrize("data", [[(1.5, 1.5)] * 3, (1.5, 1.5), 1.5])
    def test_of_records_in_a_list_too(self, dm, caplog, data):
        made(dm, HIT)
        dm.write_data("a", slice(0, 3), data)
        assert dm["a", :].tolist() == [(1, 1.5)] * 3
        (line,) = self.said(caplog)
        assert line.startswith("dataset 'a', field 'id' holds integers: 1.5 is cut to 1")

    def test_whole_numbers_are_written_silently(self, dm, caplog):
        made(dm, "i4")
        with caplog.at_level(logging.WARNING):
            dm.write_data("a", slice(0, 3), np.array([1.0, -2.0, 2147483647.0]))
        assert dm["a", :].tolist() == [1, -2, 2147483647]
        assert self.said(caplog) == []


def test_what_is_masked_does_not_count(dm, caplog):
    """It lies in the file as HDF5 converts it."""
    made(dm, "u2")
    dm.write_data("a", slice(0, 3), np.ma.array([1, -1, 3], mask=[0, 1, 0]))
    dm.write_data("a", slice(0, 3), np.ma.array([1, np.nan, 3.0], mask=[0, 1, 0]))
    dm.write_data("a", slice(0, 3), np.ma.array([1, 0.5, 3.0], mask=[0, 1, 0]))
    assert dm["a", :][[0, 2]].tolist() == [1, 3]
    assert caplog.records == []
    with pytest.raises(DataMismatch, match=r"-1 \(entry 0\)"):
        dm.write_data("a", slice(0, 3), np.ma.array([-1, -1, 3], mask=[0, 1, 0]))
    dm.create_dset("records", HIT)
    dm.reserve_data("records", 2)
    data = np.ma.array([(-1, 1.0), (2, 2.0)], dtype=[("id", "i8"), ("excess", "f8")])
    data["id"][0] = np.ma.masked
    dm.write_data("records", slice(0, 2), data)
    assert dm["records", :]["excess"].tolist() == [1.0, 2.0]


def test_texts_and_numbers_as_numpy_reads_lists(dm):
    made(dm, "S4")
    dm.write_data("a", slice(0, 3), ["abcd", b"b", ""])
    assert dm["a", :].tolist() == [b"abcd", b"b", b""]
    dm.write_data("a", slice(0, 3), [1, 22, 333])
    assert dm["a", :].tolist() == [b"1", b"22", b"333"]
    dm.create_dset("numbers", "i4")
    dm.reserve_data("numbers", 2)
    dm.write_data("numbers", slice(0, 2), ["1", "22"])
    assert dm["numbers", :].tolist() == [1, 22]
    dm.create_dset("umlauts", h5py.string_dtype("utf-8", 4))
    dm.reserve_data("umlauts", 1)
    dm.write_data("umlauts", [0], ["é"])
    assert dm["umlauts", 0][0] == "é".encode()


INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@settings(max_examples=150, deadline=None)
@given(
    source=st.sampled_from(INTEGERS),
    target=st.sampled_from(INTEGERS),
    data=st.data(),
    as_list=st.booleans(),
    in_record=st.booleans(),
)
def test_integers_are_written_or_refused(tmp_path_factory, source, target, data, as_list, in_record):
    """Never another number: what is read again is what was written, as Python counts."""
    limits, holds = np.iinfo(source), np.iinfo(target)
    edges = [edge for edge in (holds.min, holds.max, holds.min - 1, holds.max + 1) if limits.min <= edge <= limits.max]
    numbers = st.one_of(st.integers(int(limits.min), int(limits.max)), st.sampled_from([0, *edges]))
    values = data.draw(st.lists(numbers, min_size=1, max_size=4))
    written = values if as_list else np.array(values, source)
    dtype = target
    if in_record:
        dtype = np.dtype([("x", target), ("y", "f4")])
        pairs = [(value, 0.5) for value in values]
        written = pairs if as_list else np.array(pairs, [("x", source), ("y", "f8")])
    with H5FlowDataManager(str(tmp_path_factory.mktemp("values") / "a.h5")) as dm:
        made(dm, dtype, len(values))
        fits = all(holds.min <= value <= holds.max for value in values)
        with contextlib.nullcontext() if fits else pytest.raises(DataMismatch):
            dm.write_data("a", slice(0, len(values)), written)
        found = dm["a", :]["x"] if in_record else dm["a", :]
        assert found.tolist() == (values if fits else [0] * len(values))
