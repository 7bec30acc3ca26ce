"""The output of a job, which has its name only when it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from pathlib import Path

from h5flow.data.storage.opening import NO_LOCKS, WORKING, open_file
from h5flow.errors import FileError

_log = logging.getLogger(__name__)


class OutputFile:
    """A file that is written as `<name>.partial` and renamed when the job is done.

    An output that is there already stays as it is until then: a job that extends it works on a copy. So whatever
    happens, the name belongs to a complete file or to none.
    """

    def __init__(self, path: str, overwrite: bool = False) -> None:
        self.path = path
        self.overwrite = overwrite
        self._final = Path(path).resolve()
        self.working = str(self._final.with_name(self._final.name + WORKING))
        self._prepared = False
        #: The file that it began as a copy of.
        self.copied: str | None = None

    def prepare(self, source: str | None) -> str | None:
        """Start from a copy of `source`, or where there is none from the output that exists, or from nothing.

        With `overwrite` an output that exists is not started from, unless it is the source itself. Returns the file
        of which it is a copy now. Does nothing when called again. Raises `FileError` where the output can't be written
        or is open elsewhere.
        """
        if self._prepared:
            return None
        folder = self._final.parent
        if not folder.is_dir():
            raise FileError(f"output '{self.path}': folder '{folder}' doesn't exist")
        if self._final.is_dir():
            raise FileError(f"output '{self.path}' is a folder")
        original: str | None = None
        _check_unused(self._final, self.path)
        _check_unused(Path(self.working), self.working)
        if source is not None and not self.is_same(source):
            open_file(source, "r", role="input", locking=False).close()
            if self._final.exists():
                _log.warning("output '%s' exists and will be replaced when the run is complete", self.path)
            original = self._start_with_copy_of(Path(source))
        elif source is not None:
            original = self._start_with_copy_of(self._final)
        elif self._final.exists() and not self.overwrite:
            open_file(self.path, "r", role="output", locking=False).close()
            original = self._start_with_copy_of(self._final)
        else:
            Path(self.working).unlink(missing_ok=True)
        self._prepared = True
        self.copied = original
        return original

    def origin(self, source: str | None) -> str | None:
        """The file that `prepare` would start from, or that has been prepared."""
        if self._prepared:
            return self.working
        if source is not None and not self.is_same(source):
            return source
        return self.path if source is not None or (self._final.exists() and not self.overwrite) else None

    def extends(self, source: str | None) -> bool:
        """Whether the job goes on with an output that is there."""
        return (source is None or self.is_same(source)) and self.origin(source) is not None

    def is_same(self, path: str) -> bool:
        """Whether a path, however spelled, is that of the output."""
        return any(_same_file(Path(path), own) for own in (self._final, Path(self.working)))

    def publish(self) -> None:
        """Give the file its name. It must be closed. Raises `FileError`."""
        try:
            os.replace(self.working, self._final)  # noqa: PTH105
        except OSError as error:
            raise FileError(
                f"output '{self.path}' can't be given its name: {error.strerror}; it is complete as '{self.working}'"
            ) from error

    def _start_with_copy_of(self, source: Path) -> str:
        try:
            shutil.copyfile(source, self.working)
        except OSError as error:
            with contextlib.suppress(OSError):
                Path(self.working).unlink()
            raise FileError(f"can't copy '{source}' to '{self.working}': {error.strerror}") from error
        return str(source)


def _same_file(one: Path, other: Path) -> bool:
    return one.resolve() == other or (one.exists() and other.exists() and one.samefile(other))


def _check_unused(path: Path, name: str) -> None:
    """Raise `FileError` if a program has the file open; HDF5 marks open files with a lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK):
            raise FileError(f"output '{name}': no permission to write to '{path.parent}'") from None
        return
    except OSError as error:
        raise FileError(f"output '{name}' can't be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileError(
            f"output '{name}' is open in another program; close it there, or choose another output"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise FileError(f"output '{name}' can't be locked: {error.strerror}") from error
        _log.info("whether '%s' is open in another program isn't known: its file system has no locks", name)
    finally:
        os.close(descriptor)
