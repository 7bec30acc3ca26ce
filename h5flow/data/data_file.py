"""The output of a run: one HDF5 file, and beside it a temporary one for what is to be dropped.

This is the state that all views of a data manager share: open files, look-ups made, rows not yet written.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import h5py
import numpy as np

from h5flow.data import layout
from h5flow.data.checkpoints import Checkpoints
from h5flow.data.observer import Observer
from h5flow.data.page_cache import PageCache
from h5flow.data.pages import PagedDataset
from h5flow.data.reference_tables import PairTable, RegionTable
from h5flow.data.references import Reference
from h5flow.data.shared import SharedDataset
from h5flow.data.storage import SerialStorage, Storage
from h5flow.data.storage.links import file_of
from h5flow.data.storage.memory import MemoryStorage
from h5flow.data.storage.walk import objects_below
from h5flow.data.stored_references import data_of
from h5flow.data.working_files import TEMPORARY
from h5flow.errors import DataMismatch, H5FlowError, NotInFile, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt
    from mpi4py.MPI import Intracomm

    from h5flow.data.ranks import Ranks

_log = logging.getLogger(__name__)

T = TypeVar("T")


class DataFile:
    """Datasets and references by name, in the output or, where they are to be dropped, in the temporary file."""

    def __init__(
        self,
        path: str,
        mode: str,
        drop: tuple[str, ...],
        compression: str | None,
        comm: Intracomm | None = None,
        parallel: bool = False,
        before_opening: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._before_opening = before_opening
        self.mode = mode
        self.drop = tuple(layout.normalise(name) for name in drop)
        self.compression = compression
        self._copied = False
        self._deleted: set[str] = set()
        # Region tables that have been made here, which ranks make longer together.
        self._own_tables: set[str] = set()
        #: The file that the output began as a copy of.
        self.origin: str | None = None
        #: Held while anything of this object, its datasets' pages included, is looked at or changed.
        self.lock = threading.RLock()
        #: For those who wait for others to let go of something.
        self.turn = threading.Condition(self.lock)
        self._observer: Observer | None = None
        self._main: Storage | None = None
        self._temporary: Storage | None = None
        self._temporary_path: Path | None = None
        #: Region tables that the file doesn't have.
        self._lacking: MemoryStorage | None = None
        self._cache = PageCache(self.turn)
        self._checkpoints = Checkpoints()
        self._raw_chunks = False
        self._paged: dict[str, PagedDataset] = {}
        self._shared: dict[tuple[str, bool], SharedDataset] = {}
        self._references: dict[tuple[str, str], Reference] = {}
        self._absent: set[tuple[str, str]] = set()
        #: See `_creators`; references that are made from now on have region tables.
        self._created: dict[str, set[str]] | None = None
        #: With the other ranks that write the file, if there are any.
        self.ranks: Ranks | None = None
        if comm is not None and comm.Get_size() > 1 and mode != "r":
            self.ranks = _ranks(comm, self, parallel)
            self._cache.others = True

    @property
    def raw_chunks(self) -> bool:
        """Whether chunks may be read and compressed without HDF5, which pays on several threads."""
        return self._raw_chunks

    @raw_chunks.setter
    def raw_chunks(self, wanted: bool) -> None:
        self._raw_chunks = self._cache.raw_chunks = wanted

    @property
    def observer(self) -> Observer | None:
        """Who is to be told of accesses by the component at work; the lock is held."""
        watching = self._observer
        return None if watching is None or watching.leaves_alone else watching

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._observer = observer
        self._shared.clear()

    def same_rows(self, resource: str, other: str) -> None:
        """Tell the observer, also where components need not tell, of what will still hold when they have to."""
        if self._observer is not None:
            self._observer.same_rows(resource, other)

    # opening and closing

    @property
    def main(self) -> Storage:
        """The output, opened on first use."""
        if self._main is None:
            self.open()
        assert self._main is not None
        return self._main

    def open(self, original: str | None = None) -> None:
        """Open the output, on all ranks together; `original` is a file of which it is a copy that nobody changes."""
        if self.ranks is not None:
            self._main = self.ranks.opened(original)
        else:
            self._before_opening()
            self._main = self._opened(self.path, self.mode)
        self._main.origin = self.origin
        if self.mode in ("w", "w-", "x"):
            self.mode = "a"  # opening once more must not lose what has been written

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._main is not None

    def start_with_copy_of(self, path: str) -> None:
        """Replace the file by a copy of another one, unless it is the same; done once."""
        if not self._copied and Path(path).resolve() != Path(self.path).resolve():
            self._close()
            import shutil

            shutil.copyfile(path, self.path)
            self.mode = "a"
        self._copied = True

    def close(self) -> None:
        """Write what is buffered and close. The next use opens again. Collective."""
        if self.ranks is not None:
            self.ranks.close(self._close)
        else:
            self._close()

    def _close(self) -> None:
        for storage in self._written():
            storage.close()

    def _written(self) -> list[Storage]:
        """The files, with all that was buffered; this object lets go of them."""
        storages = list(self._open_storages())
        try:
            if storages:
                self.flush()
            for storage in storages:
                storage.flush()
        except BaseException:
            for storage in storages:
                storage.give_up()
            raise
        finally:
            self._main = self._temporary = self._lacking = None
            for dataset in self._paged.values():
                dataset.die(f"the file '{self.path}' has been closed since this object was made; get it anew")
            self._paged.clear()
            self._references.clear()
            self._absent.clear()
            self._created = None
            self._shared.clear()
            self._cache = PageCache(self.turn)
            self._cache.raw_chunks = self._raw_chunks
            self._cache.others = self.ranks is not None
        return storages

    def finish(self) -> None:
        """Delete what is to be dropped from the output, and close."""
        try:
            if self.ranks is not None:
                self.ranks.close(self._close, self._delete_dropped)
                self.ranks.end()
            else:
                self._delete_dropped()
                self._close()
        finally:
            self.remove_temporary()

    def _delete_dropped(self) -> None:
        if self.drop and self.mode != "r" and (self.is_open or Path(self.path).exists()):
            for name in self.drop:
                if self.main.find(name) is not None:
                    self.delete(name, carried_out=True)

    def never_there(self) -> list[str]:
        """List what is to be dropped of which there has been nothing, neither in the file nor in the temporary one."""
        return [
            name
            for name in dict.fromkeys(self.drop)
            if self.find(name) is None and not any(layout.lies_in(gone, (name,)) for gone in self._deleted)
        ]

    def abandon(self, for_others: bool = False) -> None:
        """Close when nobody is to be told of errors: what can be saved is, the temporary file is gone.

        With other ranks nothing is saved, since that is something that all of them do together. With `for_others`,
        h5py closes the file as soon as nobody has an object of it, such as attributes.
        """
        if self.ranks is not None:
            self.remove_temporary()
        else:
            self.let_go(save=True, close=not for_others)

    def let_go(self, *, save: bool, close: bool = True) -> None:
        """Close the files after a failure; what is buffered is lost, unless it is to be saved and can be."""
        try:
            storages = self._written() if save else list(self._open_storages())
            for storage in storages if close else ():
                storage.close()
        except Exception as error:  # noqa: BLE001 - what made the run fail is on its way, and mustn't be hidden
            _log.error("%s", error)
        finally:
            self.remove_temporary()

    def remove_temporary(self) -> None:
        """Remove the temporary file, which must be closed."""
        if self._temporary_path is not None:
            self._temporary_path.unlink(missing_ok=True)
            self._temporary_path = None

    def flush(self) -> None:
        """Bring the files up to date."""
        with self.lock:
            self._grow_regions()
            for dataset in list(self._paged.values()):
                dataset.flush()

    def _grow_regions(self) -> None:
        """Have region tables that nobody has looked up yet grow with their datasets."""
        for path, dataset in list(self._paged.items()):
            if dataset.grown and path.endswith("/data"):
                self.references_of(dataset.name)
                dataset.grown = False

    def settle(self) -> None:
        """Write the oldest of what is buffered, if it is too much, and make a checkpoint, if one is due."""
        if self._cache.full:
            self._cache.settle()
            if self._has_checkpoints:
                self.main.flush()
        if self._is_checkpoint_due:
            with self._checkpoints.made():
                self._make_checkpoint()

    def _make_checkpoint(self) -> None:
        self._cache.deflate()
        with self.lock:
            self._grow_regions()
            for again in (False, True):
                for dataset in list(self._paged.values()):
                    dataset.flush(last_chunk=False, again=again)
            self.main.flush()

    @property
    def _has_checkpoints(self) -> bool:
        # What ranks have open together they could only bring up to date together.
        return not self._is_open_on_all_ranks

    @property
    def _is_open_on_all_ranks(self) -> bool:
        return self.ranks is not None and self.ranks.all_open

    @property
    def _is_checkpoint_due(self) -> bool:
        return self._checkpoints.due and self._has_checkpoints

    def _opened(self, path: str, mode: str) -> Storage:
        return SerialStorage(path, mode) if self.ranks is None else self.ranks.storage(path, mode)

    def pages(self) -> list[PagedDataset]:
        """All datasets that have been used."""
        return list(self._paged.values())

    def _open_storages(self) -> Iterator[Storage]:
        if self._main is not None:
            yield self._main
        if self._temporary is not None:
            yield self._temporary
        if self._lacking is not None:
            yield self._lacking

    @property
    def has_to_settle(self) -> bool:
        """Whether `settle` would write anything."""
        return self._cache.full or self._is_checkpoint_due

    @property
    def temporary(self) -> Storage:
        """The file for what is to be dropped, made on first use."""
        if self._temporary is None:
            if self._temporary_path is None:
                stamp = time.strftime("%Y%m%d-%H%M%S")
                name = f"{TEMPORARY}{stamp}-{uuid.uuid4().hex}.h5"
                self._temporary_path = Path(self.path).absolute().with_name(name)
            self._temporary = self._opened(str(self._temporary_path), "a")
        return self._temporary

    # look-ups

    def storage_of(self, *names: str) -> Storage:
        """Where the groups `names`, or a reference between them, belong."""
        if self.drop and any(layout.lies_in(name, self.drop) and self.main.find(name) is None for name in names):
            return self.temporary
        return self.main

    def find(self, path: str) -> h5py.HLObject | None:
        """The object at a path in either file."""
        for storage in self._searched():
            found = storage.find(path)
            if found is not None:
                return found
        return None

    def paged(self, path: str) -> PagedDataset | None:
        """The dataset at an absolute path in either file, with its buffer."""
        found = self._paged.get(path)
        if found is not None:
            return found
        for storage in self._searched():
            stored = storage.dataset(path)
            if stored is None:
                continue
            if path.endswith("/ref_region"):
                of, _, other = path[1 : -len("/ref_region")].partition("/ref/")
                self._known_reference(of, other)
            if path not in self._paged:
                name = path[1 : -len("/data")] if path.endswith("/data") else path
                kind = PairTable if layout.is_reference(path) else PagedDataset
                self._paged[path] = kind(name, path, stored, self._cache)
            return self._paged[path]
        return None

    def shared(self, path: str, lookup: bool = False) -> SharedDataset | None:
        """The dataset at an absolute path as components use it; as a `lookup`, see `SharedDataset`."""
        with self.lock:
            observer = self.observer
            found = self._shared.get((path, lookup))
            rows = self.paged(path) if found is None else found.rows
            if observer is not None and not observer.exists(path, rows is not None):
                return None
            if found is None and rows is not None:
                found = self._shared[path, lookup] = SharedDataset(rows, self, lookup)
            return found

    def dataset(self, name: str) -> SharedDataset:
        """The rows of a dataset, as components use them. Raises `NotInFile`."""
        found = self.shared(layout.data_path(name))
        if found is None:
            raise NotInFile(f"dataset '{name}' isn't in '{self.path}'")
        return found

    def reference(self, one: str, other: str) -> Reference | None:
        """The references between two datasets, whichever side created them."""
        with self.lock:
            observer = self.observer
            found = self._known_reference(one, other)
            if observer is not None:
                paths = (
                    [layout.ref_path(one, other), layout.ref_path(other, one)] if found is None else [found.pairs.path]
                )
                if not all(observer.exists(path, found is not None) for path in paths):
                    return None
            return found

    def lookups(self, path: str, column: int, counts: bool) -> tuple[SharedDataset, SharedDataset] | None:
        """The pairs at a path and the region table of one of their columns, where other ranks write to them as well.

        `counts` says that it matters how many rows there are. `None` where the pairs by themselves tell all.
        """
        if self.ranks is None or not layout.is_reference(path):
            return None
        parent, _, child = path[1 : -len("/ref")].partition("/ref/")
        with self.lock:
            reference = self.reference(parent, child)
            if reference is None or reference.pairs.path != path:
                return None
            pairs = self.shared(path, lookup=True)
            regions = self.shared(reference.regions[column].path, lookup=True)
        if pairs is None or regions is None:
            return None
        if counts:
            regions.length  # noqa: B018 - which rows are meant depends on it
        return pairs, regions

    def _known_reference(self, one: str, other: str) -> Reference | None:
        key = (one, other)
        found = self._references.get(key)
        if found is None and key not in self._absent:
            found = self._look_up(one, other) or self._look_up(other, one)
            if found is None:
                self._absent.add(key)
            else:
                self._references[one, other] = self._references[other, one] = found
        return found

    def references_of(self, name: str, everywhere: bool = False) -> list[Reference]:
        """All references that involve a dataset; `everywhere`: also those that it has no region table of."""
        top = f"/{name}/ref"
        others: set[str] = set()
        for storage in self._searched():
            group = storage.find(top)
            if isinstance(group, h5py.Group):
                group.visit(lambda path: _note_reference(path, others))
        if everywhere:
            others |= self._creators().get(name, set())
        found = (self._known_reference(name, other) for other in sorted(others))
        return [reference for reference in found if reference is not None]

    def _creators(self) -> dict[str, set[str]]:
        """The datasets that have created references to each one, as far as it may have no region table for them."""
        if self._created is None:
            self._created = {}
            for storage in self._searched():
                for path, _ in objects_below(storage.file["/"]):
                    if layout.is_reference(f"/{path}"):
                        parent, child = layout.joined(path)
                        self._created.setdefault(child, set()).add(parent)
        return self._created

    def paths(self) -> list[str]:
        """Absolute paths of all datasets, in either file."""
        return [
            f"/{path}"
            for storage in self._searched()
            for path, found in objects_below(storage.file["/"])
            if isinstance(found, h5py.Dataset)
        ]

    def regions_of(self, name: str) -> list[RegionTable]:
        """The region tables that have as many rows as a dataset."""
        tables = (table for reference in self.references_of(name) for table in reference.regions)
        return list({table.path: table for table in tables if table.of.name == name}.values())

    def _searched(self) -> Iterator[Storage]:
        yield self.main
        if self._temporary_path is not None:
            yield self.temporary

    def _look_up(self, parent: str, child: str) -> Reference | None:
        for storage in self._searched():
            pairs = storage.dataset(layout.ref_path(parent, child))
            if pairs is not None and (not pairs.elsewhere or self._joins(pairs.handle, parent, child)):
                return self._reference(storage, parent, child)
        return None

    def _joins(self, pairs: h5py.Dataset, *names: str) -> bool:
        """Whether references of another file are between datasets that are called so here, too."""
        for column, name in enumerate(names):
            there, here = pairs.file.get(data_of(pairs, pairs.name, column)), self.paged(layout.data_path(name))
            if not isinstance(there, h5py.Dataset) or here is None or here.stored.handle != there:
                return False
        return True

    def _reference(self, storage: Storage, parent: str, child: str) -> Reference | None:
        path = layout.ref_path(parent, child)
        pairs = self.paged(path)
        assert pairs is not None
        regions, new = [], False
        for of, other in ((parent, child), (child, parent)):
            region_path = layout.region_path(of, other)
            region = self._paged.get(region_path)
            if region is None:
                rows = self.paged(layout.data_path(of))
                if rows is None:
                    raise NotInFile(f"'{path}' is in '{storage.path}', but '{layout.data_path(of)}' isn't")
                region = self._paged[region_path] = self._region_table(storage, region_path, rows, pairs)
                new = True
            assert isinstance(region, RegionTable)
            regions.append(region)
        reference = Reference(parent, child, pairs, (regions[0], regions[1]))
        if new:
            reference.complete()
        return reference

    def _region_table(self, storage: Storage, path: str, rows: PagedDataset, pairs: PagedDataset) -> RegionTable:
        """A region table of the file, or one in memory where there is none, or none that can be completed."""
        stored = storage.dataset(path)
        stays = self.mode == "r" or self._is_open_on_all_ranks
        is_short = stored is not None and stored.length < rows.stored.length and path not in self._own_tables
        if stored is None or (is_short and (stays or stored.elsewhere)):
            if self._lacking is None:
                self._lacking = MemoryStorage()
            stored = self._lacking.create(path, layout.ref_region_dtype, (), None)
        return RegionTable(path, stored, self._cache, rows, pairs)

    # changes

    def create_dataset(
        self, name: str, dtype: npt.DTypeLike, row_shape: tuple[int, ...], carried_out: bool = False
    ) -> None:
        """Create a dataset without rows, unless it exists. Raises `DataMismatch` if it exists otherwise.

        Here and below, what changes the structure is `carried_out` when all ranks have agreed on it.
        """
        path = layout.data_path(name)
        existing = self.shared(path)
        if existing is not None:
            there = existing.rows.stored.handle
            wanted = np.dtype(dtype)
            if there.shape[1:] != row_shape or not _same_type(there.dtype, wanted):
                raise DataMismatch(
                    f"dataset '{name}' exists with row shape {there.shape[1:]} and type {there.dtype},"
                    f" not {row_shape} and {wanted}"
                )
            return
        try:
            h5py.h5t.py_create(np.dtype(dtype), logical=True)
        except TypeError as error:
            raise DataMismatch(
                f"dataset '{name}': type {np.dtype(dtype)} can't be stored ({error}); for text use bytes ('S8')"
                " or h5py.string_dtype()"
            ) from error
        if self.ranks is not None and not carried_out:
            self.ranks.structure(self.create_dataset, name, dtype, row_shape, True)
            return
        self.creating(path)
        storage = self.storage_of(name)
        self.check_free(storage, path, f"dataset '{name}'")
        stored = storage.create(path, dtype, row_shape, self._compression(storage))
        self._paged[path] = PagedDataset(name, path, stored, self._cache)

    def create_reference(self, parent: str, child: str, carried_out: bool = False) -> None:
        """Create references without entries, unless they exist. Raises if the other side created them."""
        existing = self.reference(parent, child)
        if existing is not None:
            if existing.parent != parent:
                raise H5FlowError(
                    f"references '{parent}' → '{child}' exist the other way round, '{child}' → '{parent}'"
                )
            return
        for name in (parent, child):
            self.dataset(name)
        if self.ranks is not None and not carried_out:
            self.ranks.structure(self.create_reference, parent, child, True)
            return
        self.creating(layout.ref_path(parent, child))
        if self._observer is not None:
            for name in {parent, child}:
                self._observer.update(f"references of {name}", None)
        storage = self.storage_of(parent, child)
        compression = self._compression(storage)
        path = layout.ref_path(parent, child)
        pairs = storage.create(path, layout.ref_dtype, (2,), compression)
        pairs.handle.attrs.update(dset0=layout.data_path(parent), dset1=layout.data_path(child))
        self._create_regions(storage, pairs.handle, parent, child)
        self._absent.clear()
        # From now on the region tables grow with their datasets, whether or not anybody looks at the references.
        self._known_reference(parent, child)

    def _create_regions(self, storage: Storage, pairs: h5py.Dataset, parent: str, child: str) -> None:
        """Create the region tables of references, those that there aren't."""
        sides = [layout.region_path(parent, child), layout.region_path(child, parent)]
        pairs.attrs.update(ref_region0=sides[0], ref_region1=sides[1])
        for path in dict.fromkeys(sides):
            if storage.dataset(path) is None:
                region = storage.create(path, layout.ref_region_dtype, (), self._compression(storage))
                region.handle.attrs["ref"] = layout.ref_path(parent, child)
                self._own_tables.add(path)

    def store_regions(self, parent: str, child: str, carried_out: bool = False) -> None:
        """Have the file hold the region tables of references that came without them. Raises `DataMismatch`."""
        sides = {layout.region_path(parent, child), layout.region_path(child, parent)}
        if self._is_open_on_all_ranks and any(self.find(side) is not None for side in sides):
            raise DataMismatch(
                f"references '{parent}' → '{child}' came without whole region tables, and ranks that write the file"
                " together can't complete them; choose runtime.storage: single-writer"
            )
        if self.ranks is not None and not carried_out:
            self.ranks.structure(self.store_regions, parent, child, True)
            return
        path = layout.ref_path(parent, child)
        for side in sides:
            self.creating(side)
        storage = next(storage for storage in self._searched() if storage.dataset(path) is not None)
        pairs = self.paged(path)
        assert pairs is not None
        self._create_regions(storage, pairs.stored.handle, parent, child)
        for side in sides:
            self.forget(side)

    def is_lacking(self, reference: Reference) -> bool:
        """Whether the file lacks region tables of references."""
        return self._lacking is not None and any(table.path in self._lacking.file for table in reference.regions)

    def check_free(self, storage: Storage, path: str, what: str, as_group: bool = False) -> None:
        """Raise `DataMismatch` where something at or above a path keeps `what` from being made there."""
        parts = path.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            above = "/" + "/".join(parts[:count])
            found = storage.find(above)
            if found is None:
                return
            if not isinstance(found, h5py.Group) or (count == len(parts) and not as_group):
                kind = "group" if isinstance(found, h5py.Group) else "dataset"
                raise DataMismatch(
                    f"{what} can't be made in '{self.path}': '{above}' is a {kind} there; choose another name"
                )

    def creating(self, path: str) -> None:
        """Tell the observer that something is going to be made, with the groups above it."""
        if self._observer is not None:
            parts = path.strip("/").split("/")
            for count in range(1, len(parts) + 1):
                above = "/".join(parts[:count])
                if self.find(above) is None:
                    self._observer.created("/" + above)

    def untraced(self, what: str) -> None:
        """Tell the observer that something is going to be used that can't be followed."""
        with self.lock:
            if self._observer is not None:
                self._observer.everything(what)

    def alike(self, change: Callable[[], T]) -> T:
        """Make a change of the structure, which other ranks make as well; the lock is held."""
        return change() if self.ranks is None else self.ranks.alike(change)

    def set_attributes(self, path: str, attributes: dict[str, Any], carried_out: bool = False) -> None:
        """Set attributes of a group, which is made if needed. Raises `DataMismatch`."""
        if self.ranks is not None and not carried_out:
            self.ranks.structure(self.set_attributes, path, attributes, True)
            return
        if self._observer is not None:
            self._observer.update(f"@{path}", None)
        group = self.find(path)
        if group is None:
            self.creating(path)
            storage = self.storage_of(path)
            self.check_free(storage, path, f"group '{path}' for attributes", as_group=True)
            storage.make_own(path)
            group = storage.file.require_group(path)
        elif not self.is_own(group):
            group = self._own(path)
        for key, value in attributes.items():
            try:
                group.attrs[key] = value
            except (TypeError, ValueError, OSError) as error:
                kind = type(value).__name__
                raise DataMismatch(
                    f"attribute '{key}' of '{path}': a value of type {kind} can't be stored: {error}"
                ) from error

    def delete(self, name: str, carried_out: bool = False) -> None:
        """Remove what lies at a path, if there is anything, and the references that involve any dataset in it."""
        if not name:
            raise UsageError(f"all of '{self.path}' can't be deleted; say which dataset or group")
        found = self.find(name)
        if found is None:
            return
        if self.ranks is not None and not carried_out:
            self.ranks.structure(self.delete, name, True)
            return
        self._deleted.add(name)
        self.flush()
        for dataset in self._datasets_in(name, found):
            for reference in self.references_of(dataset, everywhere=True):
                self._delete_reference(reference)
        self._holding(name).remove(name)
        self.forget("/" + name)

    def forget(self, path: str) -> None:
        """What lay at `path` is gone, or something new lies there."""
        with self.lock:
            for known in [known for known in self._paged if layout.lies_in(known, (path,))]:
                self._paged.pop(known).die(f"'{known}' has been deleted or moved since this object was made")
                if self._lacking is not None and known in self._lacking.file:
                    del self._lacking.file[known]
            self._shared.clear()
            self._references.clear()
            self._absent.clear()
            self._created = None

    def _delete_reference(self, reference: Reference) -> None:
        parent, child = reference.parent, reference.child
        paths = {
            layout.ref_path(parent, child),
            layout.region_path(parent, child),
            layout.region_path(child, parent),
        }
        for storage in self._searched():
            for path in paths:
                if storage.find(path) is not None:
                    storage.remove(path)
                    self._prune(storage, path.rpartition("/")[0], stop=path.partition("/ref/")[0])
        for path in paths:
            self.forget(path)

    def _prune(self, storage: Storage, path: str, stop: str) -> None:
        """Remove empty groups from `path` upwards."""
        while path != stop and not len(storage.file[path]):
            del storage.file[path]
            path = path.rpartition("/")[0]

    def is_own(self, found: h5py.HLObject) -> bool:
        """Whether an object lies in the file, and not in one that a link leads to."""
        return any(not file_of(found.id, storage.file) for storage in self._open_storages())

    def make_own(self, path: str) -> None:
        """Have all groups of a path lie in the file that has them, also where links lead to groups of others."""
        self.storage_of(path).make_own(path)

    def _holding(self, path: str) -> Storage:
        """The file that has something at a path."""
        return next(storage for storage in self._searched() if storage.find(path) is not None)

    def _own(self, path: str) -> h5py.HLObject:
        """What is at a path, which lies in this file from now on, if it is a group. Raises `FileError`."""
        storage = self._holding(path)
        storage.make_own(path)
        return storage.find(path)

    def _datasets_in(self, name: str, found: h5py.HLObject) -> list[str]:
        """Names of the datasets at or below an object."""
        if isinstance(found, h5py.Dataset):
            return [name[:-5]] if name.endswith("/data") else []
        groups = [(name, found), *((f"{name}/{path}", below) for path, below in objects_below(found))]
        # Their rows may be what a link leads to.
        return [
            path
            for path, group in groups
            if isinstance(group, h5py.Group) and "/ref/" not in path and group.id.links.exists(b"data")
        ]

    def _compression(self, storage: Storage) -> str | None:
        return self.compression if storage is self._main else None

    # what is wrong

    def dangling(self) -> list[str]:
        """A sentence for each reference that was used and points past the end of a dataset."""
        sentences = []
        for path, table in self._paged.items():
            if isinstance(table, RegionTable) and table.dangling:
                _, _, other = path[: -len("/ref_region")].partition("/ref/")
                sentences.append(
                    f"dataset '{table.of.name}' has {table.of.length} rows,"
                    f" a reference between it and '{other}' points to row {table.own_length - 1}"
                )
        return sentences


def _note_reference(path: str | bytes, others: set[str]) -> None:
    """Note the other dataset of references, whose path is from the group for references of a dataset on."""
    if isinstance(path, bytes):
        return  # no text, which names are
    other, _, last = path.rpartition("/")
    if last in ("ref", "ref_region"):
        others.add(other)


def _ranks(comm: Intracomm, file: DataFile, parallel: bool) -> Ranks:
    # One process has nothing to do with them, and starts more quickly without.
    from h5flow.data.parallel_ranks import ParallelRanks
    from h5flow.data.ranks import Ranks

    return ParallelRanks(comm, file) if parallel else Ranks(comm, file)


def _same_type(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Whether two types hold the same values; how structured rows are padded doesn't matter."""
    if one == other:
        return True
    if one.subdtype is not None and other.subdtype is not None:
        return one.shape == other.shape and _same_type(one.base, other.base)
    if one.names is None or one.names != other.names:
        return False
    return all(_same_type(one[name], other[name]) for name in one.names)
