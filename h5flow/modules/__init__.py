"""The components that come with h5flow, and the search for those that don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5flow.lazy import on_first_use
from h5flow.workflow.discovery import find_class, get_class

if TYPE_CHECKING:
    from h5flow.modules.dataset_loop_generator import H5FlowDatasetLoopGenerator
    from h5flow.modules.test_stage import H5FlowTestStage

__all__ = ["H5FlowDatasetLoopGenerator", "H5FlowTestStage", "find_class", "get_class"]


# On first use: they need the file library, which the search for classes doesn't.
__getattr__ = on_first_use(
    __name__,
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
    H5FlowDatasetLoopGenerator="h5flow.modules.dataset_loop_generator:H5FlowDatasetLoopGenerator",
    H5FlowGenerator="h5flow.core:H5FlowGenerator",
    H5FlowStage="h5flow.core:H5FlowStage",
    H5FlowTestStage="h5flow.modules.test_stage:H5FlowTestStage",
)
