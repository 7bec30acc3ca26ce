"""When something happens in a workflow."""

from __future__ import annotations

from typing import Final

#: Before the loop, in it, and after it.
BEFORE: Final = 0
LOOP: Final = 1
AFTER: Final = 2

#: When a component does something: part of the run, number of the slice or of the call, component.
Moment = tuple[int, int, int]
