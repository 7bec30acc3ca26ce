"""Which storage a run has: one process, one rank that writes for all of them, or all of them with parallel HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import h5py

from h5flow import mpi
from h5flow.data.storage.opening import open_file
from h5flow.data.storage.walk import objects_below
from h5flow.errors import UsageError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Kind = Literal["serial", "single-writer", "parallel"]


class Writers(NamedTuple):
    """Who writes a file: the ranks of `comm` (`None`: those that were started), in a storage that is wanted.

    `source` is the file that it begins as a copy of, if there is one.
    """

    comm: Intracomm | None = None
    storage: Kind | Literal["auto"] = "auto"
    source: str | None = None


def choose(
    wanted: Kind | Literal["auto"], comm: Intracomm | None, compression: str | None, source: str | None
) -> tuple[Kind, str]:
    """Choose the storage, and say why. Collective. Raises `UsageError` where the one that is `wanted` can't be had.

    `source` is the file that the output begins as a copy of, if there is one.
    """
    if comm is None or comm.Get_size() == 1:
        return "serial", "there is one rank"
    if wanted == "serial":
        raise UsageError(
            f"runtime.storage: serial is for one process, not for {comm.Get_size()} ranks; leave it out, or choose"
            " single-writer or parallel"
        )
    if wanted == "single-writer":
        return "single-writer", "runtime.storage says so"
    against = why_not_parallel(compression)
    if not against:
        compressed = mpi.on_first_rank(comm, lambda: compressed_dataset(source))
        against = compressed and f"dataset '{compressed}' of '{source}' is compressed"
    if not against:
        return "parallel", "h5py is built with MPI, and nothing is compressed"
    if wanted == "parallel" and not against.startswith("dataset"):
        raise UsageError(f"runtime.storage: parallel can't be had: {against}; choose single-writer, or auto")
    if wanted == "parallel":
        # It can be read; a component that writes to it is told then.
        return "parallel", "runtime.storage says so"
    return "single-writer", against


def why_not_parallel(compression: str | None) -> str:
    """Say why all ranks can't write a file together, empty if they can."""
    if not h5py.get_config().mpi:
        return "h5py is built without MPI"
    if compression:
        return f"ranks can't write compressed rows by themselves, and new datasets shall be compressed ({compression})"
    return ""


def compressed_dataset(path: str | None) -> str:
    """Return the first dataset of a file that has filters, empty if there is none or no file."""
    if path is None or not Path(path).is_file():
        return ""

    with open_file(path, "r", role="input", locking=False) as file:
        for name, found in objects_below(file["/"]):
            if isinstance(found, h5py.Dataset) and found.id.get_create_plist().get_nfilters():
                return name
    return ""
