"""Base class of generators: they say which rows of the source dataset come next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from h5flow.core.component import Component
from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    from h5flow.data import H5FlowDataManager

__getattr__ = on_first_use(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")


class H5FlowGenerator(Component):
    """Yields slices of the dataset `dset_name`; subclasses implement `next()`.

    Attributes: `dset_name` (the source dataset), `input_filename`, `start_position` and `end_position`
    (as given for the run, each may be `None`), and those of every component: `classname`, `class_version`,
    `data_manager`, `comm`, `rank`, `size`. A `__len__` is optional; it tells how many slices to expect.
    """

    #: Whether the output starts as a copy of the input file.
    copies_input: ClassVar[bool] = False

    #: What `next()` returns when there is nothing more.
    EMPTY: ClassVar[slice] = slice(-1, -1)

    def __init__(
        self,
        classname: str,
        dset_name: str,
        data_manager: H5FlowDataManager | None,
        input_filename: str | None = None,
        start_position: int | None = None,
        end_position: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__(classname, data_manager, **params)
        self.dset_name = dset_name
        self.input_filename = input_filename
        self.start_position = start_position
        self.end_position = end_position

    def init(self) -> None:
        """Prepare the output file; called once, after the resources' `init`."""

    def next(self) -> slice:
        """The next rows of `dset_name` to process, `EMPTY` when there are none."""
        raise NotImplementedError(f"{type(self).__name__}.next() is not implemented")

    def finish(self) -> None:
        """Clean up; called once after the loop."""

    def __iter__(self) -> H5FlowGenerator:
        return self

    def __next__(self) -> slice:
        """The next slice. Raises `StopIteration` when all ranks are done. Collective."""
        try:
            rows = self.next()
        except StopIteration:
            # Of an iterator that `next` takes slices from: it says the same, and the other ranks have to know.
            rows = self.EMPTY
        all_done = getattr(self.data_manager, "all_done", None)
        if rows == self.EMPTY and (all_done is None or all_done()):
            raise StopIteration
        return rows
