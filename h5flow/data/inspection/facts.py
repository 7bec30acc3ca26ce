"""What is in a file: datasets, the references between them, and the jobs that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import msgspec

from h5flow.data.references.stored import datasets_of, is_reference, is_region_table, regions_of
from h5flow.data.storage.opening import UNREADABLE, open_file


class DatasetFacts(msgspec.Struct, frozen=True):
    """A dataset: sizes are in bytes, as rows and as stored; `type` is that of a row, without its shape."""

    path: str
    rows: int | None
    row_shape: tuple[int, ...]
    type: str
    bytes: int
    stored_bytes: int
    compression: str | None
    chunk_rows: int | None


class ReferenceFacts(msgspec.Struct, frozen=True):
    """References between two datasets, by name: how many, and how many rows of each side have any."""

    parent: str
    child: str
    count: int
    parents: int | None
    children: int | None


class FileFacts(msgspec.Struct, frozen=True):
    """What is in a file. Datasets that hold rows of components are called by their names, others by their paths."""

    path: str
    bytes: int
    datasets: tuple[DatasetFacts, ...]
    references: tuple[ReferenceFacts, ...]
    links: tuple[tuple[str, str], ...]
    #: What can't be read, and why, as in a file that is damaged.
    unreadable: tuple[tuple[str, str], ...] = ()


def inspected(file: h5py.File, path: str, hidden: str) -> FileFacts:
    """List what is in an open file, but for the group `hidden`."""
    datasets, references, links, unreadable = [], [], [], []
    for where, found in _objects(file, hidden):
        if isinstance(found, str):
            links.append((where, found))
            continue
        try:
            if isinstance(found, Exception):
                raise found
            if not isinstance(found, h5py.Dataset) or is_region_table(found, f"/{where}"):
                continue
            if is_reference(found, f"/{where}"):
                references.append(_reference(file, found, f"/{where}"))
            else:
                datasets.append(_dataset(where, found))
        except UNREADABLE as error:
            # Texts of a KeyError are in quotes.
            unreadable.append((where, str(error.args[0] if isinstance(error, KeyError) and error.args else error)))
    size = Path(path).stat().st_size
    return FileFacts(path, size, tuple(datasets), tuple(references), tuple(links), tuple(unreadable))


def opened(path: str) -> h5py.File:
    """Open a file to look at it, also while it is written. Raises `FileError`."""
    return open_file(path, "r", locking=False)


def _objects(file: h5py.File, hidden: str) -> Any:
    """Yield path and object of all that is in a file, each object once; links as texts, errors as such."""
    seen: set[Any] = set()
    try:
        todo: list[tuple[str, Any]] = [("", file["/"])]
    except UNREADABLE as error:
        yield "/", error
        return
    while todo:
        where, found = todo.pop()
        if isinstance(found, h5py.Group):
            mark = h5py.h5o.get_info(found.id)
            if (mark.fileno, mark.addr) in seen:
                continue
            seen.add((mark.fileno, mark.addr))
            try:
                names = sorted(found, key=str, reverse=True)  # a name that is no text is in bytes
            except UNREADABLE as error:
                yield f"{where}/".lstrip("/") or "/", error
                continue
            for name in names:
                path = f"{where}/{name}".lstrip("/")
                member = _member(found, name)
                if path != hidden or isinstance(member, Exception):
                    todo.append((path, member))
        if where:
            yield where, found


def _member(group: h5py.Group, name: str) -> Any:
    """Return an object, or where a link leads, or why it can't be had."""
    try:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return f"{link.filename}:{link.path}"
        return str(link.path) if isinstance(link, h5py.SoftLink) else group[name]
    except UNREADABLE as error:
        return error


def _dataset(where: str, found: h5py.Dataset) -> DatasetFacts:
    creation = found.id.get_create_plist()
    filters = [creation.get_filter(number) for number in range(creation.get_nfilters())]
    packing = [entry[3].decode() for entry in filters if entry[0] > h5py.h5z.FILTER_FLETCHER32]
    names = [found.compression] if found.compression else packing
    names += ["shuffle"] if found.shuffle else []
    shape = found.shape or ()
    return DatasetFacts(
        path=where.removesuffix("/data") if where.endswith("/data") else f"/{where}",
        rows=shape[0] if shape else None,
        row_shape=tuple(shape[1:]),
        type=type_name(found.dtype),
        bytes=int(found.size or 0) * found.dtype.itemsize,
        stored_bytes=int(found.id.get_storage_size()),
        compression=" + ".join(name for name in names if name) or None,
        chunk_rows=found.chunks[0] if found.chunks else None,
    )


def _reference(file: h5py.File, pairs: h5py.Dataset, path: str) -> ReferenceFacts:
    used = [_used(file.get(region)) for region in regions_of(pairs, path)]
    return ReferenceFacts(*datasets_of(pairs, path), len(pairs), used[0], used[1])


def _used(table: Any) -> int | None:
    """Count the rows that have references; `None` where the table is none."""
    if not isinstance(table, h5py.Dataset) or table.dtype.names != ("start", "stop"):
        return None
    step = 1 << 20
    parts = (table[start : start + step] for start in range(0, len(table), step))
    return sum(int((part["start"] != part["stop"]).sum()) for part in parts)


def type_name(dtype: Any) -> str:
    """Return a type as it is shown to users: `{id: i8, samples: f4[64], hits: i4[any]}`."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return f"{type_name(base)}[{', '.join(map(str, shape))}]"
    if dtype.names:
        return "{" + ", ".join(f"{name}: {type_name(dtype[name])}" for name in dtype.names) + "}"
    if h5py.check_string_dtype(dtype) is not None and dtype.hasobject:
        return "text"
    if (several := h5py.check_vlen_dtype(dtype)) is not None:
        return f"{type_name(several)}[any]"
    if (reference := h5py.check_ref_dtype(dtype)) is not None:
        return "region" if reference is h5py.RegionReference else "reference"
    if dtype.hasobject:
        return "object"
    order = ">" if dtype.byteorder == ">" else ""
    return order + str(dtype.str).lstrip("<>|=")
