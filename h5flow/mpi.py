"""Whether and how MPI is used: decided once, imported only where somebody asks for it."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from h5flow.errors import H5FlowError, UsageError

_log = logging.getLogger(__name__)

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py.MPI import Intracomm

# How the launchers of the common MPI implementations tell a process how many ranks there are, and which it is.
_LAUNCHED_RANKS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "PMIX_SIZE", "MV2_COMM_WORLD_SIZE")

_LAUNCHED_RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "MPI_LOCALRANKID")

_LET_OUTPUT_PASS = 0.3  # seconds


@functools.cache
def available() -> bool:
    """Say whether MPI may be used: mpi4py can be imported, and neither environment nor command line rule it out."""
    if _ruled_out():
        return False
    try:
        from mpi4py import MPI  # noqa: F401
    except (ImportError, RuntimeError):  # RuntimeError: mpi4py is there, an MPI library isn't
        return False
    return True


def _ruled_out() -> bool:
    return bool(os.environ.get("H5FLOW_NOMPI")) or "--nompi" in sys.argv


@functools.cache
def world() -> Intracomm:
    """Return the communicator of all ranks."""
    from mpi4py import MPI

    return MPI.COMM_WORLD


def alone() -> Intracomm | None:
    """Return the communicator of this rank by itself, where a launcher has started several; `None` without."""
    if launched_ranks() == 1 or not available():
        return None
    from mpi4py import MPI

    return MPI.COMM_SELF


def __getattr__(name: str) -> Any:
    """Return what users' modules import: `H5FLOW_MPI` (whether MPI may be used); `comm`, `rank`, `size` of all ranks.

    They are fixed on first use, which may start MPI.
    """
    if name not in ("H5FLOW_MPI", "comm", "rank", "size"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    comm = world() if available() else None
    values: dict[str, Any] = {
        "H5FLOW_MPI": comm is not None,
        "comm": comm,
        "rank": 0 if comm is None else comm.Get_rank(),
        "size": 1 if comm is None else comm.Get_size(),
    }
    globals().update(values)
    return values[name]


def launched_ranks() -> int:
    """Return how many ranks a launcher has started, found without importing MPI where the launcher tells it."""
    counts = [int(count) for count in map(os.environ.get, _LAUNCHED_RANKS) if count is not None and count.isdigit()]
    if not counts and any(variable in os.environ for variable in _LAUNCHED_RANK) and available():
        return world().Get_size()  # srun with PMIx tells a rank its number only
    return max([1, *counts])


def tell_strangers() -> None:
    """Warn where srun has started several processes and hasn't told them of each other."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks.isdigit() and int(tasks) > 1 and launched_ranks() == 1 and not _ruled_out():
        _log.warning(
            "srun has started %s processes that don't know of each other, so each does all of the work: use the"
            " --mpi of srun that belongs to the MPI (`srun --mpi=list`: pmix for Open MPI, pmi2 for MPICH), or set"
            " H5FLOW_NOMPI=1 if that is what you want",
            tasks,
        )


class OnFirstRank(H5FlowError):
    """Rank 0 has failed at what all ranks need, and says why."""


class _OneFile:
    """Whether ranks are at work on one file, so that none can go on when one has failed."""

    working = False


@contextmanager
def together(comm: Intracomm | None) -> Iterator[None]:
    """Let ranks work on one file for the duration of the block; `end_all` ends them if it isn't left in order."""
    _OneFile.working = comm is not None and comm.Get_size() > 1
    yield
    parted()


def working_together() -> bool:
    """Say whether ranks are at work on one file."""
    return _OneFile.working


def parted() -> None:
    """Take note that ranks have left their file together, so that each of them may end by itself."""
    _OneFile.working = False


def end_all(code: int) -> None:
    """End all ranks with an exit code, if they work on one file together and this one has failed.

    Nothing is closed before: closing is something that ranks do together, and the others won't.
    """
    if not _OneFile.working:
        return
    from mpi4py import MPI

    sys.stdout.flush()
    sys.stderr.flush()
    # Launchers drop what they haven't passed on when they are told to abort.
    time.sleep(_LET_OUTPUT_PASS)
    MPI.COMM_WORLD.Abort(code)


@functools.cache
def end_all_at_exit(waited_for: Callable[[], bool]) -> None:
    """End all ranks when this process ends, having failed, if others may still wait for it then.

    For scripts, in which nobody else does: whoever ends with an error would wait in MPI for the others.
    """

    def end() -> None:
        if waited_for():
            _OneFile.working = True
            end_all(1)

    atexit.register(end)


def end_all_before_start(code: int) -> None:
    """End all ranks with an exit code, if this one ends before it has started MPI, as others may have.

    Those wait for all to start, and a launcher doesn't end them when one only exits.
    """
    if launched_ranks() == 1 or "mpi4py.MPI" in sys.modules or not available():
        return
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(code)


def launched_rank() -> int:
    """Return the number of this rank as a launcher has told it, found without importing MPI; 0 without one."""
    numbers = (os.environ.get(variable, "") for variable in _LAUNCHED_RANK)
    return next((int(number) for number in numbers if number.isdigit()), 0)


def check_same(comm: Intracomm, values: list[str], what: str) -> None:
    """Raise `UsageError` where ranks have been given different values. Collective."""
    given = comm.allgather(values)
    different = [rank for rank, others in enumerate(given) if others != given[0]]
    if different:
        raise UsageError(f"{what} differ between rank 0 and rank {different[0]}: start all ranks alike")


def check_launch(ranks: int) -> None:
    """Raise `UsageError` where several ranks were started that can't work together."""
    if not available():
        raise UsageError(
            f"started on {ranks} ranks, but mpi4py can't be used: pip install 'h5flow-async[mpi]', leave out --nompi"
            " and H5FLOW_NOMPI, or start it without mpiexec"
        )
    from mpi4py import MPI

    size = MPI.COMM_WORLD.Get_size()
    if size != ranks:
        raise UsageError(
            f"mpiexec has started {ranks} ranks, but mpi4py sees {size}: they belong to different MPI installations;"
            " use the mpiexec of the MPI that mpi4py was built with (python -c 'from mpi4py import MPI;"
            " print(MPI.Get_library_version())')"
        )
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise UsageError(
            "MPI was started without MPI_THREAD_MULTIPLE, which is needed since ranks exchange messages while stages"
            " run: unset MPI4PY_RC_THREAD_LEVEL, or choose an MPI that was built with thread support"
        )


def on_first_rank(comm: Intracomm, function: Callable[[], T]) -> T:
    """Make a call on rank 0, and return its value on all ranks. Collective.

    Raises what it raises, on other ranks `OnFirstRank`.
    """
    if comm.Get_rank() == 0:
        try:
            value = function()
        except Exception as error:
            comm.bcast((f"{type(error).__name__}: {error}", None))
            raise
        comm.bcast((None, value))
        return value
    failure, given = comm.bcast(None)
    if failure is not None:
        raise OnFirstRank(failure)
    result: T = given
    return result
