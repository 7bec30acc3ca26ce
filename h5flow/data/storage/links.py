"""Links to other files: what they lead to is read and never changed, and what is added to it lies in the file itself.

Where a link leads to a group of another file and something is to be added to that, the link is replaced by a group
that has links to all that the other one has. So both are found by the same names as before.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5l, h5o, h5p, h5s, h5t

from h5flow.data.storage.opening import UNREADABLE
from h5flow.errors import FileError

_log = logging.getLogger(__name__)


@functools.cache
def reading() -> h5p.PropLAID:
    """Say how links are followed: what they lead to is opened for reading, even if the file itself is for writing."""
    properties = h5p.create(h5p.LINK_ACCESS)
    properties.set_elink_acc_flags(h5f.ACC_RDONLY)
    return properties


def opened(file: h5py.File, path: str) -> Any:
    """Open the object of HDF5 at a path. Raises what h5py raises, `KeyError` where there is none."""
    return h5o.open(file.id, path.encode("utf-8", "surrogateescape") or b"/", reading())


def file_of(found: Any, file: h5py.File) -> str:
    """Return the name of the other file that an object lies in, empty for one that lies in the file itself."""
    if h5o.get_info(found).fileno == h5o.get_info(file.id).fileno:
        return ""
    return str(h5py.File(h5py.h5i.get_file_id(found)).filename)


def leads_out(file: h5py.File, path: str) -> bool:
    """Say whether a path goes through a link to another file, whether or not that is there."""
    above = ""
    for part in path.strip("/").split("/"):
        above = f"{above}/{part}"
        try:
            link = file.id.links.get_info(above.encode("utf-8", "surrogateescape"))
        except UNREADABLE:
            return False
        if link.type == h5l.TYPE_EXTERNAL:
            return True
        if link.type == h5l.TYPE_SOFT:
            target = file.id.links.get_val(above.encode("utf-8", "surrogateescape")).decode()
            above = target if target.startswith("/") else f"{above.rpartition('/')[0]}/{target}"
            if above.strip("/") and leads_out(file, above):
                return True
    return False


def made_of(found: h5d.DatasetID) -> list[str]:
    """Return the names of the other files that the rows of a dataset are in, as it names them."""
    creation = found.get_create_plist()
    if creation.get_layout() == h5d.VIRTUAL:
        names = {creation.get_virtual_filename(number) for number in range(creation.get_virtual_count())}
        return sorted(names - {"."})
    raw = (creation.get_external(number)[0] for number in range(creation.get_external_count()))
    return sorted({os.fsdecode(name) for name in raw})


def tell_missing(files: list[str], path: str, file: str) -> None:
    """Warn of files that aren't there, in place of which HDF5 gives the fill value."""
    folder = Path(file).parent
    for name in files:
        # With % in it, it stands for many.
        if "%" not in name and not (folder / name).exists() and not Path(name).exists():
            _log.warning(
                "rows of '%s' of file '%s' are in file '%s', which isn't there: they read as the fill value",
                path,
                file,
                name,
            )


def make_own(file: h5py.File, path: str) -> None:
    """Make all groups of a path lie in the file. Raises `FileError` where a dataset of another file is in the way."""
    parts = path.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        above = "/" + "/".join(parts[:count])
        if not above.strip("/"):
            continue
        try:
            found = opened(file, above)
        except KeyError:
            return
        other = file_of(found, file)
        if not other:
            continue
        link = file.id.links.get_info(above.encode())
        if link.type == h5l.TYPE_SOFT:
            target = file.id.links.get_val(above.encode()).decode()
            above = target if target.startswith("/") else f"{above.rpartition('/')[0]}/{target}"
            make_own(file, above)
            continue
        if not isinstance(found, h5g.GroupID):
            raise FileError(f"{lies_elsewhere(above, file.filename, other)}, where it is only read")
        _replace(file, above, found)


def lies_elsewhere(path: str, file: str, other: str) -> str:
    """Return the sentence that says where an object lies."""
    return f"'{path}' of file '{file}' is a link to file '{other}'"


def _replace(file: h5py.File, path: str, found: h5g.GroupID) -> None:
    """Replace a link to a group of another file by a group with links to its members."""
    name, place = file.id.links.get_val(path.encode())
    file.id.unlink(path.encode())
    made = h5g.create(file.id, path.encode())
    for member in list(found):
        made.links.create_external(member, name, place.rstrip(b"/") + b"/" + member)
    for number in range(h5a.get_num_attrs(found)):
        try:
            _copy_attribute(h5a.open(found, index=number), made)
        except UNREADABLE as error:
            _log.debug("attribute %d of '%s' can't be copied: %s", number, path, error)


def _copy_attribute(attribute: h5a.AttrID, target: h5g.GroupID) -> None:
    """Copy an attribute to another file, where references would lead to something else."""
    kind, space = attribute.get_type(), attribute.get_space()
    if kind.detect_class(h5t.REFERENCE):
        raise TypeError("a reference leads to what is in its own file")
    made = h5a.create(target, attribute.name, kind, space)
    if space.get_simple_extent_type() != h5s.NULL:
        values = np.empty(attribute.shape, np.dtype((np.void, kind.get_size())))
        attribute.read(values, kind)
        made.write(values, kind)
