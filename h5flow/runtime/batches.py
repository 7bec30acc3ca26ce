"""Whether slices overlap or go in batches, one batch at a time, and how large a batch is.

A trip to a thread and back costs about 0.1 ms, a slice in a simple workflow half of that; and threads that compete
for the interpreter with small pieces of work lose more than they win. So cheap slices travel in batches of which one
is in flight. For those that cost more the clock decides: what overlapping takes is held against what the same slices
take one after the other.
"""

from __future__ import annotations

#: Slices that take less never overlap, in seconds for all components together.
CHEAP = 1e-3
#: How long a batch shall take, in seconds.
_BATCH = 10e-3
_LARGEST = 256
# A way is judged by so many slices, which took so long.
_JUDGED_SLICES = 16
_JUDGED_SECONDS = 0.1
# How much better the other way must have been.
_BETTER = 0.95
# The other way is tried again after so many seconds, and then ever more seldom, since that isn't for nothing.
_FIRST_TRIAL = 2.0
_LAST_TRIAL = 60.0


class Batches:
    """Decides from what the last slices took."""

    def __init__(self) -> None:
        self.size = 1
        #: Whether one batch at a time is in flight, of one slice or more.
        self.alone = False
        self._mean = 0.0
        # What the quickest slice of late took that ran with no other beside it, without trips.
        self._least: float | None = None
        # What a slice takes by the clock, when it overlaps with others and when it doesn't.
        self._overlapping: float | None = None
        self._in_turn: float | None = None
        self._window: tuple[float, int] | None = None
        self._next_trial: float | None = None
        self._pause = _FIRST_TRIAL

    @property
    def pace(self) -> str:
        """What has been found out, for people to read."""
        ways = (("overlapping", self._overlapping), ("in turn", self._in_turn))
        return ", ".join(f"{1e3 * each:.2f} ms a slice {way}" for way, each in ways if each is not None)

    def note(self, seconds: float, slices: int, now: float, *, single: bool = False) -> bool:
        """`slices` more are done, which took `seconds` for all components together, waiting not counted.

        `now` is the time of a clock; `single` says that nothing else could be in flight, whatever is decided here.
        Returns whether the decision is another one than before.
        """
        each = seconds / slices
        before = self.alone
        if single or before:
            self._least = each if self._least is None else min(self._least, each)
        if single and self._least is not None:
            self._mean = self._least  # the first ones of a run take longer than those to come
        else:
            self._mean += min(0.5, slices / 8) * (each - self._mean)
        if self._mean < CHEAP:
            self._go(alone=True)
        elif not single:
            self._judge(slices, now)
        if single:
            self._window = None
        if self.alone:
            self.size = max(1, min(_LARGEST, 4 * self.size, int(_BATCH / max(self._mean, 1e-9))))
        return self.alone != before

    def _go(self, *, alone: bool) -> None:
        if alone != self.alone:
            self.alone, self.size, self._window = alone, 1, None
            self._least = None

    def _judge(self, slices: int, now: float) -> None:
        if self._window is None:
            self._window = (now, 0)
            return
        began, count = self._window
        self._window = (began, count + slices)
        if count + slices < _JUDGED_SLICES or now - began < _JUDGED_SECONDS:
            return
        self._window = None
        here = (now - began) / (count + slices)
        if self.alone:
            self._in_turn, other = here, self._overlapping
        else:
            self._overlapping, other = here, self._in_turn
            if self._least is not None and here < _BETTER * self._least:
                return  # better than one after the other could be
        if other is None:
            self._next_trial = now
        elif other < _BETTER * here:
            self._go(alone=not self.alone)
            return
        if self._next_trial is None or now >= self._next_trial:
            self._next_trial, self._pause = now + self._pause, min(_LAST_TRIAL, 2 * self._pause)
            self._go(alone=not self.alone)
