"""Opening and writing HDF5 files, with errors that say what is wrong and what to do."""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import h5py

from h5flow.data.storage.working_files import NO_LOCKS, TEMPORARY, WORKING
from h5flow.errors import FileError, H5FlowError

_log = logging.getLogger(__name__)

#: HDF5's versions whose format new files have. Since 1.10 files can be marked as being written, and HDF5 refuses to
#: open them after a run that was killed.
FORMAT = ("v108", "v110")

#: What h5py raises for an object that is damaged, or of a kind that it doesn't know.
UNREADABLE = (KeyError, OSError, RuntimeError, TypeError, ValueError)

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_ERRNO = r"errno = (\d+)"


def open_file(path: str, mode: str, *, role: str = "file", **options: Any) -> h5py.File:
    """Open an HDF5 file. Raises `FileError`, which calls the file by its `role`.

    On a file system without locks, a file is opened without one where nobody else can be writing to it because of this:
    if it is only read, or is an output at work, which has a name of its own.
    """
    try:
        return h5py.File(path, mode, **options)
    except (OSError, ValueError) as error:
        reason: Exception = error
        if _lacks_locks(error) and (mode == "r" or _is_ours(path)):
            try:
                file = h5py.File(path, mode, **{**options, "locking": False})
            except (OSError, ValueError) as failed:
                reason = failed  # the environment may ask for locks all the same
            else:
                _log.info("%s '%s' is open without a lock, which its file system doesn't have", role, path)
                return file
        raise FileError(f"{role} '{path}' {_reason(Path(path), mode, str(reason))}") from reason


def _is_ours(path: str) -> bool:
    return path.endswith(WORKING) or Path(path).name.startswith(TEMPORARY)


def _lacks_locks(error: Exception) -> bool:
    """Say whether a file couldn't be opened since it can't be locked."""
    found = re.search(_ERRNO, str(error)) if "unable to lock file" in str(error) else None
    return found is not None and int(found[1]) in NO_LOCKS


class Writes:
    """Turns the errors of writes to a file into `FileError`, and remembers that there was one.

    A context for each write, and for whatever else may have HDF5 write; entered any number of times.
    """

    __slots__ = ("__weakref__", "_failure", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        # Of the first write that failed; HDF5 may have dropped what it couldn't write.
        self._failure = ""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, H5FlowError):
            return
        failed = self.failed(error)
        if failed is not None:
            raise failed from error
        if self._failure and isinstance(error, OSError | RuntimeError):
            raise FileError(self._incomplete) from error  # what has been dropped may be missed anywhere
        if isinstance(error, OSError) and error.errno:
            verb = "read" if "file read failed" in str(error) else "written"
            raise FileError(f"file '{self._path}' can't be {verb}: {os.strerror(error.errno)}") from error

    def failed(self, error: BaseException) -> FileError | None:
        """Return the error to raise if h5py couldn't write, whatever it was asked for; `None` if that isn't why."""
        reason = _why_unwritten(error)
        if not reason:
            return None
        self._failure = self._failure or reason
        return FileError(f"file '{self._path}' can't be written: {reason}")

    def check(self) -> None:
        """Raise `FileError` if a write has failed."""
        if self._failure:
            raise FileError(self._incomplete)

    @property
    def _incomplete(self) -> str:
        return f"file '{self._path}' is incomplete, it couldn't be written earlier: {self._failure}"


# A failure concerns the whole file, whichever object of h5py it is used through.
_open: WeakValueDictionary[str, Writes] = WeakValueDictionary()


def writes_to_opened(path: str) -> Writes:
    """Make the context for writes to a file just opened; `writing` finds it as long as it is in use."""
    writes = _open[path] = Writes(path)
    return writes


def writing(path: str) -> Writes:
    """Return the context for writes to an open file."""
    return _open.get(path) or Writes(path)


def unreadable(path: str, dataset: str, rows: str, error: Exception) -> FileError:
    """Return the error for rows that can't be read."""
    detail = str(error)
    detail = detail[detail.find("(") + 1 : detail.rfind(")")] if "(" in detail else detail
    return FileError(
        f"file '{path}', dataset '{dataset}': {rows} can't be read ({detail});"
        " the file seems to be damaged, make it or copy it anew"
    )


def _why_unwritten(error: BaseException) -> str:
    """Say why HDF5 couldn't write, empty if it didn't want to or could.

    It has a cache, so any call may have to write, and the class of the error is that of what was called.
    """
    text = str(error)
    found = re.search(_ERRNO, text)
    number = int(found[1]) if found else getattr(error, "errno", None)
    if number in _NO_ROOM or "file write failed" in text:
        return os.strerror(number) if number else text
    return ""


def _reason(path: Path, mode: str, message: str) -> str:
    if path.is_dir():
        return "is a folder"
    if mode in ("r", "r+") and not path.exists():
        return "doesn't exist"
    if not path.parent.is_dir():
        return f"can't be made: folder '{path.parent}' doesn't exist"
    detail = message[message.find("(") + 1 : message.rfind(")")] if "(" in message else message
    if "already open for write" in message:
        return "is being written, or was when its program was killed; in that case 'h5clear -s' makes it readable"
    if _lacks_locks(OSError(message)):
        asked = os.environ.get("HDF5_USE_FILE_LOCKING")
        cure = (
            f"take HDF5_USE_FILE_LOCKING={asked} out of the environment"
            if asked and (mode == "r" or _is_ours(str(path)))
            else "if no other program writes to it, set HDF5_USE_FILE_LOCKING=FALSE"
        )
        return f"can't be locked, which its file system doesn't do ({detail}); {cure}"
    if "unable to lock file" in message:
        return "is open in another program; close it there first"
    if "truncated file" in message:
        return f"is truncated ({detail})"
    if "file signature not found" in message:
        return "is not an HDF5 file"
    return f"can't be opened: {detail}"
