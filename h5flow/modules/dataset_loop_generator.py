"""The built-in generator: loops over the rows of a dataset of the input file."""

from __future__ import annotations

from typing import Any

import numpy as np

from h5flow.core.h5_flow_generator import H5FlowGenerator
from h5flow.data.layout import rows_per_chunk
from h5flow.errors import UsageError


def check_positions(start: int | None, end: int | None) -> None:
    """Raise `UsageError` for positions that are no row numbers."""
    for name, position in (("start", start), ("end", end)):
        if position is not None and position < 0:
            raise UsageError(f"the {name} position is {position}, rows are counted from 0")


class H5FlowDatasetLoopGenerator(H5FlowGenerator):
    """Yields the rows of `dset_name` from `start_position` to `end_position`, `chunk_size` at a time.

    The input file is copied to the output first, unless they are the same file. `chunk_size` is a number of
    rows, or `auto` (the default): the chunk length of the dataset in the file. Each rank takes every
    `size`-th chunk.
    """

    class_version = "1.0.0"
    copies_input = True

    default_chunk_size = "auto"

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        if not self.input_filename:
            raise UsageError(f"looping over dataset '{self.dset_name}' needs an input file")
        check_positions(self.start_position, self.end_position)
        chunk_size = params.get("chunk_size", self.default_chunk_size)
        if chunk_size != "auto" and (
            isinstance(chunk_size, bool) or not isinstance(chunk_size, int | np.integer) or chunk_size < 1
        ):
            raise UsageError(f"chunk_size is a number of rows, at least 1, or 'auto', not {chunk_size!r}")
        self.chunk_size: Any = chunk_size
        self.data_manager.start_with_copy_of(self.input_filename)

    def init(self) -> None:
        """Find out how many rows there are, and where this rank starts."""
        super().init()
        dataset = self.data_manager.get_dset(self.dset_name)
        if self.chunk_size == "auto":
            chunks = dataset.chunks
            self.chunk_size = chunks[0] if chunks else rows_per_chunk(dataset.dtype, dataset.shape[1:])
        self.start_position = self.start_position or 0
        rows = len(dataset)
        self.end_position = rows if self.end_position is None else min(self.end_position, rows)
        self._position = self.start_position + self.rank * self.chunk_size

    def __len__(self) -> int:
        """The number of slices of the rank with the most."""
        rows = max(0, (self.end_position or 0) - (self.start_position or 0))
        return -int(-rows // (self.chunk_size * self.size))

    def next(self) -> slice:
        """The next rows of this rank, `EMPTY` at the end."""
        assert self.end_position is not None
        start = self._position
        if start >= self.end_position:
            return self.EMPTY
        self._position += self.size * self.chunk_size
        return slice(start, min(start + self.chunk_size, self.end_position))
