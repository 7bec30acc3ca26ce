"""What is in a file: datasets, the references between them, and the jobs that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import msgspec

from h5flow.data import layout
from h5flow.data.storage.opening import open_file


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


def inspected(file: h5py.File, path: str, hidden: str) -> FileFacts:
    """What is in an open file, but for the group `hidden`."""
    datasets, references, links = [], [], []
    for where, found in _objects(file, hidden):
        if isinstance(found, str):
            links.append((where, found))
        elif isinstance(found, h5py.Dataset) and where.rpartition("/")[2] == "ref_region" and "ref" in found.attrs:
            continue
        elif isinstance(found, h5py.Dataset) and layout.is_reference(f"/{where}") and "dset0" in found.attrs:
            references.append(_reference(file, found))
        elif isinstance(found, h5py.Dataset):
            datasets.append(_dataset(where, found))
    size = Path(path).stat().st_size
    return FileFacts(path, size, tuple(datasets), tuple(references), tuple(links))


def opened(path: str) -> h5py.File:
    """A file to be looked at, also while it is written. Raises `FileError`."""
    return open_file(path, "r", locking=False)


def _objects(file: h5py.File, hidden: str) -> Any:
    """Path and object of all that is in a file, each object once; soft and external links as texts."""
    seen: set[Any] = set()
    todo = [("", file["/"])]
    while todo:
        where, found = todo.pop()
        if isinstance(found, h5py.Group):
            mark = h5py.h5o.get_info(found.id)
            if (mark.fileno, mark.addr) in seen:
                continue
            seen.add((mark.fileno, mark.addr))
            for name in sorted(found, reverse=True):
                path = f"{where}/{name}".lstrip("/")
                if path == hidden:
                    continue
                link = found.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    todo.append((path, f"{link.filename}:{link.path}"))
                elif isinstance(link, h5py.SoftLink):
                    todo.append((path, str(link.path)))
                else:
                    todo.append((path, found[name]))
        if where:
            yield where, found


def _dataset(where: str, found: h5py.Dataset) -> DatasetFacts:
    creation = found.id.get_create_plist()
    filters = [creation.get_filter(number) for number in range(creation.get_nfilters())]
    names = [found.compression or ""] if found.compression else [entry[3].decode() for entry in filters if entry[0] > 6]
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


def _reference(file: h5py.File, pairs: h5py.Dataset) -> ReferenceFacts:
    one, other = (_text(pairs.attrs[key]) for key in ("dset0", "dset1"))
    regions = (_text(pairs.attrs.get(key, "")) for key in ("ref_region0", "ref_region1"))
    used = [_used(file.get(region) if region else None) for region in regions]
    return ReferenceFacts(
        one.strip("/").removesuffix("/data"), other.strip("/").removesuffix("/data"), len(pairs), used[0], used[1]
    )


def _used(table: Any) -> int | None:
    """How many rows have references."""
    if not isinstance(table, h5py.Dataset) or table.dtype.names != ("start", "stop"):
        return None
    step = 1 << 20
    parts = (table[start : start + step] for start in range(0, len(table), step))
    return sum(int((part["start"] != part["stop"]).sum()) for part in parts)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def type_name(dtype: Any) -> str:
    """A type as it is shown to users: `{id: i8, samples: f4[64]}`."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return f"{type_name(base)}[{', '.join(map(str, shape))}]"
    if dtype.names:
        return "{" + ", ".join(f"{name}: {type_name(dtype[name])}" for name in dtype.names) + "}"
    if h5py.check_string_dtype(dtype) is not None and dtype.hasobject:
        return "text"
    if dtype.hasobject:
        return "object"
    order = ">" if dtype.byteorder == ">" else ""
    return order + str(dtype.str).lstrip("<>|=")
