"""Whether slices overlap or go in batches, one batch at a time, and how large a batch is.

A trip to a thread and back costs about 0.1 ms, a slice in a simple workflow half of that; and threads that compete
for the interpreter lose more than they win: small numpy on two threads takes twice the processor time. So slices go
in turn, in batches if they are cheap, unless there is something to win: components that wait, or compute without
Python's lock, beside each other. Then the clock decides, which holds what overlapping takes against what the same
slices take in turn.
"""

from __future__ import annotations

#: Slices that take less never overlap, in seconds for all components together.
CHEAP = 1e-3
#: How long a batch shall take, in seconds: between two of them the event loop wakes up, on another core.
_BATCH = 0.3
_LARGEST = 256
# By how much more slices take whose components always need Python's lock, when threads compete for it; else by the
# share of the time in which two of them do.
_COMPETING = 1.25
# Nobody competes if it is needed for less than this share of the time.
_SELDOM = 0.3
# A way is judged by so many slices, which took so long.
_JUDGED_SLICES = 8
_JUDGED_SECONDS = 0.1
# What it may then take of what slices take in turn: something must be won if threads compete.
_WON, _NOT_LOST = 0.95, 1.02
# Where threads compete, a trial may lose, so that slices go in turn for so many times as long before it.
_PATIENCE = 20.0
# What was no better is tried again after so many seconds, and then ever more seldom, since that isn't for nothing.
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 60.0


class Batches:
    """Decides from what the last slices took."""

    def __init__(self) -> None:
        self.size = 1
        #: Whether one batch at a time is in flight, of one slice or more.
        self.alone = False
        self._mean = 0.0
        # Of the time of a slice: the share of the component that takes longest.
        self._longest = 0.0
        # ... and that in which Python's lock is needed.
        self._need = 1.0
        # What the quickest slice of late took that ran with no other beside it, without trips.
        self._least: float | None = None
        # What a slice takes by the clock, when it overlaps with others and when it doesn't.
        self._overlapping: float | None = None
        self._in_turn: float | None = None
        self._window: tuple[float, int] | None = None
        self._began: float | None = None
        self._next_trial = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def pace(self) -> str:
        """Say what has been found out, for people to read."""
        ways = (("overlapping", self._overlapping), ("in turn", self._in_turn))
        return ", ".join(f"{1e3 * each:.2f} ms a slice {way}" for way, each in ways if each is not None)

    def note(
        self,
        seconds: float,
        slices: int,
        now: float,
        *,
        longest: float = 0.0,
        need: float | None = 0.0,
        single: bool = False,
    ) -> bool:
        """Note that `slices` more are done, which took `seconds` for all components together, waiting not counted.

        `longest` is what the component took that took longest; `need` the share of the time in which somebody
        computes with Python's lock, `None` if that isn't known; `now` the time of a clock; `single` says that nothing
        else could be in flight, whatever is decided here. Returns whether the decision is another one than before.
        """
        each = seconds / slices
        before = self.alone
        if self._began is None:
            self._began = now
        if single or before:
            self._least = each if self._least is None else min(self._least, each)
        weight = min(0.5, slices / 8)
        if single and self._least is not None:
            self._mean = self._least  # the first ones of a run take longer than those to come
        else:
            self._mean += weight * (each - self._mean)
        self._longest += (1.0 if single else weight) * (longest / max(seconds, 1e-9) - self._longest)
        if self._mean < CHEAP:
            self._go(alone=True)
        elif single or before:
            if not single:
                self._time(slices, now)
            self._need = 1.0 if need is None else need
            promise = max(self._longest, self._need) * (1 + _COMPETING * self._need**2)
            self._go(alone=promise >= 1 or now < max(self._next_trial, self._began + self._patience))
        else:
            self._judge(slices, now)
        if single:
            self._window = None
        if self.alone:
            # What isn't known yet may be when the next slice is done.
            largest = 1 if need is None and self._mean >= CHEAP else _LARGEST
            self.size = max(1, min(largest, 4 * self.size, int(_BATCH / max(self._mean, 1e-9))))
        return self.alone != before

    @property
    def _patience(self) -> float:
        """Return for how long slices go in turn before a trial, in seconds."""
        if self._need <= _SELDOM:
            return 0.0
        return _PATIENCE * max(_JUDGED_SECONDS, _JUDGED_SLICES * (self._in_turn or self._mean))

    def _go(self, *, alone: bool) -> None:
        if alone != self.alone:
            self.alone, self.size, self._window = alone, 1, None
            if alone:
                self._least = None

    def _time(self, slices: int, now: float) -> bool:
        """Time the present way; says whether it has just been timed for long enough."""
        if self._window is None:
            self._window = (now, 0)
            return False
        began, count = self._window
        self._window = (began, count + slices)
        if count + slices < _JUDGED_SLICES or now - began < _JUDGED_SECONDS:
            return False
        self._window = None
        here = (now - began) / (count + slices)
        if self.alone:
            self._in_turn = here
        else:
            self._overlapping = here
        return True

    def _judge(self, slices: int, now: float) -> None:
        """Go back to slices in turn if overlapping isn't worth it."""
        if not self._time(slices, now):
            return
        in_turn = self._in_turn or self._least
        bearable = _NOT_LOST if self._need <= _SELDOM else _WON
        if in_turn is not None and self._overlapping is not None and self._overlapping > bearable * in_turn:
            pause = max(self._pause, self._patience)
            self._next_trial = now + pause
            self._pause = min(max(_LONGEST_PAUSE, 2 * self._patience), 2 * pause)
            self._go(alone=True)
        else:
            self._pause = _FIRST_PAUSE
