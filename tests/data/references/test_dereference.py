"""Dereferencing, against a loop over the references in plain Python."""

import itertools

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.data import dereference, dereference_chain, ref_region_dtype
from h5flow.errors import DataMismatch, InvalidReference, RowsOutOfRange

DTYPES = {
    "plain": np.dtype("f4"),
    "structured": np.dtype([("id", "u4"), ("x", "f8")]),
    "subarray field": np.dtype([("id", "u4"), ("xyz", "f4", (3,))]),
}


def values(count, kind, row_shape=()):
    dtype = DTYPES[kind]
    made = np.zeros((count, *row_shape), dtype)
    for number in range(count):
        if dtype.names is None:
            made[number] = number + 0.5
        else:
            made["id"][number] = number
            made[dtype.names[1]][number] = number / 4
    return made


def children(row, ref, direction):
    return [int(pair[direction[1]]) for pair in ref if pair[direction[0]] == row]


def regions_of(ref, length, column):
    regions = np.zeros(length, ref_region_dtype)
    for row in range(length):
        at = [position for position, pair in enumerate(ref) if pair[column] == row]
        regions[row] = (at[0], at[-1] + 1) if at else (0, 0)
    return regions


def assert_rows(result, expected):
    """`result` is masked, left-packed, and holds the `expected` lists of child numbers or values."""
    width = max([1, *map(len, expected)])
    assert isinstance(result, np.ma.MaskedArray)
    assert result.shape[:2] == (len(expected), width)
    mask, data = np.ma.getmaskarray(result), np.ma.getdata(result)
    for row, wanted in enumerate(expected):
        for place in range(width):
            masked = mask[row, place]
            flags = np.atleast_1d(masked).ravel()
            flags = flags.view(bool) if flags.dtype.names else flags
            if place < len(wanted):
                assert not flags.any()
                assert data[row, place].tobytes() == np.asarray(wanted[place], data.dtype).tobytes()
            else:
                assert flags.all()
                assert not any(data[row, place].tobytes()), "what is masked is zero"


@st.composite
def references(draw, parents=None, childs=None):
    parents = draw(st.integers(1, 8)) if parents is None else parents
    childs = draw(st.integers(1, 8)) if childs is None else childs
    pair = st.tuples(st.integers(0, parents - 1), st.integers(0, childs - 1))
    pairs = draw(st.lists(pair, max_size=25))
    return parents, childs, np.array(pairs, "u4").reshape(-1, 2)


@st.composite
def questions(draw):
    parents, childs, ref = draw(references())
    direction = draw(st.sampled_from([(0, 1), (1, 0)]))
    length = (parents, childs)[direction[0]]
    rows = st.integers(-length, length - 1)
    bound = st.none() | st.integers(-length - 2, length + 3)
    sel = draw(
        st.one_of(
            rows,
            st.lists(rows, max_size=10),
            st.builds(slice, bound, bound),
            st.builds(slice, bound, bound, st.sampled_from([2, -1])),
            st.lists(st.booleans(), min_size=length, max_size=length).map(lambda mask: np.array(mask, bool)),
        )
    )
    return parents, childs, ref, direction, sel


def selected(sel, length):
    """The rows of a selection; a slice that starts in the table may go on past its end."""
    if isinstance(sel, slice):
        if sel.stop is not None and sel.stop > length and (sel.start is None or sel.start >= 0):
            length = sel.stop
        return list(range(length))[sel]
    if isinstance(sel, np.ndarray):
        return np.flatnonzero(sel).tolist()
    return [row % length for row in np.atleast_1d(sel).astype(int).tolist()]


@given(questions(), st.booleans(), st.sampled_from(sorted(DTYPES)), st.sampled_from([(), (2,)]), st.data())
def test_children_of_selected_rows(question, with_region, kind, row_shape, drawn):
    parents, childs, ref, direction, sel = question
    data = values((childs, parents)[direction[0]], kind, row_shape)
    length = (parents, childs)[direction[0]]
    region = regions_of(ref, length, direction[0])
    rows = selected(sel, length)
    if not with_region:
        # Without a table nobody says how many rows there are, but rows can be asked for by number.
        region, sel = None, rows
    mask = drawn.draw(st.none() | st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    left_out = mask or [False] * len(rows)
    found = [[] if out else children(row, ref, direction) for row, out in zip(rows, left_out, strict=True)]

    asked = {"region": region, "mask": mask, "ref_direction": direction}
    by_number = [sorted(each) for each in found]
    assert_rows(dereference(sel, ref, indices_only=True, **asked), by_number)
    assert_rows(dereference(sel, ref, data, **asked), [[data[child] for child in each] for each in by_number])
    listed = dereference(sel, ref, data, as_masked=False, **asked)
    assert [each.tobytes() for each in listed] == [data[each].tobytes() for each in found], "in the order of ref"


@given(questions(), st.integers(0, 5), st.integers(0, 5))
def test_a_wider_region_changes_nothing(question, before, after):
    parents, childs, ref, direction, sel = question
    region = regions_of(ref, (parents, childs)[direction[0]], direction[0])
    wide = region.copy()
    some = region["stop"] > region["start"]
    wide["start"][some] = np.maximum(0, region["start"][some] - before)
    wide["stop"][some] += after  # also past the end of the references
    tight, loose = (dereference(sel, ref, region=table, ref_direction=direction) for table in (region, wide))
    assert np.ma.getdata(tight).tolist() == np.ma.getdata(loose).tolist()
    assert np.ma.getmaskarray(tight).tolist() == np.ma.getmaskarray(loose).tolist()


@given(st.data())
def test_chains(drawn):
    lengths = drawn.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    refs, tables, directions = [], [], []
    for first, second in itertools.pairwise(lengths):
        direction = drawn.draw(st.sampled_from([(0, 1), (1, 0)]))
        sizes = (first, second) if direction == (0, 1) else (second, first)
        _, _, ref = drawn.draw(references(*sizes))
        refs.append(ref)
        directions.append(direction)
        tables.append(regions_of(ref, first, direction[0]))
    sel = drawn.draw(st.lists(st.integers(0, lengths[0] - 1), max_size=6))
    mask = drawn.draw(st.none() | st.lists(st.booleans(), min_size=len(sel), max_size=len(sel)))
    data = values(lengths[-1], "structured")

    def walk(row, steps):
        if not steps:
            return row
        (ref, direction), *rest = steps
        return [walk(child, rest) for child in sorted(children(row, ref, direction))]

    steps = list(zip(refs, directions, strict=True))
    out = mask or [False] * len(sel)
    nested = [[] if left_out else walk(row, steps) for row, left_out in zip(sel, out, strict=True)]
    numbers = dereference_chain(sel, refs, regions=tables, ref_directions=directions, mask=mask, indices_only=True)
    found = dereference_chain(sel, refs, data, regions=tables, ref_directions=directions, mask=mask)
    assert numbers.ndim == len(lengths)
    assert found.shape == numbers.shape
    assert unpacked(numbers) == [trimmed(row) for row in nested]
    assert found[~np.ma.getmaskarray(numbers)]["id"].tolist() == numbers.compressed().tolist()
    assert np.ma.getmaskarray(found)["x"].tolist() == np.ma.getmaskarray(numbers).tolist()


def unpacked(packed):
    """The nested lists of a masked array; what is masked has to stand behind what isn't."""
    if packed.ndim > 1:
        return [trimmed(unpacked(row)) for row in packed]
    mask = np.ma.getmaskarray(packed)
    assert not (mask[:-1] & ~mask[1:]).any()
    return packed.compressed().tolist()


def trimmed(nested):
    """Without the empty lists at the end: in an array a child that has no children looks like no child."""
    nested = [trimmed(each) if isinstance(each, list) else each for each in nested]
    while nested and nested[-1] == []:
        nested.pop()
    return nested


REF = [[0, 1], [0, 0], [2, 1], [0, 1]]


def test_lists_are_arguments_too():
    found = dereference(0, REF, [10.0, 11.0], mask=[False], region=None)
    assert found.tolist() == [[10.0, 11.0, 11.0]]


@pytest.mark.parametrize("sel", [slice(-1, -1), [], slice(3, 1), np.array([], int), np.array([], bool)])
def test_nothing_selected(sel):
    ref = np.array(REF if not (isinstance(sel, np.ndarray) and sel.dtype == bool) else [], "u4").reshape(-1, 2)
    found = dereference(sel, ref, np.zeros(2, DTYPES["structured"]))
    assert found.shape == (0, 1)
    assert found.dtype == DTYPES["structured"]
    assert dereference(sel, ref, np.zeros(2), as_masked=False) == []
    assert dereference_chain(sel, [ref, ref], np.zeros(3)).shape == (0, 1, 1)


def test_rows_past_the_table_have_no_children_when_asked_by_slice():
    found = dereference(slice(1, 6), np.array(REF), np.arange(2.0), region=regions_of(REF, 3, 0))
    assert found.tolist() == [[None], [1.0], [None], [None], [None]]


def test_without_a_table_open_selections_end_with_the_last_row_that_has_children():
    ref, data = np.array(REF, "u4"), np.arange(2.0)
    assert dereference(slice(1, None), ref, data).tolist() == [[None], [1.0]]
    assert dereference(-1, ref, data).tolist() == [[1.0]]
    assert dereference([False, True, True, True], ref, data).tolist() == [[None], [1.0], [None]]
    assert dereference([7, 2], ref, data).tolist() == [[None], [1.0]]


def test_rows_past_the_table_are_an_error_when_asked_by_number():
    with pytest.raises(RowsOutOfRange, match=r"the parent has 3 rows, not 5, 7"):
        dereference([0, 5, 7], np.array(REF), np.arange(2.0), region=regions_of(REF, 3, 0))


def test_a_reference_past_the_end_of_the_data_is_named(tmp_path):
    with pytest.raises(InvalidReference) as raised:
        dereference([0], [[0, 12]], np.zeros(10))
    assert str(raised.value) == "the data has 10 rows, reference points to row 12"
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["charge/hits/data"] = np.zeros(10)
        with pytest.raises(InvalidReference) as raised:
            dereference([0], [[0, 12]], file["charge/hits/data"])
    assert str(raised.value) == "dataset '/charge/hits/data' has 10 rows, reference points to row 12"


def test_a_mask_of_another_length_is_an_error():
    with pytest.raises(DataMismatch, match=r"a mask of shape \(2,\) doesn't fit a selection of 1 rows"):
        dereference([0], REF, np.zeros(2), mask=[True, False])


def test_results_do_not_share_memory_with_arguments():
    data, ref = np.arange(2.0), np.array([[0, 0], [1, 1]], "u4")
    region = regions_of(ref, 2, 0)
    for asked in ({"region": region}, {}):
        dereference(slice(0, 2), ref, data, **asked)[:] = -1
        dereference(slice(0, 2), ref, indices_only=True, **asked)[:] = 7
        for rows in dereference(slice(0, 2), ref, data, as_masked=False, **asked):
            rows[:] = -1
    assert data.tolist() == [0.0, 1.0]
    assert ref.tolist() == [[0, 0], [1, 1]]


def test_object_strings(tmp_path):
    names = np.array(["a", "bb", "ccc"], dtype=object)
    assert dereference(slice(0, 2), [[0, 2], [0, 1], [1, 0]], names).tolist() == [["bb", "ccc"], ["a", None]]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("names/data", data=names, dtype=h5py.string_dtype())
        found = dereference(slice(0, 2), [[0, 2], [0, 1], [1, 0]], dataset)
    assert found.tolist() == [[b"bb", b"ccc"], [b"a", None]]


class CountedRows:
    """Rows that count how many of them were read."""

    def __init__(self, rows):
        self.rows, self.dtype, self.shape, self.count = rows, rows.dtype, rows.shape, 0

    def has(self, row):
        return row < len(self.rows)

    def read(self, start, stop):
        self.count += stop - start
        return self.rows[start:stop].copy()

    def take(self, rows):
        self.count += len(rows)
        return self.rows[rows]


def test_only_what_is_needed_is_read():
    """A few references between rows that lie far apart, in large tables."""
    length = 1_000_000
    ref = np.stack([np.arange(length), np.arange(length)[::-1]], axis=1).astype("u4")
    region = np.zeros(length, ref_region_dtype)
    region["start"], region["stop"] = np.arange(length), np.arange(length) + 1
    pairs, table, data = CountedRows(ref), CountedRows(region), CountedRows(np.arange(length) * 2.0)
    rows = [5, 900_000, 450_000, 5]
    found = dereference(rows, pairs, data, region=table)
    assert found[:, 0].tolist() == [2.0 * (length - 1 - row) for row in rows]
    assert (pairs.count, table.count, data.count) == (3, 3, 3)
