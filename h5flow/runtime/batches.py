"""How many slices an actor takes at a time.

A trip to a thread and back costs about 0.1 ms, a slice in a simple workflow half of that. So where slices are cheap
many of them travel together, and only one such batch is in flight: threads that compete for the interpreter
with pieces of work this small lose more than they win.
"""

from __future__ import annotations

#: Slices that take less are not worth a trip, in seconds for all components together.
CHEAP = 1e-3
#: How long a batch of cheap slices shall take, in seconds.
_BATCH = 10e-3
_LARGEST = 256


class Batches:
    """Decides from what the last slices took."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self.size = 1

    @property
    def alone(self) -> bool:
        """Whether slices are cheap, so that nothing else shall be in flight with a batch."""
        return self.size > 1

    def note(self, seconds: float, slices: int) -> None:
        """`slices` more are done, which took `seconds` for all components together, waiting not counted."""
        each = seconds / slices
        weight = min(0.5, slices / 8)
        self._mean = each if self._mean is None else self._mean + weight * (each - self._mean)
        if self._mean >= CHEAP:
            self.size = 1
        else:
            self.size = max(1, min(_LARGEST, 4 * self.size, int(_BATCH / max(self._mean, 1e-9))))
