"""What goes on at once, against counting it tick by tick."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5flow.report.work import filled, merged, overlaps, seconds_of_both

TICKS = 40
SPANS = st.lists(st.tuples(st.integers(0, TICKS - 1), st.integers(0, 12)), max_size=12)


def columns(spans):
    began = np.array([began for began, _ in spans], float)
    return began, began + np.array([lasts for _, lasts in spans], float)


def ticks(spans):
    """How many spans there are in each tick."""
    result = np.zeros(TICKS + 12, int)
    for began, lasts in spans:
        result[began : began + lasts] += 1
    return result


def ticked(spans):
    return ticks([(int(began), int(ended - began)) for began, ended in zip(*spans, strict=True)])


@given(SPANS)
def test_merged_spans_cover_the_same(spans):
    began, ended = merged(columns(spans))
    assert (ticked((began, ended)) == (ticks(spans) > 0)).all()
    assert (began[1:] > ended[:-1]).all()


@given(SPANS, SPANS)
def test_overlaps_are_where_both_are(first, second):
    both = (ticks(first) > 0) & (ticks(second) > 0)
    assert (ticked(overlaps(columns(first), columns(second))) == both).all()
    assert seconds_of_both(columns(first), columns(second)) == (both.sum(), (ticks(first) > 0).sum())


@given(SPANS, st.integers(1, 7))
def test_a_place_is_filled_by_the_spans_that_are_there(spans, width):
    edges = np.arange(0, TICKS + 12, width, dtype=float)
    counts = ticks(spans)
    expected = [counts[int(low) : int(low) + width].mean() for low in edges[:-1]]
    assert np.allclose(filled(columns(spans), edges), expected)


def test_moments_that_are_not_known_are_no_spans():
    spans = (np.array([np.nan, 1.0]), np.array([np.nan, 2.0]))
    assert [list(part) for part in merged(spans)] == [[1.0], [2.0]]
    assert list(filled(spans, np.array([0.0, 1.0, 2.0]))) == [0.0, 1.0]
