"""Ranks that leave what they do together before its end, since one of them has failed, and go on with something else.

None of them can be taken out of what it is doing. So the one that has failed tells the others, whoever waits for
ranks there or makes another call gets an error, and that ends what is to be left. Where one doesn't come to that, as it
waits for a message of a component, say, nothing can be left, and all ranks have to be ended.
"""

from __future__ import annotations

from typing import Protocol

from h5flow.errors import H5FlowError


class OtherRankFailed(H5FlowError):
    """Another rank has failed at what this one does with it, and has told so."""


class Party(Protocol):
    """What ranks do together."""

    #: Whether this rank has failed at it.
    failed: bool

    def tell(self, why: str) -> None:
        """Tell the other ranks that this one has failed."""
        ...

    def part(self, patience: float) -> bool:
        """Let go of everything, when no rank goes on; says whether that has worked in so many seconds. Collective."""
        ...


#: What this rank does with others now.
parties: list[Party] = []


def is_waited_for() -> bool:
    """Whether this rank has failed at something, and hasn't parted from the others."""
    return any(party.failed for party in parties)


def part(patience: float) -> bool:
    """Let go of everything that ranks do together; says whether that has worked. Collective."""
    left = [party.part(patience) for party in parties]
    parties.clear()
    return all(left)
