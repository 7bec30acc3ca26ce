"""Whether and how MPI is used: decided once, imported only where somebody asks for it."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

# How the launchers of the common MPI implementations tell a process how many ranks there are.
_LAUNCHED_RANKS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "PMIX_SIZE", "MV2_COMM_WORLD_SIZE")


@functools.cache
def available() -> bool:
    """Whether MPI may be used: mpi4py can be imported, and neither environment nor command line rule it out."""
    if os.environ.get("H5FLOW_NOMPI") or "--nompi" in sys.argv:
        return False
    try:
        from mpi4py import MPI  # noqa: F401
    except (ImportError, RuntimeError):  # RuntimeError: mpi4py is there, an MPI library isn't
        return False
    return True


@functools.cache
def world() -> Intracomm:
    """The communicator of all ranks."""
    from mpi4py import MPI

    return MPI.COMM_WORLD


def launched_ranks() -> int:
    """The number of ranks that a launcher has started, found without importing MPI."""
    counts = (os.environ.get(variable, "") for variable in _LAUNCHED_RANKS)
    return max([1, *(int(count) for count in counts if count.isdigit())])
