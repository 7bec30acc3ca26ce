"""What users subclass, and the manager that runs it."""

from typing import TYPE_CHECKING

from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    from h5flow.core.h5_flow_generator import H5FlowGenerator
    from h5flow.core.h5_flow_manager import H5FlowManager
    from h5flow.core.h5_flow_resource import H5FlowResource
    from h5flow.core.h5_flow_stage import H5FlowStage
    from h5flow.core.registry import resources

__all__ = ["H5FlowGenerator", "H5FlowManager", "H5FlowResource", "H5FlowStage", "resources"]

__getattr__ = on_first_use(
    __name__,
    H5FlowGenerator="h5flow.core.h5_flow_generator:H5FlowGenerator",
    H5FlowManager="h5flow.core.h5_flow_manager:H5FlowManager",
    H5FlowResource="h5flow.core.h5_flow_resource:H5FlowResource",
    H5FlowStage="h5flow.core.h5_flow_stage:H5FlowStage",
    resources="h5flow.core.registry:resources",
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
    H5FlowDataManager="h5flow.data:H5FlowDataManager",
    comm="h5flow.mpi:comm",
    dereference_chain="h5flow.data:dereference_chain",
    get_class="h5flow.workflow:get_class",
    rank="h5flow.mpi:rank",
    size="h5flow.mpi:size",
)
