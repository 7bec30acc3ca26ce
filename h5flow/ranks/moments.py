"""The parts of a run; where ranks agree on something, a moment in it is a `rounds.RunMoment`."""

from __future__ import annotations

from typing import Final

#: Before the loop, in it, and after it.
BEFORE: Final = 0
LOOP: Final = 1
AFTER: Final = 2
