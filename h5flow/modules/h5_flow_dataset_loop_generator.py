"""Another door to `h5flow.modules.dataset_loop_generator`, for imports and for `path:`."""

from __future__ import annotations

from h5flow.lazy import on_first_use
from h5flow.modules.dataset_loop_generator import H5FlowDatasetLoopGenerator

__all__ = ["H5FlowDatasetLoopGenerator"]

__getattr__ = on_first_use(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")
