"""Dereferencing, and looking at what is in a file."""

from __future__ import annotations

import sys

import h5py

from h5flow.data.dereference import dereference, dereference_chain
from h5flow.data.layout import ref_region_dtype

__all__ = ["dereference", "dereference_chain", "print_attr", "print_data", "print_ref", "ref_region_dtype"]


def print_ref(group: h5py.Group) -> None:
    """Print all references below a group, and how many there are of each."""

    def show(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and "dset0" in item.attrs:
            parent, child = (item.attrs[key][1:-5] for key in ("dset0", "dset1"))
            sys.stdout.write(f"{parent} -> {child}: {len(item)}\n")

    group.visititems(show)


def print_data(group: h5py.Group) -> None:
    """Print all datasets below a group, with shape and type."""

    def show(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and path.rpartition("/")[2] == "data":
            sys.stdout.write(f"{item.name[1:-5]}: {item.shape} {item.dtype}\n")

    group.visititems(show)


def print_attr(group: h5py.Group) -> None:
    """Print the attributes of a group and of all groups below it."""

    def show(path: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Group) and len(item.attrs):
            sys.stdout.write(f"{item.name}\n")
            for key, value in item.attrs.items():
                sys.stdout.write(f"    {key}: {value}\n")

    show("", group)
    group.visititems(show)
