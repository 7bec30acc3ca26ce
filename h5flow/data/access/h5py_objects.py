"""h5py objects that see what is still in the write buffer.

Users get real `h5py` datasets and groups. Rows are read and written through the buffer; whatever else h5py
can do with them is done on the file, which is brought up to date first.

h5py has a lock of its own. Who has the owner's lock may take h5py's, not the other way round: so no method of h5py
that holds it may call one that is overridden here and takes, or waits for, the owner's. Such methods are overridden as
well, or made to work on plain objects of h5py.

The module is long, as h5py's classes are that it follows method by method: a file finds datasets, and a dataset knows
its file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import Any

import h5py
import numpy as np

from h5flow.data import layout
from h5flow.data.access.observed_dataset import ObservedDataset
from h5flow.data.access.used_file import UsedFile
from h5flow.data.rows.casting import Unfit, as_values, convert
from h5flow.data.rows.selection import Indices
from h5flow.data.storage.links import reading
from h5flow.data.storage.opening import Writes, writing
from h5flow.errors import DataMismatch, UsageError

Array = np.ndarray[Any, np.dtype[Any]]


class BufferedDataset(h5py.Dataset):  # type: ignore[misc]
    """A dataset whose reads see all earlier writes, also those that the file doesn't have yet.

    It has the methods of h5py's class that read and write, and there are many.
    """

    def __init__(self, rows: ObservedDataset, file: UsedFile) -> None:
        self._rows = rows
        self._file = file
        super().__init__(self._id)
        self._lock = file.context.lock
        # What h5py is told while it has its lock; set and seen with the owner's lock only.
        self._fixed_shape: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        if not self:
            return "<Closed HDF5 dataset>"
        name = (self.name or "").rpartition("/")[2]
        # All rows that there are: to ask what the component may see could mean to wait.
        shape = (self._rows.rows.length, *super().shape[1:])
        return f'<HDF5 dataset "{name}": shape {shape}, type "{self.dtype.str}">'

    def __bool__(self) -> bool:
        return super().__bool__() and not self._rows.gone

    @property
    def _id(self) -> h5py.h5d.DatasetID:
        return self._rows.id

    @_id.setter
    def _id(self, _: h5py.h5d.DatasetID) -> None: ...

    @property
    def _dcpl(self) -> h5py.h5p.PropDCID:
        # h5py keeps it with the handle, which older versions set.
        return self._id.get_create_plist()

    @_dcpl.setter
    def _dcpl(self, _: h5py.h5p.PropDCID) -> None: ...

    @property
    def ref(self) -> h5py.Reference:
        """Return a reference to the dataset."""
        self._rows.stay()
        return super().ref

    @property
    def regionref(self) -> Any:
        """Return what makes references to regions of the dataset."""
        self._rows.stay()
        with self._current():
            return super().regionref

    @property
    def dims(self) -> Any:
        """Return the dimensions, which can have scales."""
        self._rows.stay()
        return super().dims

    def make_scale(self, name: str = "") -> None:
        """Make the dataset a scale, as h5py does."""
        self._rows.stay()
        super().make_scale(name)

    @property
    def file(self) -> BufferedFile:
        """Return the file, in which datasets are found as `BufferedDataset`."""
        return BufferedFile(self, self._file) if self._file.is_own(self) else h5py.File(self.id)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, counting the rows that are reserved."""
        with self._lock:
            if self._fixed_shape is not None:
                return self._fixed_shape
        return (self._rows.count_rows(), *super().shape[1:])

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Return the number of bytes of all elements."""
        return self.size * int(self.dtype.itemsize)

    def __len__(self) -> int:
        return self._rows.count_rows()

    def len(self) -> int:
        """Return the number of rows."""
        return self._rows.count_rows()

    def has(self, row: int) -> bool:
        """Say whether a row exists."""
        return self._rows.has(row)

    def read(self, start: int, stop: int, wanted: Indices | None = None) -> Array:
        """Read rows `start:stop` into an array; those that aren't `wanted` may hold anything."""
        return self._rows.read(start, stop, wanted)

    def take(self, rows: Indices) -> Array:
        """Read the given rows (ascending, without repeats) into an array."""
        return self._rows.take(rows)

    def lookups(self, column: int, counts: bool) -> tuple[ObservedDataset, ObservedDataset] | None:
        """Return the pairs and a region table, as names are followed, of references that other ranks write as well."""
        return self._file.lookups(self._rows.path, column, counts)

    @property
    def attrs(self) -> h5py.AttributeManager:
        """Return the attributes of the dataset itself."""
        self._file.untraced(f"attributes of '{self.name}'")
        self._rows.stay()
        return BufferedAttributes(super().attrs, self, self._file)

    def __getitem__(self, args: Any, new_dtype: Any = None) -> Any:
        if new_dtype is None:
            if isinstance(args, slice) and args.step in (None, 1):
                return self._rows.selected(args)
            if args is Ellipsis or (isinstance(args, tuple) and not args):
                return self._rows.selected(slice(None))
            if isinstance(args, int | np.integer) and not isinstance(args, bool | np.bool_):
                return self._rows.selected(args)[0]
            if isinstance(args, str) and args in (self.dtype.names or ()):
                return self._rows.selected(slice(None))[args].copy()
        if isinstance(args, tuple) and (names := tuple(part for part in args if isinstance(part, str))):
            # h5py does the same, but holds its lock while it comes back here.
            fields = self.fields(names[0] if len(names) == 1 else names, _prior_dtype=new_dtype)
            return fields[tuple(part for part in args if not isinstance(part, str))]
        if not self._rows.is_elsewhere:
            with self._current():
                if not self._rows.hides_rows:
                    return super().__getitem__(args, new_dtype=new_dtype)
        values = self._picked(args)
        return values if new_dtype is None else _converted(values, new_dtype)

    def _picked(self, args: Any) -> Any:
        """Select what h5py would, if the file had no more rows than are to be seen."""
        rows, rest, names = self._parts(args)
        if _is_of_elements(rows):
            indices, within = self._masked(rows)
            values = self._rows.take(indices)[within]
            return values[names[0] if len(names) == 1 else names] if names else values
        values = self._rows.selected(rows)
        single = isinstance(rows, int | np.integer)
        values = values[0][tuple(rest)] if single else values[(slice(None), *rest)]
        return values[names[0] if len(names) == 1 else names] if names else values

    def _parts(self, args: Any) -> tuple[Any, list[Any], list[str]]:
        """Take a selection apart: that of rows, of what is in a row, and of fields."""
        parts = list(args) if isinstance(args, tuple) else [args]
        names = [part for part in parts if isinstance(part, str)]
        parts = [part for part in parts if not isinstance(part, str)]
        for place, part in enumerate(parts):
            if part is Ellipsis:
                parts[place : place + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
                break
        return (parts[0] if parts else slice(None)), parts[1:], names

    def __setitem__(self, args: Any, value: Any) -> None:
        rows, rest, names = self._parts(args)
        value = self._fitting(names, value)
        if self._rows.is_elsewhere or _is_of_elements(rows):
            self._assign(rows, rest, names, value)
            return
        if isinstance(rows, h5py.MultiBlockSlice | h5py.RegionReference) or np.ndim(rows) > 1:
            with self._current(changes=(0, self._rows.count_rows())):
                super().__setitem__(args, value)
            return
        # The rows by number: at the end of the file there may be others than the component sees.
        chosen = self._rows.select(rows)
        touched: Any = (chosen.start, chosen.stop) if chosen.indices is None else chosen.indices
        if isinstance(rows, int | np.integer):
            explicit: Any = chosen.start
        else:
            explicit = slice(chosen.start, chosen.stop) if chosen.indices is None else chosen.indices
        with self._current(changes=touched):
            if len(chosen):
                super().__setitem__((explicit, *rest, *names), value)

    def _masked(self, mask: Any) -> tuple[Indices, Array]:
        """Return the rows in which a mask selects elements, and which of them.

        Raises `DataMismatch` for another shape.
        """
        chosen = np.asarray(mask)
        if chosen.shape != self.shape:
            raise DataMismatch(
                f"dataset '{self._rows.name}': a mask of shape {chosen.shape} can't select from shape {self.shape}"
            )
        indices = np.flatnonzero(chosen.any(axis=tuple(range(1, chosen.ndim))))
        return indices, chosen[indices]

    def _fitting(self, names: list[str], value: Any) -> Any:
        """Convert a value to the type of the rows, or of the field, that it is written to. Raises `DataMismatch`.

        Records may have some of the fields only, as h5py allows.
        """
        dtype = self.dtype
        if (
            dtype.hasobject
            or dtype.subdtype is not None
            or len(names) > 1
            or (names and names[0] not in (dtype.names or ()))
        ):
            return value
        if names:
            dtype = dtype[names[0]].base
        try:
            values = as_values(value, dtype)
            given = values.dtype.names
            if given and dtype.names and set(given) < set(dtype.names):
                dtype = np.dtype([(name, dtype[name]) for name in given])
            converted = convert(values, dtype, self._rows.cut)
        except Unfit as error:
            raise DataMismatch(f"dataset '{self._rows.name}': {error}") from error
        except OverflowError as error:
            raise DataMismatch(f"dataset '{self._rows.name}': {error}, which type {dtype} can't hold") from error
        return value if converted is None else converted

    def _assign(self, rows: Any, rest: list[Any], names: list[str], value: Any) -> None:
        """Write as h5py does: rows that are elsewhere are read, changed here, and written whole."""
        if isinstance(rows, h5py.MultiBlockSlice | h5py.RegionReference) or (
            np.ndim(rows) > 1 and not _is_of_elements(rows)
        ):
            raise UsageError(f"dataset '{self.name}': on several ranks rows are written by slice or by row numbers")
        at: Any
        if _is_of_elements(rows):
            indices, at = self._masked(rows)
        else:
            chosen = self._rows.select(rows)
            indices = chosen.as_indices()
            at = (0 if isinstance(rows, int | np.integer) else slice(None), *rest)
        if not len(indices):
            return
        values = self._rows.take(indices)
        given = value.dtype.names if isinstance(value, np.ndarray) else None
        if not names and given and set(given) < set(values.dtype.names or ()):
            names = [*given]
            if len(names) == 1:
                value = value[names[0]]
        if len(names) == 1:
            values[names[0]][at] = value
        else:
            for name in names:
                values[name][at] = value[name]
            if not names:
                values[at] = value
        self._rows.update(indices, values)

    def __iter__(self) -> Any:
        return iter(self._rows.selected(slice(None)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        values = self._rows.selected(slice(None))
        return values if dtype is None else values.astype(dtype, copy=False)

    def read_direct(self, dest: Any, source_sel: Any = None, dest_sel: Any = None) -> None:
        """Read into an existing array, as h5py does."""
        if not self._rows.is_elsewhere:
            with self._current():
                if not self._rows.hides_rows:
                    super().read_direct(dest, source_sel, dest_sel)
                    return
        dest[... if dest_sel is None else dest_sel] = self._picked(... if source_sel is None else source_sel)

    def write_direct(self, source: Any, source_sel: Any = None, dest_sel: Any = None) -> None:
        """Write from an existing array, as h5py does."""
        if isinstance(source, np.ndarray):
            self._fitting([], source)
        if self._rows.is_elsewhere:
            self[... if dest_sel is None else dest_sel] = source[... if source_sel is None else source_sel]
            return
        with self._current(changes=(0, self._rows.count_rows())):
            super().write_direct(source, source_sel, dest_sel)

    def iter_chunks(self, *args: Any, **kwargs: Any) -> Any:
        """Return selections that cover the chunks, as h5py does."""
        with self._current():
            return super().iter_chunks(*args, **kwargs)

    def resize(self, *args: Any, **kwargs: Any) -> None:
        """Change the shape, as h5py does; not with other ranks."""
        if self._rows.is_elsewhere:
            raise UsageError(f"dataset '{self.name}': on several ranks a dataset grows by reserve_data")
        self._file.untraced(f"'{self.name}', by resizing it")
        with self._current(changes=(0, self._rows.count_rows())):
            super().resize(*args, **kwargs)
            self._rows.rows.resized()

    @contextlib.contextmanager
    def _current(self, changes: tuple[int, int] | Indices | None = None) -> Iterator[None]:
        """Bring the file up to date and keep others from writing while h5py works on it; `changes` are rows."""
        rows = self._rows.rows
        with self._lock, rows.in_file.exclusively() if changes is not None else contextlib.nullcontext():
            if changes is None:
                self._rows.whole()
            else:
                self._rows.changing(changes)
                rows.changing()
            rows.flush()
            outer, self._fixed_shape = self._fixed_shape, (self._rows.shape[0], *super().shape[1:])
            try:
                with _writes_to(self):
                    yield
            finally:
                self._fixed_shape = outer
            if changes is not None:
                rows.drop_pages()


def _is_of_elements(rows: Any) -> bool:
    """Say whether a selection is a mask that selects single elements of rows."""
    return np.ndim(rows) > 1 and np.asarray(rows).dtype == bool


def _writes_to(found: h5py.HLObject) -> Writes:
    """Return the context for writes to the file of an object."""
    return writing(os.fsdecode(h5py.h5f.get_name(found.id)))


def _converted(values: Any, dtype: np.dtype[Any]) -> Any:
    """Convert values to another type; fields are found by name."""
    if dtype.names is None or values.dtype.names is None:
        return values.astype(dtype)
    found = np.empty(values.shape, dtype)
    for name in dtype.names:
        found[name] = values[name]
    return found


class BufferedAttributes(h5py.AttributeManager):  # type: ignore[misc]
    """Attributes, which all ranks that have the file open change together."""

    def __init__(self, plain: h5py.AttributeManager, of: h5py.HLObject, file: UsedFile) -> None:
        super().__init__(of)
        self._plain = plain
        self._file = file

    def __setitem__(self, name: str, value: Any) -> None:
        self.create(name, value)

    def __delitem__(self, name: str) -> None:
        self._changed(lambda: self._plain.__delitem__(name))

    def create(self, name: str, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Make or replace an attribute, as h5py does."""
        return self._changed(lambda: self._plain.create(name, data, *args, **kwargs))

    def modify(self, name: str, value: Any) -> None:
        """Change the value of an attribute, as h5py does."""
        self._changed(lambda: self._plain.modify(name, value))

    def _changed(self, change: Callable[[], Any]) -> Any:
        with self._file.context.lock:
            return self._file.alike(change)


class _PlainGroup(h5py.Group):  # type: ignore[misc]
    """A group of h5py, which opens files that links lead to for reading."""

    @property
    def _lapl(self) -> Any:
        return reading()


class BufferedGroup(h5py.Group):  # type: ignore[misc]
    """A group in which datasets are found as `BufferedDataset`.

    It has the methods of h5py's class that look and change, and there are many. h5py holds its lock while it calls back
    or is iterated over, so names are listed first.
    """

    def __init__(self, found: h5py.HLObject, file: UsedFile) -> None:
        super().__init__(found.id)
        self._file = file

    def __repr__(self) -> str:
        # Not `len(self)`, which may have to wait.
        return f'<HDF5 group "{self.name}" ({super().__len__()} members)>' if self else "<Closed HDF5 group>"

    @property
    def _lapl(self) -> Any:
        return reading()

    @property
    def _plain(self) -> h5py.Group:
        """Return the group as h5py's methods may use it while they hold h5py's lock."""
        return _PlainGroup(self.id)

    @property
    def file(self) -> BufferedFile:
        """Return the file, in which datasets are found as `BufferedDataset`."""
        return BufferedFile(self, self._file)

    @property
    def attrs(self) -> h5py.AttributeManager:
        """Return the attributes, which components had better use by `get_attrs` and `set_attrs`."""
        self._file.untraced(f"attributes of '{self.name}'")
        return BufferedAttributes(super().attrs, self, self._file)

    # looking

    def __getitem__(self, name: Any) -> Any:
        return buffered(super().__getitem__(name), self._file)

    def __contains__(self, name: Any) -> bool:
        self._file.untraced(f"what is in '{self.name}'")
        return bool(super().__contains__(name))

    def __len__(self) -> int:
        self._file.untraced(f"what is in '{self.name}'")
        return int(super().__len__())

    def get(self, name: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return an object, its class or its link, as h5py does."""
        if args or kwargs:
            self._file.untraced(f"what is in '{self.name}'")
            return buffered(self._plain.get(name, default, *args, **kwargs), self._file)
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        self._file.untraced(f"what is in '{self.name}'")
        return iter(list(super().__iter__()))

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def values(self) -> ValuesView[Any]:
        """Return the members."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, Any]:
        """Return names and members."""
        return ItemsView(self)

    def visit(self, func: Callable[[str], Any]) -> Any:
        """Call a function with the path of each object below, until it returns something, as h5py does."""
        self._file.untraced(f"what is in '{self.name}'")
        paths: list[str] = []
        super().visit(paths.append)
        return next((result for path in paths if (result := func(path)) is not None), None)

    def visititems(self, func: Callable[[str, Any], Any]) -> Any:
        """Call a function with path and object of each object below, until it returns something, as h5py does."""
        self._file.untraced(f"what is in '{self.name}'")
        paths: list[str] = []
        super().visit(paths.append)
        return next((result for path in paths if (result := func(path, self[path])) is not None), None)

    def visit_links(self, func: Callable[[str], Any]) -> Any:
        """Call a function with the path of each link below, until it returns something, as h5py does."""
        self._file.untraced(f"what is in '{self.name}'")
        paths: list[str] = []
        super().visit_links(paths.append)
        return next((result for path in paths if (result := func(path)) is not None), None)

    def visititems_links(self, func: Callable[[str, Any], Any]) -> Any:
        """Call a function with path and link of each link below, until it returns something, as h5py does."""
        return self.visit_links(lambda path: func(path, self.get(path, getlink=True)))

    # changing

    def create_dataset(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Create a dataset, as h5py does."""
        return self._changed(lambda: self._plain.create_dataset(name, *args, **kwargs), name)

    def create_virtual_dataset(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Create a dataset that is made of others, as h5py does."""
        return self._changed(lambda: self._plain.create_virtual_dataset(name, *args, **kwargs), name)

    def require_dataset(self, name: Any, shape: Any, dtype: Any, exact: bool = False, **kwargs: Any) -> Any:
        """Find or create a dataset, as h5py does."""
        with self._file.context.lock:
            if name not in self:
                return self.create_dataset(name, shape, dtype, **kwargs)
            self._file.flush()  # h5py compares shapes
            return buffered(self._plain.require_dataset(name, shape, dtype, exact, **kwargs), self._file)

    def create_group(self, name: Any, *args: Any, **kwargs: Any) -> BufferedGroup:
        """Create a group, as h5py does."""
        made: BufferedGroup = self._changed(lambda: self._plain.create_group(name, *args, **kwargs), name)
        return made

    def require_group(self, name: Any) -> Any:
        """Find or create a group, as h5py does."""
        with self._file.context.lock:
            if name not in self:
                return self.create_group(name)
            return buffered(self._plain.require_group(name), self._file)

    def copy(self, source: Any, dest: Any, name: Any = None, *args: Any, **kwargs: Any) -> None:
        """Copy an object, as h5py does."""
        if isinstance(source, BufferedDataset | BufferedGroup):
            source._file.flush()
        self._file.flush()
        into, at = (dest, name) if isinstance(dest, BufferedGroup) else (self, dest)
        # As a path, h5py looks up the source by an overridden method.
        into._changed(lambda: self._plain.copy(source, dest, name, *args, **kwargs), at)

    def move(self, source: Any, dest: Any) -> None:
        """Give an object another path, as h5py does."""
        self._changed(lambda: self._plain.move(source, dest), source, dest)

    def __setitem__(self, name: Any, value: Any) -> None:
        self._changed(lambda: self._plain.__setitem__(name, value), name)

    def __delitem__(self, name: Any) -> None:
        self._changed(lambda: self._plain.__delitem__(name), name)

    def _changed(self, change: Callable[[], Any], *names: Any) -> Any:
        """Put something at a path or take it away as h5py does, and return what h5py returns."""

        texts = (name.decode() if isinstance(name, bytes) else name for name in names)
        paths = [
            layout.normalise(text if text[:1] == "/" else f"{self.name}/{text}") if isinstance(text, str) else ""
            for text in texts
        ]

        def changed() -> Any:
            self._file.flush()
            for path in paths:
                self._file.make_own(path.rpartition("/")[0])
            with _writes_to(self):
                made = change()
            for path in paths:
                self._file.forget(f"/{path}")  # of the root: what was there still is, but what wasn't may be
            return made

        with self._file.context.lock:
            self._file.untraced(f"'{self.name}', by changing what is in it")
            return buffered(self._file.alike(changed), self._file)


class BufferedFile(BufferedGroup, h5py.File):  # type: ignore[misc]
    """A file in which datasets are found as `BufferedDataset`."""

    def flush(self) -> None:
        """Bring the file up to date, the buffered rows included."""
        self._file.flush()
        with _writes_to(self):
            super().flush()

    def close(self) -> None:
        """Close the file, after the buffered rows have been written."""
        self._file.close()

    def __repr__(self) -> str:
        return str(h5py.File.__repr__(self))

    def __exit__(self, *_: object) -> None:
        if self:
            self.close()


def buffered(found: Any, file: UsedFile) -> Any:
    """Wrap what h5py has found, if need be, as an object that sees the buffer."""
    if isinstance(found, h5py.Dataset | h5py.Group) and not file.is_own(found):
        return found
    if isinstance(found, h5py.Dataset) and not isinstance(found, BufferedDataset) and found.name is not None:
        rows = file.observed(found.name)
        return found if rows is None else BufferedDataset(rows, file)
    if isinstance(found, h5py.Group) and not isinstance(found, BufferedGroup):
        return BufferedGroup(found, file)
    return found
