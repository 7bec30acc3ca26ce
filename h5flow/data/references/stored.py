"""References as they lie in a file, whoever has written them: files of older versions don't name their datasets."""

from __future__ import annotations

import os

import h5py

from h5flow.data import layout


def is_reference(found: h5py.Dataset, path: str) -> bool:
    """Say whether a dataset holds references."""
    return layout.is_reference(path) and found.ndim == 2 and found.shape[1] == 2 and found.dtype.kind in "iu"


def is_region_table(found: h5py.Dataset, path: str) -> bool:
    """Say whether a dataset says for each row where its references are."""
    return layout.is_region_table(path) and found.ndim == 1 and found.dtype.names == layout.ref_region_dtype.names


def data_of(pairs: h5py.Dataset, path: str, column: int) -> str:
    """Return the path of the dataset that a column is of: that in the attributes, else by where references lie.

    Empty where neither says so.
    """
    named = _attribute(pairs, f"dset{column}")
    if named or not layout.is_reference(path):
        return named
    return layout.data_path(layout.joined(path)[column])


def datasets_of(pairs: h5py.Dataset, path: str) -> tuple[str, str]:
    """Return the names of the datasets that references join."""
    one, other = (data_of(pairs, path, column).strip("/").removesuffix("/data") for column in (0, 1))
    return one, other


def regions_of(pairs: h5py.Dataset, path: str) -> tuple[str, str]:
    """Return the paths of the region tables for the rows of either column."""
    parent, child = layout.joined(path)
    return (
        _attribute(pairs, "ref_region0") or layout.region_path(parent, child),
        _attribute(pairs, "ref_region1") or layout.region_path(child, parent),
    )


def _attribute(found: h5py.Dataset, key: str) -> str:
    value = found.attrs.get(key)
    return os.fsdecode(value) if isinstance(value, str | bytes) else ""
