"""Sets of rows, against plain sets."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5flow.data.rows.row_ranges import RowRanges

bounds = st.tuples(st.integers(0, 40), st.integers(0, 40))


@given(st.lists(bounds, max_size=12), bounds, st.lists(st.integers(0, 45), max_size=8, unique=True))
def test_they_are_as_sets_of_rows(added, asked, some):
    ranges, rows = RowRanges(), set()
    for start, stop in added:
        ranges.add(start, stop)
        rows |= set(range(start, stop))

    low, high = min(asked), max(asked)
    inside = rows & set(range(low, high))
    assert bool(ranges) == bool(rows)
    assert ranges.meets(low, high) == bool(inside)
    assert ranges.mask(low, high).tolist() == [row in rows for row in range(low, high)]
    between = ranges.between(low, high)
    assert [row for start, stop in between for row in range(start, stop)] == sorted(inside)
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(between))
    assert ranges.meets_any(np.array(some, np.int64)) == bool(rows & set(some))

    ranges.clear()
    assert not ranges
    assert not ranges.meets(0, 50)
