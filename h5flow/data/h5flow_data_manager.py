"""The data manager: what components use to read and write the file of a run."""

from __future__ import annotations

import copy
import itertools
import logging
import operator
import threading
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np

from h5flow import mpi
from h5flow.data import layout
from h5flow.data.attributes import GroupAttributes
from h5flow.data.casting import Unfit, as_values, check_fields, fit, mismatch
from h5flow.data.data_file import DataFile
from h5flow.data.dereferencing import dereference_chain
from h5flow.data.handles import BufferedDataset, BufferedFile, buffered
from h5flow.data.lease import Lease
from h5flow.data.observer import Observer
from h5flow.data.output_file import OutputFile
from h5flow.data.pages import PagedDataset
from h5flow.data.references import Reference, checked_pairs
from h5flow.data.selection import counts_from_start, needed_rows, writable_bounds
from h5flow.data.shared import SharedDataset
from h5flow.data.storage.choice import Kind, choose
from h5flow.data.storage.mpio import stand_in_for_mpio
from h5flow.errors import DataMismatch, FileError, NotInFile, RowsOutOfRange, UsageError
from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    import numpy.typing as npt
    from mpi4py.MPI import Intracomm

    from h5flow.data.awaitable import AwaitableDataManager
    from h5flow.data.ranks import Ranks

_log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]

__getattr__ = on_first_use(
    __name__,
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
    dereference="h5flow.data.dereferencing:dereference",
    print_attr="h5flow.data.lib:print_attr",
    print_data="h5flow.data.lib:print_data",
    print_ref="h5flow.data.lib:print_ref",
    ref_region_dtype="h5flow.data.layout:ref_region_dtype",
)


class H5FlowDataManager:
    """Access by dataset name to one HDF5 file, which is opened on first use.

    `mode` is h5py's. What lies at or below a path of `drop_list` goes to a temporary file and is gone after
    `finish()`. `compression` (`'gzip'`, `'lzf'`) is applied to all datasets that are made.

    Datasets have `/name/data` in the file, references `/parent/ref/child/ref`; names may hold slashes.
    Everything that is written is visible at once through the manager, and through all h5py objects that
    it hands out; it reaches the file later, at the latest when the manager is deleted or the interpreter
    exits. As a context manager it calls `finish()`. With an `output`, the file that is written is the
    output's working file. On several ranks `storage` says who writes (see `storage.choice`), and `source` is the
    file that this one begins as a copy of; with `auto` making the manager is collective.
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
        comm: Intracomm | None = None,
        storage: Kind | Literal["auto"] = "auto",
        source: str | None = None,
    ) -> None:
        stand_in_for_mpio()
        self.filepath = filepath
        self.mode = mode
        self.drop_list = list(drop_list or [])
        self.compression = compression
        self.component = ""
        self._mpi = mpi
        self._output = output
        path = filepath if output is None else output.working
        self._comm = comm if comm is not None else self._world()
        begins_as = path if output is None else output.origin(source)
        self.storage, self.why_storage = choose(storage, self._comm if mode != "r" else None, compression, begins_as)
        self._file = DataFile(
            path,
            mode,
            tuple(self.drop_list),
            compression,
            self._comm,
            parallel=self.storage == "parallel",
            before_opening=(lambda: None) if output is None else output.wait,
        )
        self._lease = Lease(self._file)

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
        return self._comm if self._comm is not None else self._world(imported=True)

    def _world(self, imported: bool = False) -> Intracomm | None:
        """All ranks. MPI is imported only if there are several, or where it is needed."""
        wanted = self.mpi_flag if imported else self._mpi is not False and mpi.launched_ranks() > 1
        return mpi.world() if wanted and mpi.available() else None

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return 0 if self._comm is None else self._comm.Get_rank()

    @property
    def size(self) -> int:
        """Number of ranks."""
        return 1 if self._comm is None else self._comm.Get_size()

    @property
    def ranks(self) -> Ranks | None:
        """This rank among those that write the file, if there are others."""
        return self._file.ranks

    @property
    def fh(self) -> h5py.File:
        """The open file. What is buffered is written first."""
        with self._file.lock:
            if self._file.observer is not None:
                self._file.observer.everything("the file itself (data_manager.fh)")
            self._file.flush()
            return BufferedFile(self._file.main.file, self._lease)

    @property
    def awaitable(self) -> AwaitableDataManager:
        """The same calls for `async` stages and generators, to be awaited."""
        from h5flow.data.awaitable import AwaitableDataManager

        return AwaitableDataManager(self)

    def start_with_copy_of(self, path: str) -> None:
        """Have the file begin as a copy of another one, unless it is the same. Only the first call counts."""
        if self._output is not None:
            self.prepare(path)
        else:
            self._file.start_with_copy_of(path)

    def prepare(self, source: str | None, *, opens: bool = True) -> None:
        """Have the output begin as a copy of a file, or as it is, or empty. Collective.

        Several ranks open it, unless it is known to be replaced by something else; then this is called again.
        """
        output = self._output
        assert output is not None
        if self._comm is None or self.size == 1:
            output.begin(source)
            output.check()
            self._file.origin = output.copied
        elif not self._file.is_open:
            original = mpi.on_first_rank(self._comm, lambda: output.prepare(source))
            self._file.origin = output.copied = original or output.copied
            if opens:
                self._file.open(original)

    @property
    def working_path(self) -> str:
        """The path of the file while it is written; an output of a run gets its name when it is complete."""
        return self._file.path

    # what there is

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path of the file."""
        return self._find(layout.normalise(path), asked=True) is not None

    def dset_exists(self, dataset_name: str) -> bool:
        """Whether there is a dataset of this name."""
        path = layout.data_path(layout.normalise(dataset_name))
        return self._asked(path, self._file.shared(path) is not None)

    def ref_exists(self, parent_dataset_name: str, child_dataset_name: str) -> bool:
        """Whether there are references between two datasets, whichever side created them."""
        found = self._file.reference(layout.normalise(parent_dataset_name), layout.normalise(child_dataset_name))
        return found is not None and self._asked(found.pairs.path, True)

    def _asked(self, path: str, found: bool) -> bool:
        """Note that somebody wants to know whether there is something at a path."""
        with self._file.lock:
            if found and self._file.observer is not None:
                self._file.observer.read("?" + path, None)
            return found

    def ref_region_exists(self, parent_dataset_name: str, child_dataset_name: str) -> bool:
        """Whether there is a region table for the rows of the parent in references to the child."""
        return self.ref_exists(parent_dataset_name, child_dataset_name)

    def paths(self) -> list[str]:
        """Absolute paths of all datasets, also of those that are going to be dropped."""
        with self._file.lock:
            if self._file.observer is not None:
                self._file.observer.everything("the names of all datasets")
            return self._file.paths()

    def attr_exists(self, name: str, key: str) -> bool:
        """Whether the group of a dataset has an attribute."""
        with self._file.lock:
            found = self._find(layout.normalise(name), attributes=True)
            return found is not None and key in found.attrs

    def get_attrs(self, name: str) -> h5py.AttributeManager:
        """Return the attributes of a dataset's group, live as h5py's: assigning to them is `set_attrs`, and collective.

        Raises `NotInFile`; assigning raises `FileError` where the file is open for reading only.
        """
        path = layout.normalise(name)
        with self._file.lock:
            found = self._find(path, attributes=True)
            if found is None:
                raise NotInFile(f"group '{name}' isn't in '{self.filepath}'")
            return GroupAttributes(found, path, self._file, self._check_writable, self._lease)

    def _find(self, path: str, attributes: bool = False, asked: bool = False) -> h5py.HLObject | None:
        """What lies at a path, if it is to be seen; with `attributes`, they are going to be read."""
        with self._file.lock:
            observer = self._file.observer
            found = self._file.find(path)
            if observer is None:
                return found
            if attributes:
                observer.read(f"@{path}", None)
            visible = observer.exists("/" + path, found is not None)
            if asked:
                self._asked("/" + path, visible)
            return found if visible else None

    def get_dset(self, dataset_name: str) -> h5py.Dataset:
        """The dataset `/name/data`. Raises `NotInFile`."""
        return self._handle(self._file.dataset(layout.normalise(dataset_name)))

    def get_ref(self, parent_dataset_name: str, child_dataset_name: str) -> tuple[h5py.Dataset, tuple[int, int]]:
        """The references (L, 2) and the columns of parent and child in it. Raises `NotInFile`."""
        reference = self._reference(parent_dataset_name, child_dataset_name)
        return self._handle(self._shared(reference.pairs)), reference.direction(layout.normalise(parent_dataset_name))

    def get_refs(self, dataset_name: str) -> list[h5py.Dataset]:
        """All references that involve a dataset."""
        with self._file.lock:
            observer = self._file.observer
            if observer is not None:
                observer.read(f"references of {layout.normalise(dataset_name)}", None)
            found = [
                reference.pairs
                for reference in self._file.references_of(layout.normalise(dataset_name), everywhere=True)
            ]
            return [self._handle(self._shared(p)) for p in found if observer is None or observer.exists(p.path, True)]

    def get_ref_region(self, parent_dataset_name: str, child_dataset_name: str) -> h5py.Dataset:
        """The region table for the rows of the parent in references to the child. Raises `NotInFile`."""
        reference = self._reference(parent_dataset_name, child_dataset_name)
        column, _ = reference.direction(layout.normalise(parent_dataset_name))
        return self._handle(self._shared(reference.regions[column]))

    def _handle(self, dataset: SharedDataset) -> h5py.Dataset:
        return BufferedDataset(dataset, self._lease)

    def _shared(self, rows: PagedDataset, lookup: bool = False) -> SharedDataset:
        shared = self._file.shared(rows.path, lookup)
        assert shared is not None
        return shared

    # creating and deleting

    def create_dset(self, dataset_name: str, dtype: npt.DTypeLike, shape: int | npt.ArrayLike = ()) -> None:
        """Create a dataset of no rows, each of `shape` and `dtype`. Collective.

        Nothing happens if it exists like this. Raises `DataMismatch` if it has another type or shape.
        """
        self._check_writable(f"create dataset '{dataset_name}'")
        row_shape = _row_shape(dataset_name, shape)
        with self._file.lock:
            self._file.create_dataset(layout.normalise(dataset_name), dtype, row_shape)

    def create_ref(self, parent_dataset_name: str, child_dataset_name: str) -> None:
        """Create references between two datasets, which must exist. Collective.

        Nothing happens if they exist. Raises `RuntimeError` if they were created from the other side.
        """
        self._check_writable(f"create references '{parent_dataset_name}' → '{child_dataset_name}'")
        with self._file.lock:
            self._file.create_reference(layout.normalise(parent_dataset_name), layout.normalise(child_dataset_name))

    def set_attrs(self, name: str | None = None, /, **attrs: Any) -> None:
        """Set attributes of a dataset's group, which is made if needed. Collective.

        The dataset may be given as `name=…`, too; with its name in front, an attribute may be called `name`.
        """
        dataset_name = attrs.pop("name") if name is None else name
        self._check_writable(f"set attributes of '{dataset_name}'")
        path = layout.normalise(dataset_name)
        with self._file.lock:
            self._file.set_attributes(path, attrs)

    def delete(self, name: str) -> None:
        """Remove what lies at a path, if there is anything, and all references that involve it. Collective."""
        self._check_writable(f"delete '{name}'")
        with self._file.lock:
            if self._file.observer is not None:
                self._file.observer.everything(f"'{name}', by deleting it")
            self._file.delete(layout.normalise(name))

    # rows

    def reserve_data(self, dataset_name: str, spec: Any) -> Any:
        """Make room for rows, which hold zeros at first. Collective.

        For a number: so many new rows at the end; their slice is returned. For a slice, or rows by number:
        at least as many rows as they need; `spec` is returned. What selects nothing, such as `slice(30, 20)`, needs
        none.
        """
        self._check_writable(f"reserve rows of dataset '{dataset_name}'")
        dataset = self._file.dataset(layout.normalise(dataset_name))
        if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
            if spec < 0:
                raise DataMismatch(f"dataset '{dataset_name}': can't reserve {spec} rows")
            _check_growable(dataset, int(spec))
            start = dataset.append(int(spec))
            return slice(start, start + int(spec))
        with self._file.lock:
            # Only rows that are new to the component make it wait for those that append, too.
            if needed_rows(dataset_name, spec, dataset.shape[0])[1] > dataset.shape[0]:
                dataset.before_append()
                start, length = needed_rows(dataset_name, spec, dataset.length)
                _check_growable(dataset, length - dataset.rows.length)
                dataset.grow(start, length)
        return spec

    def write_data(self, dataset_name: str, spec: Any, data: Any) -> None:
        """Write rows that exist; `data` is broadcast to them as numpy does.

        Records are written by the names of their fields, in any order of these. Fractions are cut off where integers
        are stored, with a warning once per dataset. Raises `RowsOutOfRange` for rows past the end, `DataMismatch` for
        data of another shape or with other fields, and for values that the type of the dataset can't hold.
        """
        self._check_writable(f"write to dataset '{dataset_name}'")
        dataset = self._file.dataset(layout.normalise(dataset_name))
        if isinstance(spec, slice) and spec.step in (None, 1):
            start, stop = writable_bounds(spec, dataset.shape[0])
            if spec.stop is None or stop > dataset.shape[0] or spec.stop < 0 or (spec.start or 0) < 0:
                start, stop = writable_bounds(spec, dataset.length)
            indices = None
        else:
            rows = dataset.select(spec)
            start, stop, indices = rows.start, rows.stop, rows.indices
        if indices is None and stop > start and not dataset.has(stop - 1):
            raise RowsOutOfRange(
                f"dataset '{dataset_name}' has {dataset.length} rows, rows {start}:{stop} are not reserved"
            )
        count = stop - start if indices is None else len(indices)
        self._write(dataset, start, count, indices, data)

    def _write(self, dataset: SharedDataset, start: int, count: int, indices: Array | None, data: Any) -> None:
        shape = (count, *dataset.row_shape)
        rows = f"{start}:{start + count}" if indices is None else f"[{count} row numbers]"
        try:
            if not dataset.rows.buffered:
                if isinstance(data, np.ndarray) and dataset.dtype.names is not None:
                    check_fields(data.dtype, dataset.dtype)
                self._write_with_h5py(dataset, slice(start, start + count) if indices is None else indices, data)
                return
            values = as_values(data, dataset.dtype)
            fitted = fit(values, dataset.dtype, shape, dataset.cut)
        except Unfit as error:
            raise DataMismatch(f"dataset '{dataset.name}', rows {rows}: {error}") from error
        except (ValueError, TypeError, OverflowError) as error:
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

    def _write_with_h5py(self, dataset: SharedDataset, rows: slice | Array, data: Any) -> None:
        handle = self._handle(dataset)
        if isinstance(rows, slice):
            handle[rows] = data
            return
        ascending, last = np.unique(rows[::-1], return_index=True)
        values = np.broadcast_to(np.asarray(data), (len(rows), *np.shape(data)[1:]))
        handle[ascending] = values[::-1][last]

    def write_ref(self, parent_dataset_name: str, child_dataset_name: str, refs: Any) -> None:
        """Append references: pairs (K, 2) of row numbers, of parent and child as named here. Collective.

        They are stored in the order given, whichever side created the references. Raises `NotInFile`,
        and `InvalidReference` for what isn't pairs of row numbers.
        """
        self._check_writable(f"write references '{parent_dataset_name}' → '{child_dataset_name}'")
        reference = self._reference(parent_dataset_name, child_dataset_name)
        pairs = checked_pairs(refs, parent_dataset_name, child_dataset_name)
        if reference.direction(layout.normalise(parent_dataset_name)) == (1, 0):
            pairs = pairs[:, ::-1]
        with self._file.lock:
            reference.pairs.changing()
            if self._file.is_lacking(reference):
                self._file.store_regions(reference.parent, reference.child)
                reference = self._reference(parent_dataset_name, child_dataset_name)
            tables = (reference.pairs, *reference.regions)
            for table in tables:
                table.changing()
            ranks = self._file.ranks
            if ranks is not None:
                reference.check_room(len(pairs))
                if self._file.observer is not None:
                    self._file.observer.before_append(reference.pairs.path)
                if self._file.observer is not None and len(pairs):
                    self._announce_regions(reference, pairs)
                if reference.pairs.goes_through(len(pairs) * reference.pairs.dtype.itemsize * 2):
                    reference.put(ranks.append(reference.pairs.path, len(pairs)), pairs)
                    return
                # Nobody needs to wait until it is agreed where they go; the caller's array may change until then.
                later = pairs.copy()
                ranks.append_later(tables, len(later), lambda first: reference.put(first, later))
                return
            if self._file.observer is not None and len(pairs):
                self._announce_regions(reference, pairs)
                self._file.observer.before_append(reference.pairs.path)
                self._file.observer.append(reference.pairs.path, reference.pairs.length, len(pairs))
            reference.append(pairs)

    def _announce_regions(self, reference: Reference, pairs: Array) -> None:
        """Tell the observer of the regions that references are going to change."""
        observer = self._file.observer
        assert observer is not None
        for column, region in enumerate(reference.regions):
            observer.update(region.path, pairs[:, column], in_order=True)
            needed = int(pairs[:, column].max()) + 1
            if needed > region.length:
                observer.before_append(region.path)
                observer.append(region.path, region.own_length, needed - region.own_length)

    # reading

    def __getitem__(self, args: Any) -> Any:
        """Objects and rows.

        - `dm[path]`: the h5py object,
        - `dm[name, sel]`: rows; `sel` is a slice, a row number (gives one row) or row numbers,
        - `dm[a, b, …, sel]`: rows of the last dataset, followed along references from rows `sel` of the
          first; a masked array (n, m, …). Without `sel`: from all rows.

        The same in a tuple or list made by code, in which a single name is that of a dataset: `dm[("a",)]`.
        """
        if isinstance(args, str):
            return self._object(args)
        if not isinstance(args, tuple | list) or not args or not isinstance(args[0], str):
            raise UsageError(f"expected dm[path], dm[name, rows] or dm[name, name, …, rows], got dm[{args!r}]")
        names = [arg for arg in args if isinstance(arg, str)]
        selections = args[len(names) :]
        if len(selections) > 1 or not all(isinstance(arg, str) for arg in args[: len(names)]):
            raise UsageError(f"expected dm[name, …, rows] with one selection at the end, got dm[{args!r}]")
        if len(names) == 1 and not selections:
            return self.get_dset(names[0])
        if len(names) == 1:
            return self._file.dataset(layout.normalise(names[0])).selected(selections[0])
        return self.walk(names, selections[0] if selections else slice(None))

    def walk(self, names: list[str], selection: Any, indices_only: bool = False) -> np.ma.MaskedArray[Any, Any]:
        """Follow references from rows `selection` of the first dataset to the last. Shape (n, m1, m2, …).

        Raises `NotInFile` where two neighbours aren't joined.
        """
        names = [layout.normalise(name) for name in names]
        references = [self._reference(one, other) for one, other in itertools.pairwise(names)]
        directions = [reference.direction(name) for reference, name in zip(references, names, strict=False)]
        with self._file.lock:
            pairs = [self._shared(reference.pairs, lookup=True) for reference in references]
            regions = [
                self._shared(reference.regions[direction[0]], lookup=True)
                for reference, direction in zip(references, directions, strict=True)
            ]
        if not counts_from_start(selection):
            self._file.dataset(names[0]).length  # noqa: B018 - which rows are meant depends on it
        return dereference_chain(
            selection,
            pairs,
            data=None if indices_only else self._file.dataset(names[-1]),
            regions=regions,
            ref_directions=directions,
            indices_only=indices_only,
        )

    def _object(self, path: str) -> h5py.HLObject:
        found = self._find(layout.normalise(path), attributes=True)
        if found is None:
            raise NotInFile(f"'{path}' isn't in '{self.filepath}'")
        return buffered(found, self._lease)

    # the end

    def all_done(self, stopping: bool = False) -> bool:
        """Whether no rank has more slices, asked by one that hasn't any or is `stopping`.

        Collective: the other ranks ask as well, or get a slice.
        """
        return self._file.ranks is None or self._file.ranks.all_done(stopping)

    def fence(self) -> None:
        """Have what any rank has written be seen by all. Collective."""
        if self._file.ranks is not None:
            self._file.ranks.fence()

    def settle(self) -> None:
        """Write what has been buffered for long, if it is too much; called between slices."""
        self._file.settle()

    @property
    def has_to_settle(self) -> bool:
        """Whether `settle` would write anything."""
        return self._file.has_to_settle

    @property
    def turn(self) -> threading.Condition:
        """For those who wait for their turn; its lock is held by whoever uses the file."""
        return self._file.turn

    @property
    def lock(self) -> threading.RLock:
        """Held by whoever uses the file."""
        return self._file.lock

    @property
    def raw_chunks(self) -> bool:
        """Whether chunks may be read and compressed without HDF5, which pays where several threads are at work."""
        return self._file.raw_chunks

    @raw_chunks.setter
    def raw_chunks(self, wanted: bool) -> None:
        self._file.raw_chunks = wanted

    def observe(self, observer: Observer | None) -> None:
        """Have an observer told of all accesses through the manager and its views."""
        self._file.observer = observer

    def never_there(self) -> list[str]:
        """List what is to be dropped of which the run has seen nothing."""
        with self._file.lock:
            return self._file.never_there()

    def dangling_references(self) -> list[str]:
        """A sentence for each dataset past whose end a reference that was used points."""
        return self._file.dangling()

    def close_file(self) -> None:
        """Write everything and close. The next use opens the file again."""
        self._file.close()

    def finish(self) -> None:
        """Report references that lead nowhere, remove what is to be dropped, close. Collective."""
        for sentence in self.dangling_references() if self.rank == 0 else ():
            _log.warning("%s: %s", self.filepath, sentence)
        self._file.finish()

    def abandon(self) -> None:
        """Close after a failure: what can be saved is, the temporary file is gone."""
        # What made the run fail is on its way already, and mustn't be hidden by another error.
        self._file.abandon()

    def _reference(self, parent: str, child: str) -> Any:
        reference = self._file.reference(layout.normalise(parent), layout.normalise(child))
        if reference is None:
            raise NotInFile(f"there are no references between '{parent}' and '{child}' in '{self.filepath}'")
        return reference

    def _check_writable(self, intent: str) -> None:
        if self.mode == "r":
            raise FileError(f"can't {intent}: '{self.filepath}' is open for reading only")


def _row_shape(name: str, shape: Any) -> tuple[int, ...]:
    try:
        lengths = tuple(operator.index(length) for length in (shape if np.ndim(shape) else (shape,)))
    except TypeError:
        lengths = (-1,)
    if any(length < 0 for length in lengths):
        raise DataMismatch(f"dataset '{name}': the shape of a row is a number or numbers, from 0 on, not {shape!r}")
    return lengths


def _check_growable(dataset: SharedDataset, more: int) -> None:
    stored = dataset.rows.stored
    if more > 0 and stored.elsewhere:
        raise FileError(f"{stored.elsewhere}, where it can't grow; write to a dataset of the run's own")
    if more > 0 and not stored.growable:
        now = dataset.rows.length
        raise DataMismatch(f"dataset '{dataset.name}' has a fixed size of {now} rows and can't grow to {now + more}")
