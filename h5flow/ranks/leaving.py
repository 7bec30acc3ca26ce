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


class SharedFile(Protocol):
    """This rank's part in a file that it shares with others."""

    @property
    def failed(self) -> bool:
        """Say whether this rank has failed, and others may wait for it."""
        ...

    def tell(self, why: str) -> None:
        """Tell the other ranks that this one has failed."""
        ...

    def part(self, patience: float) -> bool:
        """Let go of everything, when no rank goes on; says whether that has worked in so many seconds. Collective."""
        ...


_shared: list[SharedFile] = []


def begin(file: SharedFile) -> None:
    """Take note that this rank shares a file from now on."""
    _shared.append(file)


def end(file: SharedFile) -> None:
    """Take note that ranks have let go of a file, all in order."""
    _shared.remove(file)


def is_waited_for() -> bool:
    """Say whether this rank has failed at a file, and hasn't parted from those that it shares it with."""
    return any(file.failed for file in _shared)


def tell(why: str) -> None:
    """Tell the other ranks that this one has failed, at whatever files it shares with them."""
    for file in _shared:
        file.tell(why)


def part(patience: float) -> bool:
    """Let go of all that ranks share; says whether that has worked, each in so many seconds. Collective."""
    left = [file.part(patience) for file in _shared]
    _shared.clear()
    return all(left)
