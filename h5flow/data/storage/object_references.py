"""References of HDF5 to objects and regions, as they can be carried from a file to another one like it.

HDF5 keeps where an object lies in its file; here it is called by its path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5r, h5s


class Lead(NamedTuple):
    """Where a reference leads, and to which part of a dataset; nowhere without a path."""

    path: bytes | None
    region: bytes | None
    is_region: bool


def lead(reference: h5r.Reference, file: h5py.File) -> Lead:
    """Say where a reference of a file leads."""
    is_region = isinstance(reference, h5r.RegionReference)
    try:
        path = h5r.get_name(reference, file.id) if reference else None
        region = h5r.get_region(reference, file.id).encode() if path and is_region else None
    except (ValueError, KeyError, TypeError, RuntimeError, OSError):  # what it led to is gone
        return Lead(None, None, is_region)
    return Lead(path, region, is_region)


def reference(where: Lead, file: h5py.File) -> h5r.Reference:
    """Return the reference of a file that leads somewhere."""
    try:
        if where.path and where.region:
            return h5r.create(file.id, where.path, h5r.DATASET_REGION, h5s.decode(where.region))
        if where.path:
            return h5r.create(file.id, where.path, h5r.OBJECT)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError):  # that isn't there
        pass
    return h5r.RegionReference() if where.is_region else h5r.Reference()


def leading_to(target: h5py.File, values: Any, source: h5py.File) -> Any:
    """Change values so that references lead to what has the same path in another file."""
    return mapped(values, h5r.Reference, lambda found: reference(lead(found, source), target))


def portable(values: Any, source: h5py.File) -> Any:
    """Change values to have leads instead of references."""
    return mapped(values, h5r.Reference, lambda found: lead(found, source))


def unpacked(values: Any, target: h5py.File) -> Any:
    """Change values to have references instead of leads."""
    return mapped(values, Lead, lambda found: reference(found, target))


def mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Change what is of a kind in a value, or in an array of values."""
    if isinstance(value, kind):
        return change(value)
    if not isinstance(value, np.ndarray) or not value.dtype.hasobject:
        return value
    result = value.copy()
    if value.dtype.names:
        for field in value.dtype.names:
            result[field] = mapped(value[field], kind, change)
        return result
    for index in np.ndindex(value.shape):
        result[index] = mapped(value[index], kind, change)
    return result
