"""Built-in components, and how classes are found."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from h5flow.workflow.discovery import find_class, get_class

if TYPE_CHECKING:
    from h5flow.modules.dataset_loop_generator import H5FlowDatasetLoopGenerator
    from h5flow.modules.test_stage import H5FlowTestStage

__all__ = ["H5FlowDatasetLoopGenerator", "H5FlowTestStage", "find_class", "get_class"]

_MODULE_OF = {"H5FlowDatasetLoopGenerator": "dataset_loop_generator", "H5FlowTestStage": "test_stage"}


def __getattr__(name: str) -> Any:
    # The modules import the base classes, which import this package.
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
