"""The data manager's calls for `async` components: each is made on a thread, and awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import h5py

if TYPE_CHECKING:
    import numpy.typing as npt

T = TypeVar("T")

OffLoop = Callable[[Callable[[], Any]], Awaitable[Any]]

#: How the component at work makes calls that may block; without it they go to any thread.
off_loop: ContextVar[OffLoop | None] = ContextVar("h5flow_off_loop", default=None)


class _Calls(Protocol):
    """A data manager, whose calls block."""

    def __getitem__(self, selection: Any, /) -> Any: ...
    def exists(self, path: str) -> bool: ...
    def dset_exists(self, dataset_name: str) -> bool: ...
    def ref_exists(self, parent_dataset_name: str, child_dataset_name: str) -> bool: ...
    def attr_exists(self, name: str, key: str) -> bool: ...
    def get_attrs(self, name: str) -> h5py.AttributeManager: ...
    def get_dset(self, dataset_name: str) -> h5py.Dataset: ...
    def get_ref(self, parent_dataset_name: str, child_dataset_name: str) -> tuple[h5py.Dataset, tuple[int, int]]: ...
    def get_ref_region(self, parent_dataset_name: str, child_dataset_name: str) -> h5py.Dataset: ...
    def create_dset(self, dataset_name: str, dtype: npt.DTypeLike, shape: Any = ()) -> None: ...
    def create_ref(self, parent_dataset_name: str, child_dataset_name: str) -> None: ...
    def set_attrs(self, name: str | None = None, /, **attrs: Any) -> None: ...
    def delete(self, name: str) -> None: ...
    def reserve_data(self, dataset_name: str, spec: Any) -> Any: ...
    def write_data(self, dataset_name: str, spec: Any, data: Any) -> None: ...
    def write_ref(self, parent_dataset_name: str, child_dataset_name: str, refs: Any) -> None: ...


class AwaitableDataManager:
    """The data manager's calls for the event loop: `await data_manager.awaitable.write_data(…)` doesn't block it.

    Arguments, results and errors are those of the data manager's methods of the same name, and what is collective there
    is so here. In a loop a call is made by the component's thread, elsewhere by any.
    """

    def __init__(self, data_manager: _Calls) -> None:
        self._data_manager = data_manager

    async def read(self, *args: Any) -> Any:
        """Read `data_manager[args]`: rows of a dataset, or rows followed along references."""
        return await _made(lambda: self._data_manager[args if len(args) > 1 else args[0]])

    async def exists(self, path: str) -> bool:
        """Say whether there is a group or dataset at a path of the file."""
        return await _made(lambda: self._data_manager.exists(path))

    async def dset_exists(self, dataset_name: str) -> bool:
        """Say whether there is a dataset of this name."""
        return await _made(lambda: self._data_manager.dset_exists(dataset_name))

    async def ref_exists(self, parent_dataset_name: str, child_dataset_name: str) -> bool:
        """Say whether there are references between two datasets."""
        return await _made(lambda: self._data_manager.ref_exists(parent_dataset_name, child_dataset_name))

    async def attr_exists(self, name: str, key: str) -> bool:
        """Say whether the group of a dataset has an attribute."""
        return await _made(lambda: self._data_manager.attr_exists(name, key))

    async def get_attrs(self, name: str) -> dict[str, Any]:
        """Return a copy of the attributes of a dataset's group; assigning to it sets nothing. Raises `NotInFile`."""
        return await _made(lambda: dict(self._data_manager.get_attrs(name)))

    async def get_dset(self, dataset_name: str) -> h5py.Dataset:
        """Return the dataset as an h5py object, whose use blocks: better `read` it. Raises `NotInFile`."""
        return await _made(lambda: self._data_manager.get_dset(dataset_name))

    async def get_ref(self, parent_dataset_name: str, child_dataset_name: str) -> tuple[h5py.Dataset, tuple[int, int]]:
        """Return the references, and the columns of `parent_dataset_name` and `child_dataset_name`."""
        return await _made(lambda: self._data_manager.get_ref(parent_dataset_name, child_dataset_name))

    async def get_ref_region(self, parent_dataset_name: str, child_dataset_name: str) -> h5py.Dataset:
        """Return the region table for the rows of `parent_dataset_name`."""
        return await _made(lambda: self._data_manager.get_ref_region(parent_dataset_name, child_dataset_name))

    async def create_dset(self, dataset_name: str, dtype: npt.DTypeLike, shape: Any = ()) -> None:
        """Create a dataset without rows, unless it exists. Collective."""
        await _made(lambda: self._data_manager.create_dset(dataset_name, dtype, shape))

    async def create_ref(self, parent_dataset_name: str, child_dataset_name: str) -> None:
        """Create references between two datasets, unless they exist. Collective."""
        await _made(lambda: self._data_manager.create_ref(parent_dataset_name, child_dataset_name))

    async def set_attrs(self, name: str | None = None, /, **attrs: Any) -> None:
        """Set attributes of a dataset's group. Collective."""
        await _made(lambda: self._data_manager.set_attrs(name, **attrs))

    async def delete(self, name: str) -> None:
        """Remove what is at a path, if anything. Collective."""
        await _made(lambda: self._data_manager.delete(name))

    async def reserve_data(self, dataset_name: str, spec: Any) -> Any:
        """Make room for rows, and return them. Collective."""
        return await _made(lambda: self._data_manager.reserve_data(dataset_name, spec))

    async def write_data(self, dataset_name: str, spec: Any, data: Any) -> None:
        """Write rows that exist."""
        await _made(lambda: self._data_manager.write_data(dataset_name, spec, data))

    async def write_ref(self, parent_dataset_name: str, child_dataset_name: str, refs: Any) -> None:
        """Append references. Collective."""
        await _made(lambda: self._data_manager.write_ref(parent_dataset_name, child_dataset_name, refs))


async def _made(call: Callable[[], T]) -> T:
    elsewhere = off_loop.get()
    if elsewhere is None:
        import asyncio

        return await asyncio.to_thread(call)
    result: T = await elsewhere(call)
    return result
