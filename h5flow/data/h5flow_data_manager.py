"""The data manager: what components use to read and write the file of a run."""

from __future__ import annotations

import copy
import itertools
import logging
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from h5flow import mpi
from h5flow.data import layout
from h5flow.data.casting import as_values, fit, mismatch
from h5flow.data.data_file import DataFile
from h5flow.data.dereference import dereference_chain
from h5flow.data.handles import BufferedDataset
from h5flow.data.output_file import OutputFile
from h5flow.data.pages import PagedDataset
from h5flow.data.references import checked_pairs
from h5flow.data.selection import rows_of
from h5flow.errors import DataMismatch, FileError, NotInFile, RowsOutOfRange, UsageError

_log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]


class H5FlowDataManager:
    """Access by dataset name to one HDF5 file, which is opened on first use.

    `mode` is h5py's. What lies at or below a path of `drop_list` goes to a temporary file and is gone after
    `finish()`. `compression` (`'gzip'`, `'lzf'`) is applied to all datasets that are made.

    Datasets have `/name/data` in the file, references `/parent/ref/child/ref`; names may hold slashes.
    Everything that is written is visible at once through the manager, and through all h5py objects that
    it hands out; it reaches the file later. As a context manager it calls `finish()`. With an `output`, the
    file that is written is the output's working file.
    """

    def __init__(
        self,
        filepath: str,
        mode: str = "a",
        mpi: bool | None = None,
        drop_list: list[str] | None = None,
        compression: str | None = None,
        *,
        output: OutputFile | None = None,
    ) -> None:
        self.filepath = filepath
        self.mode = mode
        self.drop_list = list(drop_list or [])
        self.compression = compression
        self.component = ""
        self._mpi = mpi
        self._output = output
        path = filepath if output is None else output.working
        self._file = DataFile(path, mode, tuple(self.drop_list), compression)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(filepath={self.filepath!r}, mode={self.mode!r},"
            f" mpi={self.mpi_flag!r}, drop_list={self.drop_list!r})"
        )

    def __enter__(self) -> H5FlowDataManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def view(self, component: str) -> H5FlowDataManager:
        """The same file as seen by one component, so that what it does can be told from what others do."""
        view = copy.copy(self)
        view.component = component
        return view

    @property
    def mpi_flag(self) -> bool:
        """Whether the manager may use MPI."""
        return mpi.available() if self._mpi is None else self._mpi

    @property
    def comm(self) -> Any:
        """The communicator of the ranks that share the file, `None` without MPI."""
        return mpi.world() if self.mpi_flag and mpi.available() else None

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return 0

    @property
    def size(self) -> int:
        """Number of ranks."""
        return 1

    @property
    def fh(self) -> h5py.File:
        """The open file. What is buffered is written first."""
        self._file.flush()
        return self._file.main.file

    def start_with_copy_of(self, path: str) -> None:
        """Have the file begin as a copy of another one, unless it is the same. Only the first call counts."""
        if self._output is not None:
            self._output.prepare(path)
        else:
            self._file.start_with_copy_of(path)

    # what there is

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path of the file."""
        return self._file.find(layout.normalise(path)) is not None

    def dset_exists(self, name: str) -> bool:
        """Whether there is a dataset of this name."""
        return self._file.paged(layout.data_path(layout.normalise(name))) is not None

    def ref_exists(self, parent: str, child: str) -> bool:
        """Whether there are references between two datasets, whichever side created them."""
        return self._file.reference(layout.normalise(parent), layout.normalise(child)) is not None

    def ref_region_exists(self, parent: str, child: str) -> bool:
        """Whether there is a region table for the rows of `parent` in references to `child`."""
        return self.ref_exists(parent, child)

    def attr_exists(self, name: str, key: str) -> bool:
        """Whether the group of a dataset has an attribute."""
        found = self._file.find(layout.normalise(name))
        return found is not None and key in found.attrs

    def get_attrs(self, name: str) -> dict[str, Any]:
        """The attributes of a dataset's group. Raises `NotInFile`."""
        found = self._file.find(layout.normalise(name))
        if found is None:
            raise NotInFile(f"group '{name}' isn't in '{self.filepath}'")
        return dict(found.attrs)

    def get_dset(self, name: str) -> h5py.Dataset:
        """The dataset `/name/data`. Raises `NotInFile`."""
        return BufferedDataset(self._file.dataset(layout.normalise(name)))

    def get_ref(self, parent: str, child: str) -> tuple[h5py.Dataset, tuple[int, int]]:
        """The references (L, 2) and the columns of `parent` and `child` in it. Raises `NotInFile`."""
        reference = self._reference(parent, child)
        return BufferedDataset(reference.pairs), reference.direction(layout.normalise(parent))

    def get_refs(self, name: str) -> list[h5py.Dataset]:
        """All references that involve a dataset."""
        return [BufferedDataset(found.pairs) for found in self._file.references_of(layout.normalise(name))]

    def get_ref_region(self, parent: str, child: str) -> h5py.Dataset:
        """The region table for the rows of `parent` in references to `child`. Raises `NotInFile`."""
        reference = self._reference(parent, child)
        return BufferedDataset(reference.regions[reference.direction(layout.normalise(parent))[0]])

    # creating and deleting

    def create_dset(self, name: str, dtype: npt.DTypeLike, shape: int | tuple[int, ...] = ()) -> None:
        """Create a dataset of no rows, each of `shape` and `dtype`. Collective.

        Nothing happens if it exists like this. Raises `DataMismatch` if it has another type or shape.
        """
        self._check_writable(f"create dataset '{name}'")
        row_shape = (int(shape),) if isinstance(shape, int) else tuple(shape)
        self._file.create_dataset(layout.normalise(name), dtype, row_shape)

    def create_ref(self, parent: str, child: str) -> None:
        """Create references between two datasets, which must exist. Collective.

        Nothing happens if they exist. Raises `RuntimeError` if they were created from the other side.
        """
        self._check_writable(f"create references '{parent}' → '{child}'")
        self._file.create_reference(layout.normalise(parent), layout.normalise(child))

    def set_attrs(self, name: str, /, **attrs: Any) -> None:
        """Set attributes of a dataset's group, which is made if needed. Collective."""
        self._check_writable(f"set attributes of '{name}'")
        path = layout.normalise(name)
        group = self._file.find(path)
        if group is None:
            group = self._file.storage_of(path).file.require_group(path)
        for key, value in attrs.items():
            try:
                group.attrs[key] = value
            except (TypeError, ValueError, OSError) as error:
                raise DataMismatch(
                    f"attribute '{key}' of '{name}': a value of type {type(value).__name__} can't be stored: {error}"
                ) from error

    def delete(self, name: str) -> None:
        """Remove what lies at a path, and all references that involve it. Raises `NotInFile`. Collective."""
        self._check_writable(f"delete '{name}'")
        self._file.delete(layout.normalise(name))

    # rows

    def reserve_data(self, name: str, spec: Any) -> Any:
        """Make room for rows, which hold zeros at first. Collective.

        For a number: so many new rows at the end; their slice is returned. For a slice, or rows by number:
        at least as many rows as they need; `spec` is returned.
        """
        self._check_writable(f"reserve rows of dataset '{name}'")
        dataset = self._file.dataset(layout.normalise(name))
        wanted: Any = spec
        if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
            start = dataset.length
            if spec < 0:
                raise DataMismatch(f"dataset '{name}': can't reserve {spec} rows")
            wanted = slice(start, start + int(spec))
        length = _needed(name, wanted, dataset.length)
        if length > dataset.length and not dataset.stored.growable:
            raise DataMismatch(f"dataset '{name}' has a fixed size of {dataset.length} rows and can't grow to {length}")
        dataset.grow(length)
        return wanted

    def write_data(self, name: str, spec: Any, data: Any) -> None:
        """Write rows that exist; `data` is broadcast to them as numpy does.

        Raises `RowsOutOfRange` for rows past the end, `DataMismatch` for data of another shape or type.
        """
        self._check_writable(f"write to dataset '{name}'")
        dataset = self._file.dataset(layout.normalise(name))
        if isinstance(spec, slice) and spec.step in (None, 1):
            start, stop = _bounds(spec, dataset.length)
            indices = None
        else:
            rows = rows_of(spec, dataset.length, f"dataset '{name}'")
            start, stop, indices = rows.start, rows.stop, rows.indices
        if indices is None and stop > dataset.length:
            raise RowsOutOfRange(f"dataset '{name}' has {dataset.length} rows, rows {start}:{stop} are not reserved")
        count = stop - start if indices is None else len(indices)
        self._write(dataset, start, count, indices, data)

    def _write(self, dataset: PagedDataset, start: int, count: int, indices: Array | None, data: Any) -> None:
        shape = (count, *dataset.row_shape)
        rows = f"{start}:{start + count}" if indices is None else f"[{count} row numbers]"
        if not dataset.buffered:
            self._write_with_h5py(dataset, slice(start, start + count) if indices is None else indices, data)
            return
        try:
            values = as_values(data, dataset.dtype)
            fitted = fit(values, dataset.dtype, shape)
        except (ValueError, TypeError) as error:
            raise mismatch(dataset.name, rows, np.asarray(data), dataset.dtype, shape) from error
        if not count:
            return
        if fitted is not None:
            if indices is None:
                dataset.write(start, fitted)
            else:
                dataset.update(indices, fitted)
            return
        try:
            np.broadcast_to(np.empty(values.shape, "V1"), shape)
            self._write_with_h5py(dataset, slice(start, start + count) if indices is None else indices, values)
        except (ValueError, TypeError) as error:
            raise mismatch(dataset.name, rows, values, dataset.dtype, shape) from error

    def _write_with_h5py(self, dataset: PagedDataset, rows: slice | Array, data: Any) -> None:
        handle = BufferedDataset(dataset)
        if isinstance(rows, slice):
            handle[rows] = data
            return
        ascending, last = np.unique(rows[::-1], return_index=True)
        values = np.broadcast_to(np.asarray(data), (len(rows), *np.shape(data)[1:]))
        handle[ascending] = values[::-1][last]

    def write_ref(self, parent: str, child: str, refs: Any) -> None:
        """Append references: pairs (K, 2) of row numbers, of `parent` and of `child`. Collective.

        They are stored in the order given, whichever side created the references. Raises `NotInFile`,
        and `InvalidReference` for what isn't pairs of row numbers.
        """
        self._check_writable(f"write references '{parent}' → '{child}'")
        reference = self._reference(parent, child)
        pairs = checked_pairs(refs, parent, child)
        columns = reference.direction(layout.normalise(parent))
        reference.append(pairs if columns == (0, 1) else pairs[:, ::-1])

    # reading

    def __getitem__(self, args: Any) -> Any:
        """Objects and rows.

        - `dm[path]`: the h5py object,
        - `dm[name, sel]`: rows; `sel` is a slice, a row number (gives one row) or row numbers,
        - `dm[a, b, …, sel]`: rows of the last dataset, followed along references from rows `sel` of the
          first; a masked array (n, m, …). Without `sel`: from all rows.
        """
        if isinstance(args, str):
            return self._object(args)
        if not isinstance(args, tuple) or not args or not isinstance(args[0], str):
            raise UsageError(f"expected dm[path], dm[name, rows] or dm[name, name, …, rows], got dm[{args!r}]")
        names = [layout.normalise(arg) for arg in args if isinstance(arg, str)]
        selections = args[len(names) :]
        if len(selections) > 1 or not all(isinstance(arg, str) for arg in args[: len(names)]):
            raise UsageError(f"expected dm[name, …, rows] with one selection at the end, got dm[{args!r}]")
        if len(names) == 1:
            return self._rows(names[0], selections[0])
        return self.walk(names, selections[0] if selections else slice(None))

    def walk(self, names: list[str], selection: Any, indices_only: bool = False) -> np.ma.MaskedArray[Any, Any]:
        """Follow references from rows `selection` of the first dataset to the last. Shape (n, m1, m2, …).

        Raises `NotInFile` where two neighbours aren't joined.
        """
        references = [self._reference(one, other) for one, other in itertools.pairwise(names)]
        directions = [reference.direction(name) for reference, name in zip(references, names, strict=False)]
        return dereference_chain(
            selection,
            [reference.pairs for reference in references],
            data=None if indices_only else self._file.dataset(names[-1]),
            regions=[
                reference.regions[direction[0]] for reference, direction in zip(references, directions, strict=True)
            ],
            ref_directions=directions,
            indices_only=indices_only,
        )

    def _object(self, path: str) -> h5py.HLObject:
        found = self._file.find(layout.normalise(path))
        if found is None:
            raise NotInFile(f"'{path}' isn't in '{self.filepath}'")
        return found

    def _rows(self, name: str, selection: Any) -> Array:
        dataset = self._file.dataset(name)
        if isinstance(selection, slice) and selection.step in (None, 1):
            start, stop, _ = selection.indices(dataset.length)
            return dataset.read(start, max(start, stop))
        rows = rows_of(selection, dataset.length, f"dataset '{name}'")
        if rows.indices is None:
            return dataset.read(rows.start, rows.stop)
        ascending, where = np.unique(rows.indices, return_inverse=True)
        return dataset.take(ascending)[where]

    # the end

    def settle(self) -> None:
        """Write what has been buffered for long, if it is too much; called between slices."""
        self._file.settle()

    def dangling_references(self) -> list[str]:
        """A sentence for each dataset past whose end a reference that was used points."""
        return self._file.dangling()

    def close_file(self) -> None:
        """Write everything and close. The next use opens the file again."""
        self._file.close()

    def finish(self) -> None:
        """Report references that lead nowhere, remove what is to be dropped, close. Collective."""
        for sentence in self.dangling_references():
            _log.warning("%s: %s", self.filepath, sentence)
        self._file.finish()

    def abandon(self) -> None:
        """Close after a failure: what can be saved is, the temporary file is gone."""
        try:
            self._file.close()
        except FileError as error:
            # What made the run fail is on its way already, and mustn't be hidden by this.
            _log.error("%s", error)
        finally:
            self._file.remove_temporary()

    def _reference(self, parent: str, child: str) -> Any:
        reference = self._file.reference(layout.normalise(parent), layout.normalise(child))
        if reference is None:
            raise NotInFile(f"there are no references between '{parent}' and '{child}' in '{self.filepath}'")
        return reference

    def _check_writable(self, intent: str) -> None:
        if self.mode == "r":
            raise FileError(f"can't {intent}: '{self.filepath}' is open for reading only")


def _bounds(rows: slice, length: int) -> tuple[int, int]:
    """Start and stop of a slice of rows that are to be written; the stop isn't cut at `length`."""
    start = 0 if rows.start is None else rows.start
    stop = length if rows.stop is None else rows.stop
    start = max(0, start + length) if start < 0 else start
    stop = max(0, stop + length) if stop < 0 else stop
    return int(start), int(max(start, stop))


def _needed(name: str, spec: Any, length: int) -> int:
    """How many rows a dataset of `length` rows must have to hold `spec`: a slice, row numbers, or a list of these."""
    if isinstance(spec, slice):
        return max(length, _bounds(spec, length)[1])
    if isinstance(spec, list | tuple) and any(isinstance(item, slice) for item in spec):
        return max(_needed(name, item, length) for item in spec)
    rows = np.asarray(spec)
    if rows.dtype == bool or not (rows.size == 0 or np.issubdtype(rows.dtype, np.integer)):
        raise DataMismatch(f"dataset '{name}': rows are reserved by number, slice or row numbers, not by {spec!r}")
    if rows.size and rows.min() < 0:
        raise RowsOutOfRange(f"dataset '{name}': can't reserve row {rows.min()}")
    return max(length, int(rows.max()) + 1) if rows.size else length
