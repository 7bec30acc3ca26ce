"""How many rows a chunk has on disk, and a slice of the built-in loop, which don't depend on each other.

On disk, long chunks read, write and compress well, but a dataset that stays small shall stay small. So a dataset
begins with the short chunks that h5py would have given it, and gets long ones when it has rows enough to fill one.
Since it is then another object of HDF5, that is so only in the run that has created it, where nothing refers to it.
A loop takes slices as long as the short ones in either case, since they pipeline and stay in the processor's cache.

Which datasets had their chunks chosen here is seen from their fill time (`ALLOC`), which isn't HDF5's own (`IFSET`).
With the default fill value it means the same, and unlike an attribute or a comment it is neither seen by users nor
lost by h5repack and h5copy. (h5py before 3.11 sets it as well. If somebody had it make chunks of just the length that
is chosen here, which isn't its own guess, these are taken for our own.)
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import h5py
import numpy as np
from h5py import h5d, h5p

if TYPE_CHECKING:
    import numpy.typing as npt

# Large enough that reading and compressing by chunk is efficient.
_LONG_BYTES = 128 << 10
_MAX_ROWS = 1 << 16

# h5py's `chunks=True` aims at a chunk that grows slowly with the dataset, between these bounds.
_BASE, _SMALLEST, _LARGEST, _MIB = 16 << 10, 8 << 10, 1 << 20, 1 << 20
_UNLIMITED = 1024  # as so long it takes an axis of no length


def guessed_chunk(item_bytes: int, row_shape: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return the chunk that h5py's `chunks=True` gives a dataset of shape `(0, *row_shape)`."""
    lengths = [_UNLIMITED, *(length or _UNLIMITED for length in row_shape)]
    whole = max(1, math.prod(lengths) * item_bytes)
    wanted = min(max(_BASE * 2 ** math.log10(whole / _MIB), _SMALLEST), _LARGEST)
    for axis in itertools.cycle(range(len(lengths))):
        count = math.prod(lengths)
        if count * item_bytes < min(1.5 * wanted, _LARGEST) or count == 1:
            break
        lengths[axis] = -(-lengths[axis] // 2)
    return tuple(lengths)


def long_rows(dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> int:
    """Return the length of chunks of a dataset that has many rows, a power of two."""
    row_bytes = max(1, np.dtype(dtype).itemsize * math.prod(row_shape))
    rows = max(1, min(_MAX_ROWS, _LONG_BYTES // row_bytes))
    return 1 << (rows.bit_length() - 1)


def short_rows(dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> int:
    """Return the length of chunks of a dataset that hasn't many rows yet."""
    return min(guessed_chunk(np.dtype(dtype).itemsize, row_shape)[0], long_rows(dtype, row_shape))


def chosen_here(creation: h5p.PropDCID) -> h5p.PropDCID:
    """Mark the properties of a dataset that is going to be created: its chunk's length is chosen here."""
    creation.set_fill_time(h5d.FILL_TIME_ALLOC)
    return creation


def is_chosen_here(dataset: h5py.Dataset) -> bool:
    """Say whether a dataset has chunks whose length was chosen here, by this or an earlier run."""
    chunks = dataset.chunks
    if chunks is None or dataset.id.get_create_plist().get_fill_time() != h5d.FILL_TIME_ALLOC:
        return False
    kind, row_shape = dataset.dtype, dataset.shape[1:]
    return chunks[0] in (long_rows(kind, row_shape), short_rows(kind, row_shape))


def slice_rows(dataset: h5py.Dataset) -> int:
    """Say how many rows a loop over a dataset takes at a time.

    That is the chunk length in the file where somebody else has chosen it, and otherwise, also where there are no
    chunks, the one that h5py would have chosen.
    """
    if dataset.chunks is not None and not is_chosen_here(dataset):
        return int(dataset.chunks[0])
    return guessed_chunk(dataset.dtype.itemsize, dataset.shape[1:])[0]
