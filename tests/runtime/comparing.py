"""Comparing files."""

from __future__ import annotations

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
