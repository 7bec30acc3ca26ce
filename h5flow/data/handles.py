"""h5py objects that see what is still in the write buffer.

Users get real `h5py` datasets and groups. Whatever they do with them that h5py would do on the file is
done on a file that is brought up to date first; the common case, reading a run of rows, is answered
from file and buffer together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import h5py
import numpy as np

from h5flow.data.pages import PagedDataset


class Owner(Protocol):
    """Who keeps the buffers of the datasets that a file hands out."""

    def paged(self, path: str) -> PagedDataset | None:
        """The dataset at an absolute path, with its buffer."""
        ...

    def flush(self) -> None:
        """Bring the file up to date."""
        ...

    def forget(self, path: str) -> None:
        """Something else than the owner has removed what lies at `path`."""
        ...


class BufferedDataset(h5py.Dataset):  # type: ignore[misc]
    """A dataset whose reads see all earlier writes, also those that the file doesn't have yet."""

    def __init__(self, rows: PagedDataset) -> None:
        super().__init__(rows.stored.handle.id)
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, counting the rows that are reserved."""
        return (self._rows.length, *super().shape[1:])

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Number of bytes of all elements."""
        return self.size * int(self.dtype.itemsize)

    def __len__(self) -> int:
        return self._rows.length

    def len(self) -> int:
        """Number of rows."""
        return self._rows.length

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Rows `start:stop` as an array."""
        return self._rows.read(start, stop)

    def take(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, Any]:
        """The given rows (ascending, without repeats) as an array."""
        return self._rows.take(rows)

    def __getitem__(self, args: Any, new_dtype: Any = None) -> Any:
        if new_dtype is None and isinstance(args, slice) and args.step in (None, 1):
            start, stop, _ = args.indices(self._rows.length)
            return self._rows.read(start, max(start, stop))
        self._rows.flush()
        return super().__getitem__(args, new_dtype=new_dtype)

    def __setitem__(self, args: Any, value: Any) -> None:
        self._rows.flush()
        super().__setitem__(args, value)
        self._rows.drop_pages()

    def __iter__(self) -> Any:
        self._rows.flush()
        return super().__iter__()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self._rows.flush()
        return super().__array__(*args, **kwargs)

    def read_direct(self, *args: Any, **kwargs: Any) -> None:
        """Read into an existing array, as h5py does."""
        self._rows.flush()
        super().read_direct(*args, **kwargs)

    def write_direct(self, *args: Any, **kwargs: Any) -> None:
        """Write from an existing array, as h5py does."""
        self._rows.flush()
        super().write_direct(*args, **kwargs)
        self._rows.drop_pages()

    def iter_chunks(self, *args: Any, **kwargs: Any) -> Any:
        """Selections that cover the chunks, as h5py does."""
        self._rows.flush()
        return super().iter_chunks(*args, **kwargs)

    def resize(self, *args: Any, **kwargs: Any) -> None:
        """Change the shape, as h5py does."""
        self._rows.flush()
        super().resize(*args, **kwargs)
        self._rows.resized()


class _Lookup:
    """What is common to files and groups: the datasets that are looked up in them are buffered ones."""

    name: str
    owner: Owner | None

    def _wrapped(self, found: Any) -> Any:
        if self.owner is None:
            return found
        if isinstance(found, h5py.Dataset):
            rows = self.owner.paged(found.name)
            return found if rows is None else BufferedDataset(rows)
        if isinstance(found, h5py.Group):
            return BufferedGroup(found, self.owner)
        return found

    def _removed(self, name: Any, remove: Callable[[Any], None]) -> None:
        if self.owner is not None:
            self.owner.flush()
        remove(name)
        if self.owner is not None and isinstance(name, str):
            self.owner.forget(name if name.startswith("/") else f"{self.name.rstrip('/')}/{name}")


class BufferedGroup(_Lookup, h5py.Group):  # type: ignore[misc]
    """A group in which datasets are found as `BufferedDataset`."""

    def __init__(self, group: h5py.Group, owner: Owner) -> None:
        h5py.Group.__init__(self, group.id)
        self.owner = owner

    def __getitem__(self, name: Any) -> Any:
        return self._wrapped(h5py.Group.__getitem__(self, name))

    def __delitem__(self, name: Any) -> None:
        self._removed(name, lambda key: h5py.Group.__delitem__(self, key))


class BufferedFile(_Lookup, h5py.File):  # type: ignore[misc]
    """A file in which datasets are found as `BufferedDataset`."""

    owner: Owner | None = None

    def __getitem__(self, name: Any) -> Any:
        return self._wrapped(h5py.File.__getitem__(self, name))

    def __delitem__(self, name: Any) -> None:
        self._removed(name, lambda key: h5py.File.__delitem__(self, key))

    def flush(self) -> None:
        """Bring the file up to date, the buffered rows included."""
        if self.owner is not None:
            self.owner.flush()
        h5py.File.flush(self)
