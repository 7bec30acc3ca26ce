"""Another door to `h5flow.modules.dataset_loop_generator`, for imports and for `path:`."""

from __future__ import annotations

from h5flow.doors import doors
from h5flow.modules.dataset_loop_generator import H5FlowDatasetLoopGenerator

__all__ = ["H5FlowDatasetLoopGenerator"]

__getattr__ = doors(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")
