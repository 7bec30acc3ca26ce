"""Opening and writing HDF5 files, with errors that say what is wrong and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py

from h5flow.errors import FileError


def open_file(path: str, mode: str, *, role: str = "file", **options: Any) -> h5py.File:
    """Open an HDF5 file. Raises `FileError`, which calls the file by its `role`."""
    try:
        return h5py.File(path, mode, **options)
    except (OSError, ValueError) as error:
        raise FileError(f"{role} '{path}' {_reason(Path(path), mode, str(error))}") from error


class writing:  # noqa: N801 - used like a function
    """Turns the errors of writes to a file into `FileError`; a class, because it is entered for every write."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError) and error.errno and not isinstance(error, FileError):
            raise FileError(f"file '{self._path}' can't be written: {os.strerror(error.errno)}") from error


def unreadable(path: str, dataset: str, rows: str, error: OSError) -> FileError:
    """The error for rows that can't be read."""
    detail = str(error)
    detail = detail[detail.find("(") + 1 : detail.rfind(")")] if "(" in detail else detail
    return FileError(
        f"file '{path}', dataset '{dataset}': {rows} can't be read ({detail});"
        " the file seems to be damaged, make it or copy it anew"
    )


def _reason(path: Path, mode: str, message: str) -> str:
    if path.is_dir():
        return "is a folder"
    if mode in ("r", "r+") and not path.exists():
        return "doesn't exist"
    if not path.parent.is_dir():
        return f"can't be made: folder '{path.parent}' doesn't exist"
    detail = message[message.find("(") + 1 : message.rfind(")")] if "(" in message else message
    if "unable to lock file" in message:
        return "is open in another program; close it there first"
    if "truncated file" in message:
        return f"is truncated ({detail})"
    if "file signature not found" in message:
        return "is not an HDF5 file"
    return f"can't be opened: {detail}"
