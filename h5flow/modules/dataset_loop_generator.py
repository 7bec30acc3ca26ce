"""The built-in generator: loops over the rows of a dataset of the input file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h5flow.core.h5_flow_generator import H5FlowGenerator
from h5flow.data.storage.chunks.length import slice_rows
from h5flow.errors import UsageError
from h5flow.workflow.positions import check_positions


class H5FlowDatasetLoopGenerator(H5FlowGenerator):
    """Yields the rows of `dset_name` from `start_position` to `end_position`, `chunk_size` at a time.

    The input file is copied to the output first, unless they are the same file. `chunk_size` is a number of
    rows, or `auto` (the default): the chunk length of the dataset in the file, or of datasets that h5flow-async has
    written, whose chunks are longer, the one that h5py would have chosen. Each rank takes every `size`-th chunk.

    Subclasses may override `copy` and `setup_slices`, and change `slices` and `iteration` at any time.
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
        #: The slices of this rank, from `init` on.
        self.slices: list[slice] = []
        #: The index in `slices` of the one that comes next.
        self.iteration = 0
        self.copy(self.input_filename, self.data_manager.working_path)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Note whether a subclass makes the copy by itself."""
        super().__init_subclass__(**kwargs)
        cls.copies_input = cls.copy is H5FlowDatasetLoopGenerator.copy

    def copy(self, f0: str, f1: str, block: bool = True) -> None:
        """Make file `f1`, which nobody has open, a copy of `f0`, unless they are the same. Collective.

        `__init__` calls it with the input and the file that becomes the output. Of the output, the runtime has begun
        the copy by then if no subclass overrides this, and nothing reads it before it is whole, whatever `block` says;
        of other files, ranks wait for the copy unless told not to `block`.
        """
        if f1 == self.data_manager.working_path:
            self.data_manager.start_with_copy_of(f0)
            return
        if self.rank == 0 and Path(f0).resolve() != Path(f1).resolve():
            import shutil

            shutil.copyfile(f0, f1)
        if block and self.size > 1:
            self.comm.barrier()

    def init(self) -> None:
        """Find out how many rows there are, and which of them this rank takes."""
        super().init()
        self.setup_slices()

    def setup_slices(self) -> None:
        """Make `slices` of the rows from `start_position` to `end_position`, and begin with the first one."""
        dataset = self.data_manager.get_dset(self.dset_name)
        if self.chunk_size == "auto":
            self.chunk_size = slice_rows(dataset)
        self.start_position = self.start_position or 0
        rows = len(dataset)
        self.end_position = rows if self.end_position is None else min(self.end_position, rows)
        length, end = self.chunk_size, self.end_position
        starts = range(self.start_position + self.rank * length, end, self.size * length)
        self.slices = [slice(start, min(start + length, end)) for start in starts]
        self.iteration = 0

    def __len__(self) -> int:
        """Return the number of slices of this rank."""
        return len(self.slices)

    def next(self) -> slice:
        """Return the next rows of this rank, `EMPTY` at the end."""
        if self.iteration >= len(self.slices):
            return self.EMPTY
        self.iteration += 1
        return self.slices[self.iteration - 1]
