"""Dereferencing, and looking at what is in a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import h5py

from h5flow.data.layout import ref_region_dtype
from h5flow.data.references.dereference import dereference, dereference_chain
from h5flow.data.references.stored import datasets_of, is_reference
from h5flow.data.storage.walk import objects_below
from h5flow.lazy import on_first_use

__all__ = ["dereference", "dereference_chain", "print_attr", "print_data", "print_ref", "ref_region_dtype"]

__getattr__ = on_first_use(
    __name__,
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
    H5FlowDataManager="h5flow.data.h5flow_data_manager:H5FlowDataManager",
)


def print_ref(grp: h5py.Group) -> None:
    """Print all references below a group to standard output, and how many there are of each."""
    for path, found in _below(grp):
        if isinstance(found, h5py.Dataset) and is_reference(found, path):
            sys.stdout.write(f"{' -> '.join(datasets_of(found, path))}: {len(found)}\n")


def print_data(grp: h5py.Group) -> None:
    """Print all datasets below a group to standard output, with shape and type."""
    for path, found in _below(grp):
        if isinstance(found, h5py.Dataset) and path.endswith("/data"):
            sys.stdout.write(f"{path[1:-5]}: {found.shape} {found.dtype}\n")


def print_attr(grp: h5py.Group) -> None:
    """Print the attributes of a group, and of all groups below it, to standard output."""
    for path, found in [(grp.name, grp), *_below(grp)]:
        if isinstance(found, h5py.Group) and len(found.attrs):
            sys.stdout.write(f"{path}\n")
            for key, value in found.attrs.items():
                sys.stdout.write(f"    {key}: {value}\n")


def _below(grp: h5py.Group) -> Iterator[tuple[str, h5py.HLObject]]:
    """Yield absolute path and object of what is below a group, as the group gives it: with rows not written yet."""
    top = "" if grp.name == "/" else grp.name
    for path, found in objects_below(grp):
        yield f"{top}/{path}", found if type(grp) in (h5py.Group, h5py.File) else grp[path]
