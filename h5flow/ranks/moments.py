"""When something happens in a workflow."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Before the loop, in it, and after it.
BEFORE: Final = 0
LOOP: Final = 1
AFTER: Final = 2


class Moment(NamedTuple):
    """When a component does something. Moments are ordered as sequential mode has them."""

    #: `BEFORE`, `LOOP` or `AFTER`.
    part: int
    #: The number of the slice in the loop, of the call outside of it.
    number: int
    #: Of the component: 0 the generator, 1 the first stage, and so on.
    position: int
