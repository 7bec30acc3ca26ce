"""Changes of a file's structure, as values: what they touch, and how they are carried out.

All ranks agree on a change before any carries it out, and each does so by itself. A change is compared and sent, so
it holds nothing of the file that it changes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import h5py
import msgspec
import numpy as np

from h5flow.data import layout
from h5flow.data.file.catalog import Catalog
from h5flow.data.references.reference import Reference
from h5flow.data.resource import Resource
from h5flow.data.storage import Storage
from h5flow.errors import DataMismatch, H5FlowError


class Change(msgspec.Struct, frozen=True):
    """A change of the structure of the files that a catalog is of."""

    #: What it is called in messages.
    CALL: ClassVar[str]

    def is_made(self, catalog: Catalog) -> bool:
        """Say whether the files are as they shall be. Raises what speaks against the change."""
        return False

    def creates(self, catalog: Catalog) -> tuple[str, ...]:
        """Return the paths of what there isn't, and will be."""
        return ()

    def updates(self) -> tuple[Resource, ...]:
        """Return the resources that there are, and will be otherwise."""
        return ()

    def carry_out(self, catalog: Catalog) -> None:
        """Change the files. Raises `DataMismatch`."""
        raise NotImplementedError


class CreateDataset(Change, frozen=True):
    """Creates a dataset without rows, unless there is one of this kind."""

    CALL: ClassVar[str] = "create_dataset"

    name: str
    dtype: Any
    row_shape: tuple[int, ...]

    def is_made(self, catalog: Catalog) -> bool:
        """Say whether there is such a dataset. Raises `DataMismatch` if there is another one, or can't be one."""
        existing, wanted = catalog.observed(layout.data_path(self.name)), np.dtype(self.dtype)
        if existing is not None:
            there = existing.rows.stored.handle
            if there.shape[1:] != self.row_shape or not _same_type(there.dtype, wanted):
                raise DataMismatch(
                    f"dataset '{self.name}' exists with row shape {there.shape[1:]} and type {there.dtype},"
                    f" not {self.row_shape} and {wanted}"
                )
            return True
        try:
            h5py.h5t.py_create(wanted, logical=True)
        except TypeError as error:
            raise DataMismatch(
                f"dataset '{self.name}': type {wanted} can't be stored ({error}); for text use bytes ('S8')"
                " or h5py.string_dtype()"
            ) from error
        return False

    def creates(self, catalog: Catalog) -> tuple[str, ...]:
        """Return the paths of the dataset, and of groups above it."""
        return catalog.files.missing_above(layout.data_path(self.name))

    def carry_out(self, catalog: Catalog) -> None:
        """Create the dataset. Raises `DataMismatch` where something else is in its place."""
        files, path = catalog.files, layout.data_path(self.name)
        storage = files.storage_of(self.name)
        files.check_free(storage, path, f"dataset '{self.name}'")
        catalog.add(path, storage.create(path, self.dtype, self.row_shape, files.compression_of(storage)))


class CreateReference(Change, frozen=True):
    """Creates references without entries between two datasets, unless there are any."""

    CALL: ClassVar[str] = "create_reference"

    parent: str
    child: str

    def is_made(self, catalog: Catalog) -> bool:
        """Say whether there are references. Raises `NotInFile`, and `H5FlowError` if the other side created them."""
        existing = catalog.reference(self.parent, self.child)
        if existing is not None:
            if existing.parent != self.parent:
                raise H5FlowError(
                    f"references '{self.parent}' → '{self.child}' exist the other way round,"
                    f" '{self.child}' → '{self.parent}'"
                )
            return True
        for name in (self.parent, self.child):
            catalog.dataset(name)
        return False

    def creates(self, catalog: Catalog) -> tuple[str, ...]:
        """Return the paths of the references, and of groups above them."""
        return catalog.files.missing_above(layout.ref_path(self.parent, self.child))

    def updates(self) -> tuple[Resource, ...]:
        """Return which references the datasets have."""
        return tuple(Resource("references", name) for name in dict.fromkeys((self.parent, self.child)))

    def carry_out(self, catalog: Catalog) -> None:
        """Create the references, and region tables for both sides."""
        files = catalog.files
        storage = files.storage_of(self.parent, self.child)
        path = layout.ref_path(self.parent, self.child)
        pairs = storage.create(path, layout.ref_dtype, (2,), files.compression_of(storage))
        sides = {"dset0": layout.data_path(self.parent), "dset1": layout.data_path(self.child)}
        pairs.handle.attrs.update(sides)
        _create_regions(catalog, storage, pairs.handle, self.parent, self.child)
        catalog.look_again()
        # From now on the region tables grow with their datasets, whether or not anybody looks at the references.
        catalog.known_reference(self.parent, self.child)


class StoreRegions(Change, frozen=True):
    """Stores the region tables of references that came without them."""

    CALL: ClassVar[str] = "store_regions"

    parent: str
    child: str

    def creates(self, catalog: Catalog) -> tuple[str, ...]:
        """Return the paths of the region tables that there aren't."""
        paths = (path for side in self._sides for path in catalog.files.missing_above(side))
        return tuple(dict.fromkeys(paths))

    def carry_out(self, catalog: Catalog) -> None:
        """Create the tables."""
        path = layout.ref_path(self.parent, self.child)
        storage = next(storage for storage in catalog.files.searched() if storage.dataset(path) is not None)
        pairs = catalog.paged(path)
        assert pairs is not None
        _create_regions(catalog, storage, pairs.stored.handle, self.parent, self.child)
        for side in self._sides:
            catalog.forget(side)

    @property
    def _sides(self) -> list[str]:
        return _sides(self.parent, self.child)


class SetAttributes(Change, frozen=True):
    """Sets attributes of a group, which is made if needed."""

    CALL: ClassVar[str] = "set_attributes"

    path: str
    attributes: dict[str, Any]

    def creates(self, catalog: Catalog) -> tuple[str, ...]:
        """Return the paths of the group, and of groups above it."""
        return catalog.files.missing_above(self.path)

    def updates(self) -> tuple[Resource, ...]:
        """Return the attributes of the group."""
        return (Resource("attributes", self.path),)

    def carry_out(self, catalog: Catalog) -> None:
        """Set the attributes. Raises `DataMismatch` for values that can't be stored."""
        files = catalog.files
        group = files.find(self.path)
        if group is None:
            storage = files.storage_of(self.path)
            files.check_free(storage, self.path, f"group '{self.path}' for attributes", as_group=True)
            storage.make_own(self.path)
            group = storage.file.require_group(self.path)
        elif not files.is_own(group):
            storage = files.holding(self.path)
            storage.make_own(self.path)
            group = storage.find(self.path)
            assert group is not None
        for key, value in self.attributes.items():
            try:
                group.attrs[key] = value
            except (TypeError, ValueError, OSError) as error:
                kind = type(value).__name__
                raise DataMismatch(
                    f"attribute '{key}' of '{self.path}': a value of type {kind} can't be stored: {error}"
                ) from error


class Delete(Change, frozen=True):
    """Removes what lies at a path, and the references that involve any dataset in it."""

    CALL: ClassVar[str] = "delete"

    name: str

    def is_made(self, catalog: Catalog) -> bool:
        """Say whether there is nothing."""
        return catalog.files.find(self.name) is None

    def carry_out(self, catalog: Catalog) -> None:
        """Remove it."""
        catalog.files.deleting(self.name)
        catalog.flush()
        found = catalog.files.find(self.name)
        assert found is not None
        for dataset in catalog.names_below(self.name, found):
            for reference in catalog.references_of(dataset, everywhere=True):
                _delete_reference(catalog, reference)
        catalog.files.holding(self.name).remove(self.name)
        catalog.forget("/" + self.name)


def _sides(parent: str, child: str) -> list[str]:
    """Return the paths of the region tables of references, one where they are within a dataset."""
    return list(dict.fromkeys([layout.region_path(parent, child), layout.region_path(child, parent)]))


def _create_regions(catalog: Catalog, storage: Storage, pairs: h5py.Dataset, parent: str, child: str) -> None:
    """Create the region tables of references, those that there aren't."""
    pairs.attrs.update(ref_region0=layout.region_path(parent, child), ref_region1=layout.region_path(child, parent))
    for path in _sides(parent, child):
        if storage.dataset(path) is None:
            compression = catalog.files.compression_of(storage)
            region = storage.create(path, layout.ref_region_dtype, (), compression)
            region.handle.attrs["ref"] = layout.ref_path(parent, child)
            catalog.made_regions(path)


def _delete_reference(catalog: Catalog, reference: Reference) -> None:
    parent, child = reference.parent, reference.child
    paths = [layout.ref_path(parent, child), *_sides(parent, child)]
    for storage in catalog.files.searched():
        for path in paths:
            if storage.find(path) is not None:
                storage.remove(path)
                _prune(storage, path.rpartition("/")[0], stop=path.partition("/ref/")[0])
    for path in paths:
        catalog.forget(path)


def _prune(storage: Storage, path: str, stop: str) -> None:
    """Remove empty groups from `path` upwards."""
    while path != stop and not len(storage.file[path]):
        del storage.file[path]
        path = path.rpartition("/")[0]


def _same_type(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Say whether two types hold the same values; how structured rows are padded doesn't matter."""
    if one == other:
        return True
    if one.subdtype is not None and other.subdtype is not None:
        return one.shape == other.shape and _same_type(one.base, other.base)
    if one.names is None or one.names != other.names:
        return False
    return all(_same_type(one[name], other[name]) for name in one.names)
