"""The likeness of a file: groups, attributes and datasets as they are, but for the rows.

Where rows were, there is nothing, which reads as the fill value; so a likeness is small, and made quickly.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5o, h5p, h5s


def copy_structure(source: h5py.File, target: h5py.File) -> None:
    """Make an empty file a likeness of another one."""
    _copy_attributes(source["/"], target["/"])
    _copy_members(source["/"], target["/"], {_mark(source["/"]): target["/"]})


def _copy_members(source: h5py.Group, target: h5py.Group, made: dict[Any, h5py.HLObject]) -> None:
    """Groups and datasets below a group, without rows; soft and external links are such links again.

    What has several names, perhaps that of a group within itself, is `made` once.
    """
    for name in source:
        link = source.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
            target[name] = link
            continue
        found = source[name]
        mark = _mark(found)
        if mark in made:
            target[name] = made[mark]
        elif isinstance(found, h5py.Group):
            made[mark] = group = target.create_group(name)
            _copy_attributes(found, group)
            _copy_members(found, group, made)
        elif isinstance(found, h5py.Dataset):
            made[mark] = _copy_dataset(found, target, name)


def _mark(found: h5py.HLObject) -> tuple[Any, Any]:
    """What an object is known by, whatever it is called."""
    info = h5o.get_info(found.id)
    return info.fileno, info.addr


def _copy_dataset(source: h5py.Dataset, target: h5py.Group, name: str) -> h5py.Dataset:
    creation = source.id.get_create_plist()
    if creation.get_layout() == h5d.CONTIGUOUS:
        creation = h5p.create(h5p.DATASET_CREATE)  # it may lie in a file of its own
    creation.set_alloc_time(h5d.ALLOC_TIME_LATE)
    made = h5py.Dataset(h5d.create(target.id, name.encode(), source.id.get_type(), source.id.get_space(), creation))
    _copy_attributes(source, made)
    return made


def _copy_attributes(source: h5py.HLObject, target: h5py.HLObject) -> None:
    for number in range(h5a.get_num_attrs(source.id)):
        attribute = h5a.open(source.id, index=number)
        kind, space = attribute.get_type(), attribute.get_space()
        made = h5a.create(target.id, attribute.name, kind, space)
        if space.get_simple_extent_type() == h5s.NULL:
            continue
        values = np.empty(attribute.shape, attribute.dtype)
        attribute.read(values, kind)
        made.write(values, kind)
