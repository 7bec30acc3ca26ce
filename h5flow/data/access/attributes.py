"""Attributes of a group as components use them: live, watched by an observer, and changed by all ranks together."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import Any, TypeVar

import h5py

from h5flow.data.access.used_file import UsedFile
from h5flow.data.resource import Resource

T = TypeVar("T")


class GroupAttributes(h5py.AttributeManager):  # type: ignore[misc]
    """h5py's attributes of what lies at a path. Assigning and deleting is collective.

    h5py holds its lock while it iterates over values, and the file's may not be taken then, so views are plain ones.
    """

    def __init__(self, of: h5py.HLObject, path: str, check_writable: Callable[[str], None], file: UsedFile) -> None:
        super().__init__(of)
        self._plain = of.attrs
        self._path = path
        self._check_writable = check_writable
        self._file = file
        self._context = file.context

    # looking

    def _read(self, look: Callable[[], T]) -> T:
        with self._context.lock:
            self._context.observer.read(Resource("attributes", self._path), None)
            return look()

    def __getitem__(self, name: Any) -> Any:
        return self._read(lambda: self._plain[name])

    def __contains__(self, name: Any) -> bool:
        return self._read(lambda: name in self._plain)

    def __len__(self) -> int:
        return self._read(lambda: len(self._plain))

    def __iter__(self) -> Iterator[str]:
        return iter(self._read(lambda: list(self._plain)))

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, h5py.AttributeManager) else other)

    __hash__ = None  # type: ignore[assignment]

    def values(self) -> ValuesView[Any]:
        """Return the values."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, Any]:
        """Return names and values."""
        return ItemsView(self)

    # changing

    def __setitem__(self, name: str, value: Any) -> None:
        self._check_writable(f"set attribute '{name}' of '{self._path}'")
        with self._context.lock:
            self._file.set_attributes(self._path, {name: value})

    def create(self, name: str, data: Any, shape: Any = None, dtype: Any = None) -> None:
        """Make or replace an attribute, as h5py does. Collective. Raises `FileError` where the file is read only."""
        if shape is None and dtype is None:
            self[name] = data
        else:
            self._change(name, lambda: self._plain.create(name, data, shape, dtype))

    def modify(self, name: str, value: Any) -> None:
        """Change the value of an attribute and keep its type, as h5py does. Collective. Raises `FileError`."""
        self._change(name, lambda: self._plain.modify(name, value))

    def __delitem__(self, name: str) -> None:
        self._change(name, lambda: self._plain.__delitem__(name))

    def _change(self, name: str, change: Callable[[], None]) -> None:
        self._check_writable(f"change attribute '{name}' of '{self._path}'")
        with self._context.lock:
            self._context.observer.update(Resource("attributes", self._path), None)
            self._file.alike(change)
