"""What generators, stages and resources have in common."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from h5flow.data import H5FlowDataManager


class Component:
    """A part of a workflow, made from a section of the workflow file, whose `params` are its keyword arguments.

    Attributes: `classname`, `class_version`, `data_manager` (the component's own view of it), `rank` and `size` (0 and
    1 on one process), and `comm`. It can be made by hand for a test, with `None` for the data manager. In a run all
    components are made, initialised and finished on one thread, none is ever at work on two at once, and what it
    raises ends the run with an error that names the component, its place in the workflow file, rank and slice.
    """

    #: Version of the class (`'major.minor.fix'`), for users to keep track of.
    class_version: ClassVar[str] = "0.0.0"

    def __init__(self, classname: str, data_manager: H5FlowDataManager | None, **params: Any) -> None:
        self.classname = classname
        # `None`, or something with a few methods of a data manager, where a component is made for a test of it.
        self.data_manager = cast("H5FlowDataManager", data_manager)
        self.rank: int = getattr(data_manager, "rank", 0)
        self.size: int = getattr(data_manager, "size", 1)
        file = getattr(data_manager, "data_file", None)
        if file is not None and file.ranks.several:
            # One of its own, so that what components do at the same time can't meet.
            self.comm = file.ranks.communicator()

    @cached_property
    def comm(self) -> Any:
        """Return the MPI communicator, on several ranks one of this component's own; `None` without MPI."""
        # Made on first use: a run on one process whose modules never ask doesn't have to start MPI.
        return getattr(self.data_manager, "comm", None)
