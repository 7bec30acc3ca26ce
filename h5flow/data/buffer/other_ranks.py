"""What other ranks do to a dataset, as far as this one has to know before it uses the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from h5flow.data.rows.row_ranges import RowRanges

Rows = np.ndarray[Any, np.dtype[np.int64]]


class OtherRanks:
    """The rows that other ranks have reserved, and what has to be agreed on with them before changes are made."""

    def __init__(self) -> None:
        self._reserved = RowRanges()
        self._pending: list[Any] = []

    def reserved(self, start: int, stop: int) -> None:
        """Note that rows `start:stop` are theirs."""
        self._reserved.add(start, stop)

    def have_any(self, rows: tuple[int, int] | Rows) -> bool:
        """Say whether they have reserved any of rows `start, stop`, or of the given ones, not seen since."""
        if not self._reserved:
            return False
        return self._reserved.meets(*rows) if isinstance(rows, tuple) else self._reserved.meets_any(rows)

    def seen(self) -> None:
        """Note that the file has all that they have written."""
        self._reserved.clear()

    @property
    def pending(self) -> Sequence[Any]:
        """Return what has to be agreed on before changes that have been asked for are made."""
        return self._pending

    def await_agreement(self, key: Any) -> None:
        """Note that a change waits for something to be agreed on."""
        self._pending.append(key)

    def agreed(self, key: Any) -> None:
        """Note that it is agreed on, so that the change is made."""
        self._pending.remove(key)
