"""When a file that is being written is brought up to date, so that a run that is killed leaves one that can be read.

HDF5's SWMR mode would do that, too, but it allows no new datasets and attributes, which stages make at any time, and
none of the older formats that inputs have, of which outputs are copies. In between, HDF5 writes rows to places that
the file doesn't know of yet, so it stays as it was; not so where compressed chunks are written once more and move,
which is why a checkpoint leaves out the last chunk of a compressed dataset as long as rows are missing in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Between two checkpoints are so many seconds at least, and so many times as much as the last one took.
PERIOD, PATIENCE = 2.0, 20.0


class Checkpoints:
    """Says when the next one is due; the first one is at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock()

    @property
    def due(self) -> bool:
        """Say whether it is time for a checkpoint."""
        return self._clock() >= self._next

    @contextmanager
    def made(self) -> Iterator[None]:
        """Time the checkpoint that is made in the block."""
        began = self._clock()
        try:
            yield
        finally:
            ended = self._clock()
            self._next = ended + max(PERIOD, PATIENCE * (ended - began))
