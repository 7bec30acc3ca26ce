"""h5flow: workflows on HDF5 files. Generators yield slices, stages process them, references join the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5flow._version import __version__
from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    from h5flow.cli import main
    from h5flow.core import H5FlowManager, resources
    from h5flow.jobs.job import run

    #: Whether components may use MPI.
    H5FLOW_MPI: bool

__all__ = ["H5FLOW_MPI", "H5FlowManager", "__version__", "main", "resources", "run"]

# On first use: each is costly to import or to find out, and hardly anybody needs all of them.
__getattr__ = on_first_use(
    __name__,
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
    H5FlowManager="h5flow.core:H5FlowManager",
    core="h5flow.core",
    data="h5flow.data",
    main="h5flow.cli:main",
    modules="h5flow.modules",
    resources="h5flow.core.registry:resources",
    run="h5flow.jobs.job:run",
)
