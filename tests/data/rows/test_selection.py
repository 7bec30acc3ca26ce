"""Selections mean what they mean in numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.data.rows.selection import rows_of
from h5flow.errors import DataMismatch, RowsOutOfRange

bound = st.none() | st.integers(-12, 12)


@st.composite
def selections(draw):
    length = draw(st.integers(0, 9))
    kinds = [
        st.builds(slice, bound, bound, st.none() | st.sampled_from([1, 2, 3, -1, -2])),
        st.lists(st.booleans(), min_size=length, max_size=length).map(lambda mask: np.array(mask, bool)),
        st.just([]),
    ]
    if length:
        row = st.integers(-length, length - 1)
        kinds += [row, row.map(np.int64), st.lists(row, max_size=8), st.lists(row, max_size=8).map(tuple)]
    return length, draw(st.one_of(kinds))


@given(selections())
def test_same_rows_as_numpy(drawn):
    length, selection = drawn
    index = list(selection) if isinstance(selection, tuple) else selection
    index = np.array(index, np.int64) if isinstance(index, list) else index
    expected = np.atleast_1d(np.arange(length)[index])
    rows = rows_of(selection, length)
    assert rows.as_indices().tolist() == expected.tolist()
    assert len(rows) == len(expected)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 10))
def test_a_slice_may_go_on_past_the_end(start, stop, length):
    assert rows_of(slice(start, stop), length, beyond=True).as_indices().tolist() == list(range(start, stop))


def test_the_empty_slice_stays_empty_past_the_end():
    assert len(rows_of(slice(-1, -1), 5, beyond=True)) == 0


@pytest.mark.parametrize(
    ("selection", "named"),
    [([3, 10, -1], "10"), (10, "10"), ([-11], "-11"), ([11, 12, 13, 14, 15, 16], "11, 12, 13, 14, 15, …")],
)
def test_rows_that_do_not_exist_are_named(selection, named):
    with pytest.raises(RowsOutOfRange) as raised:
        rows_of(selection, 10, "dataset 'hits'")
    assert str(raised.value) == f"dataset 'hits' has 10 rows, not {named}"


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (True, "dataset 'hits': rows can't be selected with True"),
        (1.5, "dataset 'hits': rows can't be selected with type float64, shape (1,)"),
        ([[0, 1]], "dataset 'hits': rows can't be selected with type int64, shape (1, 2)"),
        ([True, False], "dataset 'hits': a mask of shape (2,) can't select from 10 rows"),
        ("a", "dataset 'hits': rows can't be selected with type <U1, shape (1,)"),
    ],
)
def test_what_selects_no_rows_is_an_error(selection, message):
    with pytest.raises(DataMismatch) as raised:
        rows_of(selection, 10, "dataset 'hits'")
    assert str(raised.value) == message
