"""Communicators of components' own: made once, and used again by the components of the next workflow.

An MPI has a limited number of them (MPICH 2,048), and one process may run thousands of workflows.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Duplicates:
    """Duplicates of a communicator, kept with it. All ranks take them and give them back alike."""

    def __init__(self, of: Intracomm) -> None:
        self._of = of
        self._idle: list[Intracomm] = []

    def take(self) -> Intracomm:
        """Return one that nobody has, made where there is none. Collective."""
        if self._idle:
            return self._idle.pop(0)
        made = self._of.Dup()
        # The first pickled reduction on a communicator duplicates it with the GIL held (mpi4py #784), and what
        # brings messages would stand still while others wait for them. Here all ranks are, anyway.
        made.allreduce(0)
        return made

    def give_back(self, taken: list[Intracomm]) -> None:
        """Take back duplicates that nobody uses any more, on all ranks alike."""
        # Users may have freed theirs, on all ranks.
        self._idle.extend(comm for comm in taken if comm)


def duplicates(comm: Intracomm) -> Duplicates:
    """Return the duplicates of a communicator."""
    found = comm.Get_attr(_keyval())
    if isinstance(found, Duplicates):
        return found
    made = Duplicates(comm)
    comm.Set_attr(_keyval(), made)
    return made


@functools.cache
def _keyval() -> int:
    from mpi4py import MPI

    return MPI.Comm.Create_keyval()
