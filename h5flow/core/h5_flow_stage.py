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
        """Create datasets and references, set attributes; called once on all ranks, before the loop. Collective."""

    def run(self, source_name: str, source_slice: slice, cache: dict[str, Any]) -> Awaitable[None] | None:
        """Process rows `source_slice` of dataset `source_name`, of which there are n; what it returns is ignored.

        `cache` holds those rows under `source_name`, an array (n, …), and what this stage and those before it require:
        along references a masked array (n, most children, …), one axis for each step of the path, masked where a row
        has fewer; without references to the first dataset of the path an array (n, …) of its rows at the slice's own
        numbers; with `index_only` row numbers instead of rows; `None` where something isn't in the file (an error with
        `runtime.strict`). Entries may be replaced, masked, deleted (and are loaded again for the next stage that
        requires them) and added (for the next stage only, unless it is required).

        Called with one slice at a time, in the order of slices, never on two threads at once; where slices overlap,
        that is another thread than that of `init` and `finish`. May be `async`: then it runs on the event loop, where
        it must not block, and uses `data_manager.awaitable`. A rank without further slices is given `slice(-1, -1)` and
        empty arrays for as long as others have some, so that collective calls are made by all.
        """
        return None

    def finish(self, source_name: str) -> None:
        """Clean up; called once on all ranks after the loop and the generator's `finish`. Collective.

        What the stages have counted on each rank has to be added up by messages (`comm`): attributes that ranks set to
        different values are those of rank 0, with a warning, or an error with `runtime.strict`.
        """
