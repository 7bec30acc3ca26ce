"""Files that components open with h5py's driver `mpio`, where h5py is built without MPI.

Each rank can read them by itself just as well. Writing them together is what only an h5py with MPI can do.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from types import FrameType
from typing import Any

import h5py

from h5flow.errors import NoParallelFiles

_log = logging.getLogger(__name__)


@functools.cache
def stand_in_for_mpio() -> None:
    """Let h5py open files for reading with `driver='mpio'`, if it can't by itself."""
    if h5py.get_config().mpi:
        return
    h5py.register_driver("mpio", _read_alone)
    if not hasattr(h5py.Dataset, "collective"):
        h5py.Dataset.collective = property(lambda _: contextlib.nullcontext())


def _read_alone(properties: Any, **_options: Any) -> None:
    """Set the driver for h5py. Raises `NoParallelFiles` where the file is not only to be read."""
    name, mode = _opened_as()
    if mode != "r":
        raise NoParallelFiles(
            f"'{name}' can't be opened with driver='mpio' in mode '{mode}', since h5py is built without MPI: write"
            " through the data manager, which needs no such h5py, or install one that is built with MPI"
        )
    _tell(name)
    properties.set_fapl_sec2()


def _opened_as() -> tuple[str, str]:
    """Return name and mode of the file that is being opened; h5py doesn't tell a driver."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "__init__" and isinstance(frame.f_locals.get("self"), h5py.File):
            return os.fsdecode(frame.f_locals["name"]), frame.f_locals["mode"] or "r"
        frame = frame.f_back
    return "the file", "unknown"


@functools.cache
def _tell(name: str) -> None:
    _log.info("'%s' is read by each rank by itself, not with driver='mpio', since h5py is built without MPI", name)
