"""Base class of generators: they say which rows of the source dataset come next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from h5flow.core.component import Component
from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from h5flow.data import H5FlowDataManager

__getattr__ = on_first_use(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")


class _OfRanks:
    """An attribute that says which rank this is; notes that somebody has asked."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        kept = instance.__dict__
        kept["asked_for_ranks"] = True
        if self._name not in kept:
            # The communicator, which is made on first use.
            kept[self._name] = vars(Component)[self._name].func(instance)
        return kept[self._name]

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = value


class H5FlowGenerator(Component):
    """Yields slices of the dataset `dset_name`; subclasses implement `next()`.

    Attributes: `dset_name` (the source dataset), `input_filename`, `start_position` and `end_position`
    (as given for the run, each may be `None`), and those of every component: `classname`, `class_version`,
    `data_manager`, `comm`, `rank`, `size`. A `__len__` is optional; it tells how many slices to expect.
    """

    #: Whether the output starts as a copy of the input file.
    copies_input: ClassVar[bool] = False

    rank: Any = _OfRanks()
    size: Any = _OfRanks()
    comm: Any = _OfRanks()
    #: Whether anybody has asked this generator for its rank, the number of ranks, or the communicator.
    asked_for_ranks = False

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
        """Prepare the output file; called once on all ranks, after the resources' `init`. Collective."""

    def next(self) -> slice | Awaitable[slice]:
        """Return the next rows of `dset_name` to process, `EMPTY` when this rank has no more; may be `async`.

        `EMPTY` ends the loop when all ranks return it in the same round, on one rank at once. Until then a rank that
        has returned it is asked again, may return rows again, and has its stages run on `EMPTY` meanwhile. An iterator
        that the generator holds ends it, too: `return next(self.slices)`. Any other `StopIteration`, and what isn't a
        slice, such as `None`, are errors (`H5FlowError`).

        Called for one slice after another, mostly ahead of the stages; an `async` one runs on the event loop, where it
        must not block, and uses `data_manager.awaitable`.
        """
        raise NotImplementedError(f"{type(self).__name__}.next() is not implemented")

    def finish(self) -> None:
        """Clean up; called once on all ranks after the loop, before the stages' `finish`. Collective.

        From here on each rank sees all that others have written in the loop.
        """

    def __iter__(self) -> H5FlowGenerator:
        return self

    def __next__(self) -> slice:
        """Return the next slice. Raises `StopIteration` when all ranks are done. Collective."""
        try:
            rows = cast(slice, self.next())
        except StopIteration as error:
            from h5flow.runtime.endings import check_end

            check_end(error, self)
            rows = self.EMPTY  # the other ranks have to know
        all_done = getattr(self.data_manager, "all_done", None)
        if isinstance(rows, slice) and rows == self.EMPTY and (all_done is None or all_done()):
            raise StopIteration
        return rows
