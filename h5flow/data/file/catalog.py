"""Datasets and references by name, looked up once in the files of a run."""

from __future__ import annotations

import h5py

from h5flow.data import layout
from h5flow.data.access.file_context import FileContext
from h5flow.data.access.observed_dataset import ObservedDataset
from h5flow.data.buffer.page_cache import PageCache
from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.file.open_files import OpenFiles
from h5flow.data.references.reference import Reference
from h5flow.data.references.stored import data_of
from h5flow.data.references.tables import PairTable, RegionTable
from h5flow.data.storage import Storage, StoredDataset
from h5flow.data.storage.walk import objects_below
from h5flow.errors import NotInFile


class Catalog:
    """The datasets of some files with their pages, as components use them, and the references that join them.

    With `alone` nobody else has the files open, so that what they lack can be added to them. The lock of the context
    is held where nothing else is said. Datasets and references are in one class, long as it is: to find a region table
    is to find its references, and the other way round.
    """

    def __init__(self, files: OpenFiles, context: FileContext, cache: PageCache, *, alone: bool) -> None:
        self.files = files
        self._context = context
        self._cache = cache
        self._alone = alone
        self._paged: dict[str, PagedDataset] = {}
        self._observed: dict[tuple[str, bool], ObservedDataset] = {}
        self._references: dict[tuple[str, str], Reference] = {}
        self._absent: set[tuple[str, str]] = set()
        # See `_creators`; references that are made from now on have region tables.
        self._created: dict[str, set[str]] | None = None
        # Region tables that have been made here, which ranks make longer together.
        self._own_tables: set[str] = set()

    # datasets

    def pages(self) -> list[PagedDataset]:
        """Return all datasets that have been used."""
        return list(self._paged.values())

    def paged(self, path: str) -> PagedDataset | None:
        """Return the dataset at an absolute path in either file, with its pages."""
        found = self._paged.get(path)
        if found is not None:
            return found
        for storage in self.files.searched():
            stored = storage.dataset(path)
            if stored is None:
                continue
            if layout.is_region_table(path):
                self.known_reference(*layout.joined(path))
            return self._paged.get(path) or self.add(path, stored)
        return None

    def add(self, path: str, stored: StoredDataset) -> PagedDataset:
        """Take in a dataset."""
        kind = PairTable if layout.is_reference(path) else PagedDataset
        added = self._paged[path] = kind(layout.name_of(path), path, stored, self._cache)
        return added

    def observed(self, path: str, lookup: bool = False) -> ObservedDataset | None:
        """Return the dataset at an absolute path as components use it, maybe as a `lookup` of these. Takes the lock."""
        with self._context.lock:
            found = self._observed.get((path, lookup))
            rows = self.paged(path) if found is None else found.rows
            if not self._context.observer.exists(path, rows is not None):
                return None
            if found is None and rows is not None:
                found = self._observed[path, lookup] = ObservedDataset(rows, self._context, lookup)
            return found

    def dataset(self, name: str) -> ObservedDataset:
        """Return the rows of a dataset, as components use them. Takes the lock. Raises `NotInFile`."""
        found = self.observed(layout.data_path(name))
        if found is None:
            raise NotInFile(f"dataset '{name}' isn't in '{self.files.path}'")
        return found

    def observe_anew(self) -> None:
        """Note that somebody else watches the datasets from now on."""
        self._observed.clear()

    def paths(self) -> list[str]:
        """Return the absolute paths of all datasets, in either file."""
        return [
            f"/{path}"
            for storage in self.files.searched()
            for path, found in objects_below(storage.file["/"])
            if isinstance(found, h5py.Dataset)
        ]

    def names_below(self, name: str, found: h5py.HLObject) -> list[str]:
        """Return the names of the datasets at or below an object."""
        if isinstance(found, h5py.Dataset):
            return [layout.name_of(name)] if layout.is_rows(name) else []
        groups = [(name, found), *((f"{name}/{path}", below) for path, below in objects_below(found))]
        # Their rows may be what a link leads to.
        return [
            path
            for path, group in groups
            if isinstance(group, h5py.Group) and "/ref/" not in path and group.id.links.exists(b"data")
        ]

    # references

    def reference(self, one: str, other: str) -> Reference | None:
        """Return the references between two datasets, whichever side created them. Takes the lock."""
        with self._context.lock:
            observer = self._context.observer
            found = self.known_reference(one, other)
            paths = [layout.ref_path(one, other), layout.ref_path(other, one)] if found is None else [found.pairs.path]
            if not all(observer.exists(path, found is not None) for path in paths):
                return None
            return found

    def known_reference(self, one: str, other: str) -> Reference | None:
        """Return the references between two datasets, whether or not they are to be seen."""
        key = (one, other)
        found = self._references.get(key)
        if found is None and key not in self._absent:
            found = self._look_up(one, other) or self._look_up(other, one)
            if found is None:
                self._absent.add(key)
            else:
                self._references[one, other] = self._references[other, one] = found
        return found

    def lookups(self, path: str, column: int, counts: bool) -> tuple[ObservedDataset, ObservedDataset] | None:
        """Return the pairs at a path and the region table of one of their columns, where other ranks write to both.

        `counts` says that it matters how many rows there are. `None` where the pairs by themselves tell all.
        """
        if not self._context.ranks.several or not layout.is_reference(path):
            return None
        with self._context.lock:
            reference = self.reference(*layout.joined(path))
            if reference is None or reference.pairs.path != path:
                return None
            pairs = self.observed(path, lookup=True)
            regions = self.observed(reference.regions[column].path, lookup=True)
        if pairs is None or regions is None:
            return None
        if counts:
            regions.count_rows()  # which rows are meant depends on it
        return pairs, regions

    def references_of(self, name: str, everywhere: bool = False) -> list[Reference]:
        """Return all references that involve a dataset; `everywhere`: also those that it has no region table of."""
        top = f"/{name}/ref"
        others: set[str] = set()
        for storage in self.files.searched():
            group = storage.find(top)
            if isinstance(group, h5py.Group):
                group.visit(lambda path: _note_reference(path, others))
        if everywhere:
            others |= self._creators().get(name, set())
        found = (self.known_reference(name, other) for other in sorted(others))
        return [reference for reference in found if reference is not None]

    def regions_of(self, name: str) -> list[RegionTable]:
        """Return the region tables that have as many rows as a dataset."""
        tables = (table for reference in self.references_of(name) for table in reference.regions)
        return list({table.path: table for table in tables if table.of.name == name}.values())

    def lacks_regions(self, reference: Reference) -> bool:
        """Say whether the file lacks region tables of references."""
        return any(self.files.is_lacking(table.path) for table in reference.regions)

    def made_regions(self, path: str) -> None:
        """Note that a region table has been made for all rows that there are and will be."""
        self._own_tables.add(path)

    def dangling(self) -> list[str]:
        """List a sentence for each reference that was used and points past the end of a dataset."""
        return [
            f"dataset '{table.of.name}' has {table.of.length} rows, a reference between it and"
            f" '{layout.joined(path)[1]}' points to row {table.own_length - 1}"
            for path, table in self._paged.items()
            if isinstance(table, RegionTable) and table.dangling
        ]

    def _creators(self) -> dict[str, set[str]]:
        """Return, by dataset, those that created references to it, as far as it may have no region table for them."""
        if self._created is None:
            self._created = {}
            for storage in self.files.searched():
                for path, _ in objects_below(storage.file["/"]):
                    if layout.is_reference(f"/{path}"):
                        parent, child = layout.joined(path)
                        self._created.setdefault(child, set()).add(parent)
        return self._created

    def _look_up(self, parent: str, child: str) -> Reference | None:
        for storage in self.files.searched():
            pairs = storage.dataset(layout.ref_path(parent, child))
            if pairs is not None and (not pairs.elsewhere or self._joins(pairs.handle, parent, child)):
                return self._reference(storage, parent, child)
        return None

    def _joins(self, pairs: h5py.Dataset, *names: str) -> bool:
        """Say whether references of another file are between datasets that are called so here, too."""
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
        """Return a region table of the file, or one in memory where there is none, or none that can be completed."""
        stored = storage.dataset(path)
        stays = self.files.mode == "r" or not self._alone
        is_short = stored is not None and stored.length < rows.stored.length and path not in self._own_tables
        if stored is None or (is_short and (stays or stored.elsewhere)):
            stored = self.files.lacking.create(path, layout.ref_region_dtype, (), None)
        return RegionTable(path, stored, self._cache, rows, pairs)

    # bringing the files up to date

    def flush(self) -> None:
        """Write all that is in memory; the pages stay readable."""
        self._grow_regions()
        for dataset in self.pages():
            dataset.flush()

    def flush_whole_chunks(self) -> None:
        """Write what is in memory, but for last chunks that would be compressed and written once more."""
        self._grow_regions()
        for again in (False, True):
            for dataset in self.pages():
                dataset.flush(last_chunk=False, again=again)

    def _grow_regions(self) -> None:
        """Let region tables that nobody has looked up yet grow with their datasets."""
        for path, dataset in list(self._paged.items()):
            if layout.is_rows(path) and dataset.has_grown():
                self.references_of(dataset.name)

    # letting go

    def forget(self, path: str) -> None:
        """Note that what lay at `path` is gone, or something new lies there. Takes the lock."""
        with self._context.lock:
            for known in [known for known in self._paged if layout.lies_in(known, (path,))]:
                self._paged.pop(known).die(f"'{known}' has been deleted or moved since this object was made")
                self.files.no_longer_lacking(known)
            self._forget_lookups()

    def forget_all(self) -> None:
        """Note that the files are closed."""
        for dataset in self.pages():
            dataset.die(f"the file '{self.files.path}' has been closed since this object was made; get it anew")
        self._paged.clear()
        self._forget_lookups()

    def look_again(self) -> None:
        """Note that there are references which haven't been found before."""
        self._absent.clear()

    def _forget_lookups(self) -> None:
        self._observed.clear()
        self._references.clear()
        self._absent.clear()
        self._created = None


def _note_reference(path: str | bytes, others: set[str]) -> None:
    """Note the other dataset of references, whose path is from the group for references of a dataset on."""
    if isinstance(path, bytes):
        return  # no text, which names are
    other, _, last = path.rpartition("/")
    if last in ("ref", "ref_region"):
        others.add(other)
