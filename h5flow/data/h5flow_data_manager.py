"""The data manager: what components use to read and write the file of a run."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import h5py
import numpy as np

from h5flow import mpi
from h5flow.data import layout
from h5flow.data.access.attributes import GroupAttributes
from h5flow.data.access.h5py_objects import BufferedDataset, BufferedFile, buffered
from h5flow.data.access.observed_dataset import ObservedDataset
from h5flow.data.access.writing import append_references, check_growable, checked_row_shape, write_rows
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.collective.one_rank import OneRank
from h5flow.data.file.changes import CreateDataset, CreateReference, SetAttributes
from h5flow.data.file.data_file import DataFile
from h5flow.data.file.lifetime import KeepAlive
from h5flow.data.file.output_file import OutputFile
from h5flow.data.file.ranks import FileRanks
from h5flow.data.references.dereference import dereference_chain
from h5flow.data.references.reference import Reference, checked_pairs
from h5flow.data.resource import Resource
from h5flow.data.rows.selection import counts_from_start, needed_rows, writable_bounds
from h5flow.data.storage.choice import Writers, choose
from h5flow.data.storage.mpio import stand_in_for_mpio
from h5flow.errors import DataMismatch, FileError, NotInFile, RowsOutOfRange, UsageError
from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    import numpy.typing as npt
    from mpi4py.MPI import Intracomm

    from h5flow.data.awaitable import AwaitableDataManager

_log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]
#: Rows of a dataset: a slice, numbers in any order, or a mask.
Rows = slice | Sequence[int] | Sequence[bool] | Array
Spec = TypeVar("Spec", bound=Rows | Sequence[slice])

__getattr__ = on_first_use(
    __name__,
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
    dereference="h5flow.data.references.dereference:dereference",
    print_attr="h5flow.data.lib:print_attr",
    print_data="h5flow.data.lib:print_data",
    print_ref="h5flow.data.lib:print_ref",
    ref_region_dtype="h5flow.data.layout:ref_region_dtype",
)


class H5FlowDataManager:
    """Access by dataset name to one HDF5 file, which is opened on first use.

    `mode` is h5py's; with `'r'`, what would change the file raises `FileError`. What lies at or below a path of
    `drop_list` goes to a temporary file and is gone after `finish()`. `compression` (`'gzip'`, `'lzf'`) is applied to
    all datasets that are made. Calls block; on an event loop use `awaitable`.

    Dataset `name` has its rows at `/name/data` in the file, references are at `/parent/ref/child/ref`; names may hold
    slashes. What is written is visible at once through the manager and all h5py objects that it hands out; it reaches
    the file later, at the latest when the manager is deleted or the interpreter exits. As a context manager it calls
    `finish()`. With an `output`, its working file is written. On several ranks `writers` says who writes, which is
    found out together where it doesn't (see `storage.choice`).

    The class has as many methods as users know it by, and hardly any others.
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
        writers: Writers = Writers(),  # noqa: B008 - it is a tuple
    ) -> None:
        stand_in_for_mpio()
        self.filepath = filepath
        self.mode = mode
        self.drop_list = list(drop_list or [])
        self.compression = compression
        self._mpi = mpi
        self._output = output
        path = filepath if output is None else output.working
        self._comm = writers.comm if writers.comm is not None else self._world()
        begins_as, comm = path if output is None else output.origin(writers.source), self._comm if mode != "r" else None
        self.storage, self.why_storage = choose(writers.storage, comm, compression, begins_as)
        self._file = DataFile(path, mode, tuple(self.drop_list), compression, self._ranks)
        self._keep_alive = KeepAlive(self._file)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(filepath={self.filepath!r}, mode={self.mode!r},"
            f" mpi={self.mpi_flag!r}, drop_list={self.drop_list!r})"
        )

    def __enter__(self) -> H5FlowDataManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def view(self) -> H5FlowDataManager:
        """Return a manager of the same file for one component, so that its calls can be told from those of others."""
        return copy.copy(self)

    @property
    def mpi_flag(self) -> bool:
        """Say whether the manager may use MPI."""
        return mpi.available() if self._mpi is None else self._mpi

    @property
    def comm(self) -> Any:
        """Return the communicator of the ranks that share the file, `None` without MPI."""
        return self._comm if self._comm is not None else self._world(imported=True)

    def _world(self, imported: bool = False) -> Intracomm | None:
        """Return all ranks. MPI is imported only if there are several, or where it is needed."""
        wanted = self.mpi_flag if imported else self._mpi is not False and mpi.launched_ranks() > 1
        return mpi.world() if wanted and mpi.available() else None

    @property
    def rank(self) -> int:
        """Return the number of this rank."""
        return 0 if self._comm is None else self._comm.Get_rank()

    @property
    def size(self) -> int:
        """Return the number of ranks."""
        return 1 if self._comm is None else self._comm.Get_size()

    def _ranks(self, file: DataFile) -> FileRanks:
        """Return the ranks that write the file, of which this is one."""
        if self._comm is None or self.size == 1 or self.mode == "r":
            return OneRank(file, (lambda: None) if self._output is None else self._output.wait)
        # One process has nothing to do with them, and starts more quickly without.
        from h5flow.data.collective.parallel import ParallelRanks
        from h5flow.data.collective.single_writer import SingleWriterRanks

        return (ParallelRanks if self.storage == "parallel" else SingleWriterRanks)(self._comm, file)

    @property
    def data_file(self) -> DataFile:
        """Return the file as the runtime sees to it; components have no business with it."""
        return self._file

    @property
    def fh(self) -> h5py.File:
        """Return the open file, to which all that is buffered is written first.

        In a loop its use can't be followed: slices run one at a time from then on, or `H5FlowError` is raised.
        """
        with self._file.context.lock:
            self._file.context.observer.everything("the file itself (data_manager.fh)")
            self._file.flush()
            return BufferedFile(self._file.files.main.file, self._keep_alive)

    @property
    def awaitable(self) -> AwaitableDataManager:
        """Return an object with the same calls, to be awaited in `async` stages and generators."""
        from h5flow.data.awaitable import AwaitableDataManager

        return AwaitableDataManager(self)

    def start_with_copy_of(self, path: str) -> None:
        """Begin the file as a copy of another one, unless it is the same. Only the first call counts."""
        if self._output is not None:
            self._file.begin(self._output, path)
        else:
            self._file.start_with_copy_of(path)

    @property
    def working_path(self) -> str:
        """Return the path of the file while it is written; an output of a run gets its name when it is complete."""
        return self._file.path

    # what there is

    def exists(self, path: str) -> bool:
        """Say whether there is a group or dataset at a path of the file."""
        return self._find(layout.normalise(path), asked=True) is not None

    def dset_exists(self, dataset_name: str) -> bool:
        """Say whether there is a dataset of this name."""
        path = layout.data_path(layout.normalise(dataset_name))
        return self._asked(path, self._file.catalog.observed(path) is not None)

    def ref_exists(self, parent_dataset_name: str, child_dataset_name: str) -> bool:
        """Say whether there are references between two datasets, whichever side created them."""
        names = layout.normalise(parent_dataset_name), layout.normalise(child_dataset_name)
        found = self._file.catalog.reference(*names)
        return found is not None and self._asked(found.pairs.path, True)

    def _asked(self, path: str, found: bool) -> bool:
        """Note that somebody wants to know whether there is something at a path; returns `found`."""
        with self._file.context.lock:
            if found:
                self._file.context.observer.read(Resource("existence", path), None)
            return found

    def ref_region_exists(self, parent_dataset_name: str, child_dataset_name: str) -> bool:
        """Say whether there is a region table for the rows of the parent in references to the child."""
        return self.ref_exists(parent_dataset_name, child_dataset_name)

    def paths(self) -> list[str]:
        """Return the absolute paths of all datasets, also of those that are going to be dropped."""
        with self._file.context.lock:
            self._file.context.observer.everything("the names of all datasets")
            return self._file.catalog.paths()

    def attr_exists(self, name: str, key: str) -> bool:
        """Say whether the group of a dataset has an attribute."""
        with self._file.context.lock:
            found = self._find(layout.normalise(name), attributes=True)
            return found is not None and key in found.attrs

    def get_attrs(self, name: str) -> h5py.AttributeManager:
        """Return the attributes of a dataset's group, live as h5py's: assigning to them is `set_attrs`, and collective.

        Raises `NotInFile`; assigning raises `FileError` where the file is open for reading only.
        """
        path = layout.normalise(name)
        with self._file.context.lock:
            found = self._find(path, attributes=True)
            if found is None:
                raise NotInFile(f"group '{name}' isn't in '{self.filepath}'")
            return GroupAttributes(found, path, self._check_writable, self._keep_alive)

    def _find(self, path: str, attributes: bool = False, asked: bool = False) -> h5py.HLObject | None:
        """Return what lies at a path, if it is to be seen; with `attributes`, they are going to be read."""
        with self._file.context.lock:
            observer = self._file.context.observer
            found = self._file.files.find(path)
            if attributes:
                observer.read(Resource("attributes", path), None)
            visible = observer.exists("/" + path, found is not None)
            if asked:
                self._asked("/" + path, visible)
            return found if visible else None

    def get_dset(self, dataset_name: str) -> h5py.Dataset:
        """Return the dataset `/name/data`, of shape (N, …), as an h5py object. Raises `NotInFile`."""
        return self._handle(self._dataset(dataset_name))

    def get_ref(self, parent_dataset_name: str, child_dataset_name: str) -> tuple[h5py.Dataset, tuple[int, int]]:
        """Return the references, u4 (L, 2), and the columns of parent and child in them. Raises `NotInFile`."""
        reference = self._reference(parent_dataset_name, child_dataset_name)
        return self._handle(self._observed(reference.pairs)), reference.direction(layout.normalise(parent_dataset_name))

    def get_refs(self, dataset_name: str) -> list[h5py.Dataset]:
        """Return all references that involve a dataset, each u4 of shape (L, 2); none is no error."""
        with self._file.context.lock:
            observer, name = self._file.context.observer, layout.normalise(dataset_name)
            observer.read(Resource("references", name), None)
            found = [reference.pairs for reference in self._file.catalog.references_of(name, everywhere=True)]
            return [self._handle(self._observed(p)) for p in found if observer.exists(p.path, True)]

    def get_ref_region(self, parent_dataset_name: str, child_dataset_name: str) -> h5py.Dataset:
        """Return the table (N,): `start`, `stop` of each parent row's references to the child. Raises `NotInFile`."""
        reference = self._reference(parent_dataset_name, child_dataset_name)
        column, _ = reference.direction(layout.normalise(parent_dataset_name))
        return self._handle(self._observed(reference.regions[column]))

    def _dataset(self, name: str) -> ObservedDataset:
        return self._file.catalog.dataset(layout.normalise(name))

    def _handle(self, dataset: ObservedDataset) -> h5py.Dataset:
        return BufferedDataset(dataset, self._keep_alive)

    def _observed(self, rows: PagedDataset, lookup: bool = False) -> ObservedDataset:
        observed = self._file.catalog.observed(rows.path, lookup)
        assert observed is not None
        return observed

    # creating and deleting

    def create_dset(self, dataset_name: str, dtype: npt.DTypeLike, shape: int | npt.ArrayLike = ()) -> None:
        """Create a dataset without rows, unless it exists; `dtype` and `shape` are those of a row. Collective.

        Raises `DataMismatch` if it exists with another type or shape, and for what HDF5 can't store, as numpy's text.
        """
        self._check_writable(f"create dataset '{dataset_name}'")
        row_shape = checked_row_shape(dataset_name, shape)
        with self._file.context.lock:
            self._file.commit(CreateDataset(layout.normalise(dataset_name), dtype, row_shape))

    def create_ref(self, parent_dataset_name: str, child_dataset_name: str) -> None:
        """Create references between two datasets, unless they exist. Collective.

        Raises `NotInFile` where a dataset is missing, `H5FlowError` (a `RuntimeError`) if the other side created them.
        """
        self._check_writable(f"create references '{parent_dataset_name}' → '{child_dataset_name}'")
        names = layout.normalise(parent_dataset_name), layout.normalise(child_dataset_name)
        with self._file.context.lock:
            self._file.commit(CreateReference(*names))

    def set_attrs(self, name: str | None = None, /, **attrs: Any) -> None:
        """Set attributes of a dataset's group, which is made if needed. Collective.

        The dataset may be given as `name=…`, too; with its name in front, an attribute may be called `name`. Where
        ranks give different values, that of the lowest rank is kept. Raises `DataMismatch` for what can't be stored.
        """
        dataset_name = attrs.pop("name") if name is None else name
        self._check_writable(f"set attributes of '{dataset_name}'")
        path = layout.normalise(dataset_name)
        with self._file.context.lock:
            self._file.commit(SetAttributes(path, attrs))

    def delete(self, name: str) -> None:
        """Remove what is at a path, if anything, with all references that involve it. Collective."""
        self._check_writable(f"delete '{name}'")
        with self._file.context.lock:
            self._file.context.observer.everything(f"'{name}', by deleting it")
            self._file.delete(layout.normalise(name))

    # rows

    @overload
    def reserve_data(self, dataset_name: str, spec: int | np.integer[Any]) -> slice: ...
    @overload
    def reserve_data(self, dataset_name: str, spec: Spec) -> Spec: ...
    def reserve_data(self, dataset_name: str, spec: Any) -> Any:
        """Make room for rows, which hold the dataset's fill value (mostly 0) until they are written. Collective.

        For a number: so many new rows at the end, those of one call in the order of ranks; returns their slice. For a
        slice, slices, or rows by number: at least as many rows as they need on any rank; returns `spec`. What selects
        nothing, such as `slice(30, 20)`, needs none. Raises `NotInFile`; `DataMismatch` for a negative number, a step
        of 0, a mask, a dataset of fixed size; `RowsOutOfRange` for negative row numbers; `FileError` for a linked file.
        """
        self._check_writable(f"reserve rows of dataset '{dataset_name}'")
        dataset = self._dataset(dataset_name)
        if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
            if spec < 0:
                raise DataMismatch(f"dataset '{dataset_name}': can't reserve {spec} rows")
            check_growable(dataset, int(spec))
            start = dataset.append(int(spec))
            return slice(start, start + int(spec))
        with self._file.context.lock:
            # Only rows that are new to the component make it wait for those that append, too.
            if needed_rows(dataset_name, spec, dataset.shape[0])[1] > dataset.shape[0]:
                dataset.before_append()
                start, length = needed_rows(dataset_name, spec, dataset.count_rows())
                check_growable(dataset, length - dataset.rows.length)
                dataset.grow(start, length)
        return spec

    def write_data(self, dataset_name: str, spec: Any, data: Any) -> None:
        """Write the rows `spec`, which exist: a slice, a row number, row numbers in any order, or a mask of all rows.

        `data`, an array, a list or an h5py dataset, is of their shape (n, …), or is broadcast to it as numpy does. The
        last value for a row stays. Records are written by the names of their fields, in any order, tuples by position.
        Fractions are cut off where integers are stored, with a warning once per dataset. Raises `NotInFile`;
        `RowsOutOfRange` for rows past the end; `DataMismatch` for data of another shape or with other fields, and for
        values that the type can't hold; `FileError` for rows in another file. Not collective.
        """
        self._check_writable(f"write to dataset '{dataset_name}'")
        dataset = self._dataset(dataset_name)
        if isinstance(spec, slice) and spec.step in (None, 1):
            start, stop = writable_bounds(spec, dataset.shape[0])
            if spec.stop is None or stop > dataset.shape[0] or spec.stop < 0 or (spec.start or 0) < 0:
                start, stop = writable_bounds(spec, dataset.count_rows())
            indices = None
        else:
            rows = dataset.select(spec)
            start, stop, indices = rows.start, rows.stop, rows.indices
        if indices is None and stop > start and not dataset.has(stop - 1):
            raise RowsOutOfRange(
                f"dataset '{dataset_name}' has {dataset.count_rows()} rows, rows {start}:{stop} are not reserved"
            )
        count = stop - start if indices is None else len(indices)
        write_rows(dataset, self._keep_alive, start, count, indices, data)

    def write_ref(self, parent_dataset_name: str, child_dataset_name: str, refs: Any) -> None:
        """Append references: integers (K, 2), rows of parent and child as named here; K may be 0. Collective.

        They are stored in the order of ranks, and of a rank's pairs, whichever side created the references; pairs with
        a masked number are left out. Raises `NotInFile`, and `InvalidReference` for what isn't pairs of row numbers.
        """
        self._check_writable(f"write references '{parent_dataset_name}' → '{child_dataset_name}'")
        reference = self._reference(parent_dataset_name, child_dataset_name)
        pairs = checked_pairs(refs, parent_dataset_name, child_dataset_name)
        if reference.direction(layout.normalise(parent_dataset_name)) == (1, 0):
            pairs = pairs[:, ::-1]
        with self._file.context.lock:
            reference.pairs.changing()
            if self._file.catalog.lacks_regions(reference):
                self._file.store_regions(reference)
                reference = self._reference(parent_dataset_name, child_dataset_name)
            append_references(self._file.context, reference, pairs)

    # reading

    @overload
    def __getitem__(self, args: str) -> h5py.Group | h5py.Dataset: ...
    @overload
    def __getitem__(self, args: tuple[str]) -> h5py.Dataset: ...
    @overload
    def __getitem__(self, args: tuple[str, int | np.integer[Any] | Rows]) -> Array: ...
    @overload
    def __getitem__(self, args: tuple[str, str, *tuple[Any, ...]]) -> np.ma.MaskedArray[Any, np.dtype[Any]]: ...
    @overload
    def __getitem__(self, args: list[Any]) -> Any: ...
    def __getitem__(self, args: Any) -> Any:
        """Read rows, or rows along references, or return an h5py object.

        - `dm[path]`: the h5py object,
        - `dm[name, sel]`: a new array (n, …); `sel` is a slice, a row number (n is 1), row numbers or a mask,
        - `dm[a, b, …, sel]`: as `walk` from rows `sel` of the first dataset, or without `sel` from all.

        The same in a tuple or list made by code, in which a single name is that of a dataset: `dm[("a",)]`. Raises
        `NotInFile`, `RowsOutOfRange` for row numbers that don't exist, `DataMismatch` for what selects no rows.
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
            return self._dataset(names[0]).selected(selections[0])
        return self.walk(names, selections[0] if selections else slice(None))

    def walk(self, names: list[str], selection: Any, indices_only: bool = False) -> np.ma.MaskedArray[Any, Any]:
        """Follow references from rows `selection` of the first dataset to the last one's rows, or to their numbers.

        Returns a masked array (n, m1, m2, …), as `dereference_chain`. Raises `NotInFile` where two neighbours aren't
        joined, `RowsOutOfRange`, and `DanglingReference` where a row isn't there.
        """
        names = [layout.normalise(name) for name in names]
        references = [self._reference(one, other) for one, other in itertools.pairwise(names)]
        directions = [reference.direction(name) for reference, name in zip(references, names, strict=False)]
        with self._file.context.lock:
            pairs = [self._observed(reference.pairs, lookup=True) for reference in references]
            regions = [
                self._observed(reference.regions[direction[0]], lookup=True)
                for reference, direction in zip(references, directions, strict=True)
            ]
        if not counts_from_start(selection):
            self._file.catalog.dataset(names[0]).count_rows()  # which rows are meant depends on it
        return dereference_chain(
            selection,
            pairs,
            data=None if indices_only else self._file.catalog.dataset(names[-1]),
            regions=regions,
            ref_directions=directions,
            indices_only=indices_only,
        )

    def _object(self, path: str) -> h5py.HLObject:
        found = self._find(layout.normalise(path), attributes=True)
        if found is None:
            raise NotInFile(f"'{path}' isn't in '{self.filepath}'")
        return buffered(found, self._keep_alive)

    # the end

    def all_done(self, stopping: bool = False) -> bool:
        """Say whether no rank has more slices; asked by one that has none, or is `stopping`. Collective."""
        return self._file.ranks.all_done(stopping)

    def dangling_references(self) -> list[str]:
        """List a sentence for each dataset past whose end a reference that was used points."""
        return self._file.catalog.dangling()

    def close_file(self) -> None:
        """Write everything and close; the next use opens the file again. Collective."""
        self._file.close()

    def finish(self) -> None:
        """Report references that lead nowhere, remove what is to be dropped, close. Collective."""
        for sentence in self.dangling_references() if self.rank == 0 else ():
            _log.warning("%s: %s", self.filepath, sentence)
        self._file.finish()

    def _reference(self, parent: str, child: str) -> Reference:
        reference = self._file.catalog.reference(layout.normalise(parent), layout.normalise(child))
        if reference is None:
            raise NotInFile(f"there are no references between '{parent}' and '{child}' in '{self.filepath}'")
        return reference

    def _check_writable(self, intent: str) -> None:
        if self.mode == "r":
            raise FileError(f"can't {intent}: '{self.filepath}' is open for reading only")
