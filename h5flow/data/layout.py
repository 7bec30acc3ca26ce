"""How a file is laid out: which path holds what.

`/<name>/data` holds rows, `/<parent>/ref/<child>/ref` pairs of row numbers, and
`/<a>/ref/<b>/ref_region` says for each row of `a` which rows of that `ref` enclose its references.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

#: A row of a region table: `ref[start:stop]` encloses all references of the row, `start == stop` says none.
ref_region_dtype = np.dtype([("start", "i4"), ("stop", "i4")])

#: A row of a reference table: row numbers of parent and child.
ref_dtype = np.dtype("u4")


def normalise(name: str) -> str:
    """Return the one spelling of a path inside a file: no outer or doubled slashes, no `.`; the root is empty."""
    if name and name[0] != "/" and name[-1] not in "/." and "//" not in name and "./" not in name:
        return name
    # As HDF5 reads it; "hits.", which ends in a dot, is a name.
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def data_path(name: str) -> str:
    """Return the path of the rows of dataset `name`."""
    return f"/{name}/data"


def ref_path(parent: str, child: str) -> str:
    """Return the path of the references from `parent` to `child`, if `parent` is the side that created them."""
    return f"/{parent}/ref/{child}/ref"


def region_path(of: str, other: str) -> str:
    """Return the path of the region table for the rows of `of`, in the reference that joins it to `other`."""
    return f"/{of}/ref/{other}/ref_region"


def is_rows(path: str) -> bool:
    """Say whether a path is one of the rows of a dataset."""
    return path.endswith("/data")


def name_of(path: str) -> str:
    """Return the name of the dataset whose rows are at a path; of other paths, the path."""
    return path.strip("/").removesuffix("/data") if is_rows(path) else path


def is_reference(path: str) -> bool:
    """Say whether a path is one of references."""
    return path.endswith("/ref") and "/ref/" in path


def is_region_table(path: str) -> bool:
    """Say whether a path is one of a region table."""
    return path.endswith("/ref_region") and "/ref/" in path


def joined(path: str) -> tuple[str, str]:
    """Return the datasets that references at a path join: the one that created them, and the other.

    Of a region table: the dataset for whose rows it is, and the other.
    """
    one, _, other = path.strip("/").removesuffix("/ref").removesuffix("/ref_region").partition("/ref/")
    return one, other


def lies_in(path: str, tops: Iterable[str]) -> bool:
    """Say whether a normalised path is one of `tops` or below one of them."""
    return any(path == top or path.startswith(top + "/") for top in tops)
