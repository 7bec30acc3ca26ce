"""What users subclass, and the manager that runs it."""

from h5flow.core.h5_flow_generator import H5FlowGenerator
from h5flow.core.h5_flow_manager import H5FlowManager
from h5flow.core.h5_flow_resource import H5FlowResource
from h5flow.core.h5_flow_stage import H5FlowStage
from h5flow.core.registry import resources

__all__ = ["H5FlowGenerator", "H5FlowManager", "H5FlowResource", "H5FlowStage", "resources"]
