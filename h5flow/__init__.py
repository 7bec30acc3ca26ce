"""h5flow: workflows on HDF5 files. Generators yield slices, stages process them, references join the data."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h5flow.core import resources
    from h5flow.core.job import run

    #: Whether components may use MPI.
    H5FLOW_MPI: bool

__version__ = "0.3.0"

__all__ = ["H5FLOW_MPI", "__version__", "resources", "run"]


def __getattr__(name: str) -> Any:
    # On first use: each is costly to import or to find out, and hardly anybody needs all of them.
    if name == "H5FLOW_MPI":
        from h5flow import mpi

        value: Any = mpi.available()
    elif name == "run":
        from h5flow.core.job import run as value
    elif name == "resources":
        from h5flow.core import resources as value
    elif name in ("core", "data", "modules"):
        value = importlib.import_module(f"h5flow.{name}")
    else:
        raise AttributeError(f"module 'h5flow' has no attribute '{name}'")
    globals()[name] = value
    return value
