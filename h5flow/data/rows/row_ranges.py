"""Sets of rows, kept as ranges."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np

from h5flow.data.rows.selection import Indices


class RowRanges:
    """Ranges of rows, which are mostly added in ascending order."""

    def __init__(self) -> None:
        # Ascending, none touching the next.
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Add rows `start:stop`."""
        if start >= stop:
            return
        # The ranges that touch the new one become one with it.
        first = bisect.bisect_left(self._stops, start)
        last = bisect.bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def clear(self) -> None:
        """Remove all rows."""
        self._starts.clear()
        self._stops.clear()

    def between(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges, as far as they lie in `start:stop`."""
        first, last = bisect.bisect_right(self._stops, start), bisect.bisect_left(self._starts, stop)
        pairs = zip(self._starts[first:last], self._stops[first:last], strict=True)
        return [(max(start, low), min(stop, high)) for low, high in pairs]

    def meets(self, start: int, stop: int) -> bool:
        """Say whether any of rows `start:stop` is in it."""
        at = bisect.bisect_right(self._stops, start)
        return start < stop and at < len(self._starts) and self._starts[at] < stop

    def meets_any(self, rows: Indices) -> bool:
        """Say whether any of some rows is in it."""
        ranges = self.between(int(rows.min()), int(rows.max()) + 1) if len(rows) else []
        if not ranges:
            return False
        starts, stops = np.array(ranges).T
        at = np.searchsorted(stops, rows, side="right")
        near = at < len(starts)
        return bool((starts[at[near]] <= rows[near]).any())

    def mask(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Say of each of rows `start:stop` whether it is in it."""
        found = np.zeros(stop - start, bool)
        for low, high in self.between(start, stop):
            found[low - start : high - start] = True
        return found
