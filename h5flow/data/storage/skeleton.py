"""The skeleton of a file: groups, attributes and datasets as they are, but for the rows.

Where rows were, there is nothing, which reads as the fill value; so a skeleton is small, and made quickly. What h5py
can't read of a file stands in its skeleton as a dataset without anything, and only who uses it finds out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5, h5a, h5d, h5g, h5o, h5p, h5s, h5t, h5z

from h5flow.data.storage.object_references import leading_to
from h5flow.data.storage.opening import FORMAT, UNREADABLE

_log = logging.getLogger(__name__)

#: That of a skeleton, which takes types of any format, since nobody else reads it.
LIKENESS_FORMAT = (FORMAT[0], "latest")


def new_skeleton(path: str, source: h5py.File | None, **options: Any) -> h5py.File:
    """Make a new file that is a skeleton of another one, or has nothing in it. Options are those of `h5py.File`."""
    root = None if source is None else source["/"].id.get_create_plist()
    ordered = root is not None and bool(root.get_link_creation_order())
    file = h5py.File(path, "w", libver=LIKENESS_FORMAT, track_order=ordered, **options)
    if source is not None:
        copy_structure(source, file)
    return file


def copy_structure(source: h5py.File, target: h5py.File) -> None:
    """Make an empty file a skeleton of another one."""
    skeleton = _Skeleton(source, target)
    skeleton.add("/", source["/"].id, target["/"].id)
    skeleton.copy_members(source["/"].id, target["/"].id)
    # References among attributes lead to objects, which have to be there first.
    skeleton.copy_attributes()


class _Skeleton:
    """Objects of a file, and what stands for them in its skeleton."""

    def __init__(self, source: h5py.File, target: h5py.File) -> None:
        self._source = source
        self._target = target
        self._made: dict[int, tuple[str, Any, Any]] = {}

    def add(self, path: str, original: Any, skeleton: Any) -> None:
        """Note the skeleton of an object."""
        self._made[h5o.get_info(original).addr] = path, original, skeleton

    def copy_members(self, source: h5g.GroupID, target: h5g.GroupID, above: str = "") -> None:
        """Copy groups, datasets and types below a group; links, and other names of what is there, are such again."""
        for name in _names(source):
            path = f"{above}/{name.decode('utf-8', 'surrogateescape')}"
            try:
                self._copy_member(source, target, name, path)
            except UNREADABLE as error:
                _log.debug("'%s' of '%s' can't be read: %s", path, self._source.filename, error)
                if not target.links.exists(name):
                    h5d.create(target, name, h5t.STD_U8LE, h5s.create(h5s.NULL), lcpl=_naming(h5t.CSET_ASCII))

    def _copy_member(self, source: h5g.GroupID, target: h5g.GroupID, name: bytes, path: str) -> None:
        link = source.links.get_info(name)
        naming = _naming(link.cset)
        if link.type == h5py.h5l.TYPE_SOFT:
            target.links.create_soft(name, source.links.get_val(name), lcpl=naming)
            return
        if link.type == h5py.h5l.TYPE_EXTERNAL:
            file, there = source.links.get_val(name)
            target.links.create_external(name, file, there, lcpl=naming)
            return
        found = h5o.open(source, name)
        known = self._made.get(h5o.get_info(found).addr)
        if known is not None:
            h5o.link(known[2], target, name, lcpl=naming)
        elif isinstance(found, h5g.GroupID):
            made = h5g.create(target, name, lcpl=naming, gcpl=_ordering(found))
            self.add(path, found, made)
            self.copy_members(found, made, path)
        elif isinstance(found, h5d.DatasetID):
            self.add(path, found, _copied_dataset(found, target, name, naming))
        elif isinstance(found, h5t.TypeID):
            kind = found.copy()
            kind.commit(target, name, lcpl=naming)
            self.add(path, found, kind)

    def copy_attributes(self) -> None:
        """Copy the attributes of all objects."""
        for path, original, skeleton in self._made.values():
            order = _attribute_order(original)
            for number in range(h5a.get_num_attrs(original)):
                try:
                    attribute = h5a.open(original, index=number, index_type=order, order=h5.ITER_INC)
                    self._copy_attribute(attribute, skeleton)
                except UNREADABLE as error:
                    _log.debug("attribute %d of '%s' can't be read: %s", number, path, error)

    def _copy_attribute(self, attribute: h5a.AttrID, skeleton: Any) -> None:
        kind, space = attribute.get_type(), attribute.get_space()
        made = h5a.create(skeleton, attribute.name, kind, space)
        if space.get_simple_extent_type() == h5s.NULL:
            return
        if kind.detect_class(h5t.REFERENCE):
            values = np.empty(attribute.shape, attribute.dtype)
            attribute.read(values)
            made.write(leading_to(self._target, values, self._source))
        else:
            # As HDF5 has them: what is of variable length are pointers of its own, which no Python object may be.
            values = np.empty(attribute.shape, np.dtype((np.void, kind.get_size())))
            attribute.read(values, kind)
            made.write(values, kind)


def _names(group: h5g.GroupID) -> list[bytes]:
    """Return the names in a group, in its order."""
    return list(group)


def _naming(charset: int) -> h5p.PropLCID:
    naming = h5p.create(h5p.LINK_CREATE)
    naming.set_char_encoding(charset)
    return naming


def _ordering(group: h5g.GroupID) -> h5p.PropGCID:
    """Return a group's order of links and attributes; HDF5 crashes on groups made with the properties of others."""
    original, ordering = group.get_create_plist(), h5p.create(h5p.GROUP_CREATE)
    ordering.set_link_creation_order(original.get_link_creation_order())
    ordering.set_attr_creation_order(original.get_attr_creation_order())
    return ordering


def _attribute_order(found: Any) -> int:
    """Say by what attributes are listed: as they were made, where the object says so."""
    ordered = not isinstance(found, h5t.TypeID) and found.get_create_plist().get_attr_creation_order()
    order: int = h5.INDEX_CRT_ORDER if ordered else h5.INDEX_NAME
    return order


def _copied_dataset(source: h5d.DatasetID, target: h5g.GroupID, name: bytes, naming: h5p.PropLCID) -> h5d.DatasetID:
    kind, space, creation = source.get_type(), source.get_space(), source.get_create_plist()
    layout = creation.get_layout()
    if layout not in (h5d.COMPACT, h5d.CHUNKED, h5d.CONTIGUOUS) or creation.get_external_count():
        # Its rows lie elsewhere, so it can't grow here.
        creation = _plain(creation, source)
        space = h5s.create_simple(space.get_simple_extent_dims())
    elif layout != h5d.COMPACT:
        creation.set_alloc_time(h5d.ALLOC_TIME_LATE)
    error: Exception | None = None
    for properties in _ever_simpler(creation, source):
        try:
            return h5d.create(target, name, kind, space, properties, lcpl=naming)
        except UNREADABLE as failed:
            error = error or failed
    assert error is not None
    raise error


def _ever_simpler(creation: h5p.PropDCID, source: h5d.DatasetID) -> Iterator[h5p.PropDCID]:
    """Yield how a dataset may be made: as it is, without filters that can't be had here, and with its chunks only."""
    yield creation
    filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
    for code in filters:
        if not (h5z.filter_avail(code) and h5z.get_filter_info(code) & h5z.FILTER_CONFIG_ENCODE_ENABLED):
            creation.remove_filter(code)
    yield creation
    plain = _plain(creation, source)
    if creation.get_layout() == h5d.CHUNKED:
        plain.set_chunk(creation.get_chunk())
    yield plain


def _plain(creation: h5p.PropDCID, source: h5d.DatasetID) -> h5p.PropDCID:
    """Return properties with nothing but the fill value."""
    plain = h5p.create(h5p.DATASET_CREATE)
    if creation.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        try:
            fill = np.zeros((), source.dtype)
            creation.get_fill_value(fill)
            plain.set_fill_value(fill)
        except UNREADABLE as error:
            _log.debug("a fill value can't be read: %s", error)
    return plain
