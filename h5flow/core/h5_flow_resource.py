"""Base class of resources: objects that all components of a workflow share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5flow.core.component import Component
from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    from h5flow.data import H5FlowDataManager

__getattr__ = on_first_use(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI", resources="h5flow.core.registry:resources")


class H5FlowResource(Component):
    """A shared object, found by its class name in `h5flow.resources`; each class may appear once in a workflow.

    It is there before the `__init__` of generator and stages, which use it from their own threads at the same time:
    what they change in it isn't looked after. Attributes: `input_filename`, `start_position` and `end_position` (as
    given for the run, each may be `None`), and those of every component: `classname`, `class_version`,
    `data_manager`, `comm`, `rank`, `size`.
    """

    def __init__(
        self,
        classname: str,
        data_manager: H5FlowDataManager | None,
        input_filename: str | None = None,
        start_position: int | None = None,
        end_position: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__(classname, data_manager, **params)
        self.input_filename = input_filename
        self.start_position = start_position
        self.end_position = end_position

    def init(self, source_name: str) -> None:
        """Load or configure; called once on all ranks, before the `init` of generator and stages. Collective."""

    def finish(self, source_name: str) -> None:
        """Clean up; called once on all ranks, after the `finish` of generator and stages. Collective."""
