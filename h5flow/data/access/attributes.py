"""Attributes of a group as components use them: live, watched by an observer, and changed by all ranks together."""

from __future__ import annotations

import threading
from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import Any, Protocol, TypeVar

import h5py

from h5flow.data.access.observer import Observer

T = TypeVar("T")


class AttributesFile(Protocol):
    """The file that the group is in."""

    lock: threading.RLock

    @property
    def observer(self) -> Observer | None:
        """Who is to be told; the lock is held."""
        ...

    def set_attributes(self, path: str, attributes: dict[str, Any]) -> None:
        """Set attributes of a group. Collective; the lock is held."""
        ...

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change of the structure that all ranks make by themselves; the lock is held."""
        ...


class GroupAttributes(h5py.AttributeManager):  # type: ignore[misc]
    """h5py's attributes of what lies at a path. Assigning and deleting is collective.

    h5py holds its lock while it iterates over values, and the file's may not be taken then, so views are plain ones.
    """

    def __init__(
        self, of: h5py.HLObject, path: str, file: AttributesFile, check_writable: Callable[[str], None], owner: object
    ) -> None:
        super().__init__(of)
        self._plain = of.attrs
        self._path = path
        self._file = file
        self._check_writable = check_writable
        self._owner = owner  # keeps the file open

    # looking

    def _read(self, look: Callable[[], T]) -> T:
        with self._file.lock:
            observer = self._file.observer
            if observer is not None:
                observer.read(f"@{self._path}", None)
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
        with self._file.lock:
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
        with self._file.lock:
            observer = self._file.observer
            if observer is not None:
                observer.update(f"@{self._path}", None)
            self._file.alike(change)
