"""Another door to `h5flow.modules.test_stage`, for imports and for `path:`."""

from __future__ import annotations

from h5flow.lazy import on_first_use
from h5flow.modules.test_stage import H5FlowTestStage

__all__ = ["H5FlowTestStage"]

__getattr__ = on_first_use(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")
