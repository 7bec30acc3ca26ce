"""Going through all that is in a file, also one of which not everything can be read."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
from h5py import h5d, h5g, h5l, h5o

from h5flow.data.storage.opening import UNREADABLE


def objects_below(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield path and object of all groups and datasets below a group, each once; what can't be read is left out."""
    yield from _below(group.id, "", {h5o.get_info(group.id).addr})


def _below(group: h5g.GroupID, above: str, seen: set[int]) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    try:
        names = list(group)
    except UNREADABLE:
        return
    for name in names:
        try:
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                continue
            found = h5o.open(group, name)
            place = h5o.get_info(found).addr
        except UNREADABLE:
            continue
        if place in seen:
            continue
        seen.add(place)
        path = f"{above}{name.decode('utf-8', 'surrogateescape')}"
        if isinstance(found, h5d.DatasetID):
            yield path, h5py.Dataset(found)
        elif isinstance(found, h5g.GroupID):
            yield path, h5py.Group(found)
            yield from _below(found, f"{path}/", seen)
