"""The components that come with h5flow, and the search for those that don't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5flow.workflow.discovery import find_class, get_class

if TYPE_CHECKING:
    from h5flow.modules.dataset_loop_generator import H5FlowDatasetLoopGenerator
    from h5flow.modules.test_stage import H5FlowTestStage

__all__ = ["H5FlowDatasetLoopGenerator", "H5FlowTestStage", "find_class", "get_class"]


def __getattr__(name: str) -> Any:
    # On first use: both need the file library, which the search for classes doesn't.
    if name not in __all__:
        raise AttributeError(f"module 'h5flow.modules' has no attribute '{name}'")
    from h5flow.modules.dataset_loop_generator import H5FlowDatasetLoopGenerator
    from h5flow.modules.test_stage import H5FlowTestStage

    globals().update(H5FlowDatasetLoopGenerator=H5FlowDatasetLoopGenerator, H5FlowTestStage=H5FlowTestStage)
    return globals()[name]
