"""The likeness of a file: groups, attributes and datasets as they are, but for the rows.

Where rows were, there is nothing, which reads as the fill value; so a likeness is small, and made quickly.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5o, h5p, h5r, h5s, h5t

from h5flow.data.storage.opening import FORMAT

#: That of a likeness, which takes types of any format, since nobody else reads it.
LIKENESS_FORMAT = (FORMAT[0], "latest")


def copy_structure(source: h5py.File, target: h5py.File) -> None:
    """Make an empty file a likeness of another one."""
    made: dict[int, tuple[h5py.HLObject, h5py.HLObject]] = {}
    _note(made, source["/"], target["/"])
    _copy_members(source, target, made)
    # References among attributes lead to objects, which have to be there first.
    for original, likeness in made.values():
        _copy_attributes(original, likeness)


def _note(made: dict[int, tuple[h5py.HLObject, h5py.HLObject]], source: h5py.HLObject, target: h5py.HLObject) -> None:
    made[h5o.get_info(source.id).addr] = source, target


def _copy_members(source: h5py.Group, target: h5py.Group, made: dict[int, tuple[h5py.HLObject, h5py.HLObject]]) -> None:
    """Groups and datasets below a group, without rows; links, and other names of what is there, are such again."""
    for name in source:
        link = source.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
            target[name] = link
            continue
        found = source[name]
        known = made.get(h5o.get_info(found.id).addr)
        if known is not None:
            target[name] = known[1]
        elif isinstance(found, h5py.Group):
            _note(made, found, target.create_group(name))
            _copy_members(found, target[name], made)
        elif isinstance(found, h5py.Dataset):
            _note(made, found, _copied_dataset(found, target, name))


def _copied_dataset(source: h5py.Dataset, target: h5py.Group, name: str) -> h5py.Dataset:
    creation = source.id.get_create_plist()
    if creation.get_layout() == h5d.CONTIGUOUS:
        creation = h5p.create(h5p.DATASET_CREATE)  # it may lie in a file of its own
    creation.set_alloc_time(h5d.ALLOC_TIME_LATE)
    return h5py.Dataset(h5d.create(target.id, name.encode(), source.id.get_type(), source.id.get_space(), creation))


def _copy_attributes(source: h5py.HLObject, target: h5py.HLObject) -> None:
    for number in range(h5a.get_num_attrs(source.id)):
        attribute = h5a.open(source.id, index=number)
        kind, space = attribute.get_type(), attribute.get_space()
        made = h5a.create(target.id, attribute.name, kind, space)
        if space.get_simple_extent_type() == h5s.NULL:
            continue
        if kind.detect_class(h5t.REFERENCE):
            values = np.empty(attribute.shape, attribute.dtype)
            attribute.read(values)
            made.write(_leading_to(target.file, values, source.file))
        else:
            # As HDF5 has them: what is of variable length are pointers of its own, which no Python object may be.
            values = np.empty(attribute.shape, np.dtype((np.void, kind.get_size())))
            attribute.read(values, kind)
            made.write(values, kind)


def _leading_to(target: h5py.File, value: Any, source: h5py.File) -> Any:
    """A value, its references to objects leading to those of the same names; those to regions lead nowhere."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        result = value.copy()
        for field in value.dtype.names:
            result[field] = _leading_to(target, value[field], source)
        return result
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        result = value.copy()
        for index in np.ndindex(value.shape):
            result[index] = _leading_to(target, value[index], source)
        return result
    if isinstance(value, h5py.RegionReference):
        return h5r.RegionReference()
    if isinstance(value, h5py.Reference):
        try:
            return target[source[value].name].ref
        except (ValueError, KeyError, TypeError):  # it leads nowhere, or to what has no name
            return h5r.Reference()
    return value
