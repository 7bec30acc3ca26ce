"""Comparing files, and what stages see of them."""

from __future__ import annotations

import zlib

import h5py
import numpy as np


def content(path):
    """All that a file holds, by path, but for what says when and where it was made."""
    found = {}

    def note_object(name, item):
        if name.partition("/")[0] == "h5flow":
            return
        found[name] = ({key: np.asarray(value).tolist() for key, value in item.attrs.items()},)
        if isinstance(item, h5py.Dataset):
            found[name] += (item.dtype, item.shape, item[()].tobytes())

    with h5py.File(path, "r") as file:
        note_object("/", file)
        file.visititems(note_object)
    return found


def digest(value, start=0):
    """A number that changes with anything that a stage could see of a value."""
    if value is None:
        return zlib.crc32(b"none", start)
    if isinstance(value, dict):
        for key in sorted(value):
            start = digest(value[key], zlib.crc32(key.encode(), start))
        return start
    array = np.ma.getdata(value)
    start = zlib.crc32(repr((array.shape, array.dtype.descr)).encode(), start)
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        start = zlib.crc32(np.ascontiguousarray(mask).tobytes(), start)
        array = np.array(array)
        for name in array.dtype.names or [...]:
            array[name][mask[name]] = 0
    return zlib.crc32(np.ascontiguousarray(array).tobytes(), start)
