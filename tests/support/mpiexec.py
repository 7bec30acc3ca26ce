"""Starting scripts and workflows on several ranks."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest

#: Where processes of their own find `support`.
TESTS = Path(__file__).parents[1]

#: What Open MPI needs on machines that run tests: to be root, more ranks than cores, and ranks that let others work
#: while they wait; and no lines of its own in the output, where tests look for ours. Others don't read it.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_orte_execute_quiet": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)  # for tests that start mpiexec themselves, too

#: Each storage that several ranks can have here.
STORAGES = ["single-writer", *(["parallel"] if h5py.get_config().mpi else [])]

_MPIEXEC = {"Open MPI": "mpiexec.openmpi", "MPICH": "mpiexec.mpich"}


@functools.cache
def library() -> str | None:
    """The MPI that mpi4py uses, as it calls itself; `None` where there is none."""
    # In a process of its own, since the tests' own process shall stay without MPI.
    script = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    return asked.stdout if asked.returncode == 0 else None


@functools.cache
def launcher() -> str | None:
    """The mpiexec that belongs to the MPI of mpi4py: ranks that another one starts don't find each other."""
    if chosen := os.environ.get("H5FLOW_MPIEXEC"):
        return chosen
    # A wheel brings its MPI along, and mpi4py looks for that first.
    beside = Path(sys.executable).with_name("mpiexec")
    if beside.exists():
        return str(beside)
    # A system may have several, each with a name of its own; which of them is `mpiexec` says nothing about mpi4py.
    named = [name for start, name in _MPIEXEC.items() if (library() or "").startswith(start)]
    return next((found for found in map(shutil.which, [*named, "mpiexec"]) if found), None)


def family(process: subprocess.Popen[str]) -> tuple[list[int], list[int]]:
    """The launcher of a job with its helpers, and its ranks.

    Found by their parents, since MPICH and Open MPI give each rank a process group of its own.
    """
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [process.pid]
    for one in found:
        found += children.get(one, [])
    return [one for one in found if one in children], [one for one in found[1:] if one not in children]


def send_signal(process: subprocess.Popen[str], number: int) -> None:
    """Tell a job, or a process without a launcher, to stop, with time to do so.

    MPICH's launcher hands a signal on. Open MPI's kills the ranks a second after it, and ends with exit code 1 whatever
    they do; so they get it from here, as they get it from a batch system.
    """
    ranks = family(process)[1] if (library() or "").startswith("Open MPI") else []
    tell(ranks or [process.pid], number)


def tell(processes: list[int], number: int) -> None:
    """Send a signal to those that still run."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a job that hangs, all of it; its output ends with where each thread of each rank was."""
    launchers, ranks = family(process)  # looked for first: ranks that have lost their launcher may go on forever
    tell(launchers, signal.SIGSTOP)  # else the first rank that ends has the launcher kill the others
    for rank in ranks:
        tell([rank], signal.SIGABRT)
        time.sleep(0.3)  # so that they don't write all at once
    tell(launchers, signal.SIGCONT)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=2)
    tell([*ranks, *launchers, process.pid], signal.SIGKILL)
    return process.communicate()


@dataclass
class Ended:
    """What became of a job."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def run_on_ranks(
    folder: Path,
    count: int,
    *arguments: object,
    limit: float = 60,
    terminate_when: Path | None = None,
    **environment: str,
) -> Ended:
    """Run `python ARGUMENTS` on a number of ranks, in a folder; fails the test if that takes longer than `limit`."""
    command = [str(launcher()), "-n", str(count), sys.executable, *map(str, arguments)]
    settings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(TESTS)]),
        "PYTHONFAULTHANDLER": "1",
        **environment,
    }
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if terminate_when is not None:
        give_up = time.monotonic() + limit
        while not terminate_when.exists() and time.monotonic() < give_up:
            time.sleep(0.1)
        time.sleep(0.5)
        send_signal(process, signal.SIGTERM)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        out, err = end(process)
        pytest.fail(f"hangs: {' '.join(command)}\n{out}\n{err}")
    return Ended(process.returncode, out, err)


#: Why nothing can be started on several ranks here, where it can't.
NO_MPI = "NO MPI: mpi4py or an MPI with its mpiexec isn't installed (pip install '.[mpi]')"


def not_run() -> Iterator[str]:
    """What can't be tested here, and what would help."""
    if library() is None or launcher() is None:
        yield f"anything on several ranks. {NO_MPI}"
    if "parallel" not in STORAGES:
        yield "the parallel storage. This h5py is built without MPI (.ci/parallel-h5py makes an environment with one)"
