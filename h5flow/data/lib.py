"""Dereferencing, and looking at what is in a file."""

from __future__ import annotations

import sys

import h5py

from h5flow.data.dereference import dereference, dereference_chain
from h5flow.data.layout import ref_region_dtype
from h5flow.data.stored_references import datasets_of, is_reference
from h5flow.doors import doors

__all__ = ["dereference", "dereference_chain", "print_attr", "print_data", "print_ref", "ref_region_dtype"]

__getattr__ = doors(
    __name__,
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
    H5FlowDataManager="h5flow.data.h5flow_data_manager:H5FlowDataManager",
)


def print_ref(grp: h5py.Group) -> None:
    """Print all references below a group, and how many there are of each."""

    def show(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and is_reference(item, item.name):
            sys.stdout.write(f"{' -> '.join(datasets_of(item, item.name))}: {len(item)}\n")

    grp.visititems(show)


def print_data(grp: h5py.Group) -> None:
    """Print all datasets below a group, with shape and type."""

    def show(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and path.rpartition("/")[2] == "data":
            sys.stdout.write(f"{item.name[1:-5]}: {item.shape} {item.dtype}\n")

    grp.visititems(show)


def print_attr(grp: h5py.Group) -> None:
    """Print the attributes of a group and of all groups below it."""

    def show(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Group) and len(item.attrs):
            sys.stdout.write(f"{item.name}\n")
            for key, value in item.attrs.items():
                sys.stdout.write(f"    {key}: {value}\n")

    show("", grp)
    grp.visititems(show)
