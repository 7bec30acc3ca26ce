"""Taking rows by their numbers: from a file in pieces, from an array as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from h5flow.data.rows.selection import Indices

Array = np.ndarray[Any, np.dtype[Any]]

#: Reading so many bytes more costs less than another call to HDF5.
GAP_BYTES = 64 * 1024
# Larger arrays would be fresh memory at each read, and take several times as long to fill.
_PIECE_BYTES = 1 << 20


def take_by_pieces(
    read: Callable[[int, int], Array],
    rows: Indices,
    row_bytes: int,
    dtype: np.dtype[Any],
    row_shape: tuple[int, ...],
) -> Array:
    """Read the given rows (ascending, without repeats) in pieces that don't span large gaps."""
    if not len(rows):
        return np.empty((0, *row_shape), dtype)
    apart = np.diff(rows) > max(1, GAP_BYTES // row_bytes)
    apart |= np.diff(rows // max(1, _PIECE_BYTES // row_bytes)) > 0
    breaks = np.flatnonzero(apart) + 1
    pieces = []
    for piece in np.split(rows, breaks):
        first, last = int(piece[0]), int(piece[-1]) + 1
        values = read(first, last)
        pieces.append(values if len(piece) == last - first else pick(values, piece - first))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def pick(values: Array, rows: Indices) -> Array:
    """Return `values[rows]`, moving rows of several fields as a whole; numpy would copy each field by itself."""
    if values.dtype.names is None or values.dtype.hasobject:
        return values[rows]
    whole = np.dtype((np.void, values.dtype.itemsize))
    return np.ascontiguousarray(values).view(whole)[rows].view(values.dtype)
