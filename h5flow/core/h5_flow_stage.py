"""Base class of stages: they process one slice of the source dataset at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5flow.core.component import Component
from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from h5flow.data import H5FlowDataManager

__getattr__ = on_first_use(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")


class H5FlowStage(Component):
    """A step of the loop; subclasses implement `run()`, and mostly `init()`.

    Attributes: `name` (its key in the workflow file), `requires` (what is loaded for it, as a list of
    dicts with `name`, `path` and `index_only`), and those of every component: `classname`, `class_version`,
    `data_manager`, `comm`, `rank`, `size`.
    """

    def __init__(
        self,
        name: str,
        classname: str,
        data_manager: H5FlowDataManager | None,
        requires: list[dict[str, Any]] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(classname, data_manager, **params)
        self.name = name
        self.requires: list[dict[str, Any]] = requires if requires is not None else []

    def init(self, source_name: str) -> None:
        """Create datasets and references and note metadata; called once before the loop."""

    def run(self, source_name: str, source_slice: slice, cache: dict[str, Any]) -> Awaitable[None] | None:
        """Process rows `source_slice` of dataset `source_name`; may be `async`, and then runs on the event loop.

        `cache` holds those rows under `source_name`, shape (n, …), and what this stage and those before it require:
        masked arrays (n, most children, …), masked where a row has fewer, or `None` where something can't be loaded.
        Keys may be replaced, masked and added. Called with one slice at a time, in order, always on the same thread;
        a rank without further slices is given `slice(-1, -1)` and empty arrays for as long as others have some.
        """
        return None

    def finish(self, source_name: str) -> None:
        """Clean up; called once after the loop."""
