"""What several ranks that set attributes together want, and in what they differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.data.collective.agreement import agreed, alike

SAME = [
    (1, 1),
    (1, np.int32(1)),
    (1.0, 1),
    (np.nan, float("nan")),
    ([1, np.nan], np.array([1, np.nan])),
    ("text", "text"),
    (["a", "bc"], np.array(["a", "bc"])),
    (b"x", np.bytes_(b"x")),
    (True, np.True_),
    (np.zeros(0), np.zeros(0)),
    (np.zeros(2, "i4,f8"), np.zeros(2, "i4,f8")),
    (np.array([(1, np.nan)], "i4,f8"), np.array([(1, np.nan)], "i4,f8")),
    (None, None),
]
OTHER = [
    (1, 2),
    (1, "1"),
    (np.nan, 1.0),
    ([1, 2], [1, 3]),
    ([1, 2], [1, 2, 3]),
    (np.zeros(3), 0.0),
    ("text", "tex"),
    (np.zeros(1, "i4,f8"), np.ones(1, "i4,f8")),
    (np.zeros(1, "i4,f8"), np.zeros(1, "i4")),
    (np.zeros(1, [("a", "i4")]), np.zeros(1, [("b", "i4")])),
    ([[1], [1, 2]], [[1], [1, 3]]),
    (None, 0),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one, other):
    assert alike(one, other)
    assert alike(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_not_the_same(one, other):
    assert not alike(one, other)
    assert not alike(other, one)


def test_a_difference_names_all_values_and_ranks():
    wishes = {rank: ("peaks", {"count": count}) for rank, count in enumerate([7, 5, 7, 8])}
    merged, (difference,) = agreed(wishes)
    assert merged == {"peaks": {"count": 7}}
    assert str(difference) == "attribute 'count' of 'peaks' is 7 on ranks 0, 2, 5 on rank 1, 8 on rank 3"
    assert difference.kept == 0


def test_long_values_and_many_ranks_are_cut():
    wishes = {rank: ("a", {"x": "y" * 100 + str(rank // 9)}) for rank in range(90)}
    _, (difference,) = agreed(wishes)
    assert len(str(difference)) < 500
    assert str(difference).endswith("6 others on other ranks")


@given(
    st.dictionaries(
        st.integers(0, 5),
        st.tuples(st.sampled_from("ab"), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2))),
        min_size=1,
    )
)
def test_against_plain_python(wishes):
    merged, differences = agreed(wishes)
    expected, values = {}, {}
    for rank, (path, attributes) in sorted(wishes.items(), reverse=True):
        expected.setdefault(path, {}).update(attributes)
        for name, value in attributes.items():
            values.setdefault((path, name), {}).setdefault(value, []).insert(0, rank)
    assert merged == expected
    assert {(each.path, each.name): {value: [*ranks] for value, ranks in each.values} for each in differences} == {
        key: found for key, found in values.items() if len(found) > 1
    }
