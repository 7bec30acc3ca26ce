"""The output of a job, which has its name only when it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from pathlib import Path

from h5flow.data.file.file_copy import FileCopy
from h5flow.data.storage.working_files import NO_LOCKS, WORKING
from h5flow.errors import FileError

_log = logging.getLogger(__name__)

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class OutputFile:
    """A file that is written as `<name>.partial` and renamed when the job is done.

    An output that is there already stays as it is until then: a job that extends it works on a copy. So whatever
    happens, the name belongs to a complete file or to none. A job that works `in_place` on an output that is there
    takes its name away instead, and a note beside it says so until it has its name again.
    """

    def __init__(self, path: str, overwrite: bool = False, in_place: bool = False) -> None:
        self.path = path
        self.overwrite = overwrite
        self.in_place = in_place
        self._final = Path(path).resolve()
        self.working = str(self._final.with_name(self._final.name + WORKING))
        #: Says that the working file is the only one there is.
        self._note = Path(self.working + ".in-place")
        self._begun = False
        self._source: str | None = None
        self._extends = False
        self._unchecked: tuple[str, str] | None = None
        self._copying: FileCopy | None = None
        # What is to be moved to the working file's place when that is opened.
        self._to_move: Path | None = None
        #: The file that it began as a copy of.
        self.copied: str | None = None

    def begin(self, source: str | None) -> str | None:
        """Start to make the output a copy of `source`, or without one of the output that exists, or nothing.

        With `overwrite` an output that exists is not started from, unless it is the source itself. Returns the file
        of which it becomes a copy. Does nothing when called again, unless with another source. Raises `FileError`
        where the output can't be written or is open elsewhere.
        """
        if self._begun and (source is None or source == self._source or self.is_same(source)):
            return None
        self.give_up()
        if not self._final.parent.is_dir():
            raise FileError(f"output '{self.path}': folder '{self._final.parent}' doesn't exist")
        if self._final.is_dir():
            raise FileError(f"output '{self.path}' is a folder")
        _check_unused(self._final, self.path)
        _check_unused(Path(self.working), self.working)
        if self._note.exists() and Path(self.working).exists() and not self._final.exists():
            raise FileError(
                f"'{self.working}' is the only copy of '{self.path}', which a run that worked in place has left"
                f" unfinished; look at it, then rename it or remove it, and remove '{self._note}'"
            )
        if source is not None and _same_file(Path(source), Path(self.working)):
            raise FileError(f"input '{source}' is where '{self.path}' is written; rename it, or choose another output")
        own = source is not None and self.is_same(source)
        origin: Path | None = None
        if source is not None and not own:
            origin = Path(source)  # as it is spelled, for messages
            _check_readable(origin, "input", source)
            if self._final.exists():
                _log.warning("output '%s' exists and will be replaced when the run is complete", self.path)
            if self.in_place:
                _log.info("'%s' is copied: only an output that is there can be worked on in place", source)
        elif own or (self._final.exists() and not self.overwrite):
            origin = self._final
            _check_readable(origin, "output", self.path)
        self._begun, self._source, self._extends = True, source, origin == self._final
        self._unchecked = None if origin is None else (str(origin), "output" if self._extends else "input")
        if origin is None:
            Path(self.working).unlink(missing_ok=True)
            return None
        if origin == self._final and self.in_place:
            self._to_move = origin
            return None
        self._start_with_copy_of(origin)
        self.copied = str(origin)
        return self.copied

    def is_copy_of(self, original: str | None) -> None:
        """Note of which file the working file is a copy, as the rank that has made it says."""
        self.copied = original or self.copied

    def prepare(self, source: str | None) -> str | None:
        """Call `begin`, and wait until the working file is whole; returns the file of which it is a copy now."""
        origin = self.begin(source)
        self.check()
        self.wait()
        return origin

    def check(self) -> None:
        """Raise `FileError` if HDF5 can't open what the output begins as."""
        from h5flow.data.storage.opening import open_file

        if self._unchecked is not None:
            (path, role), self._unchecked = self._unchecked, None
            open_file(path, "r", role=role, locking=False).close()

    def wait(self) -> None:
        """Wait until the working file is whole, and nobody else's any more. Raises `FileError`."""
        moved, self._to_move = self._to_move, None
        if moved is not None:
            self._take_name_away(moved)
        copying = self._copying
        if copying is None:
            return
        began = time.perf_counter()
        try:
            copying.wait()  # if a signal ends that, it is to be given up
            self._copying = None
        except OSError as error:
            self._copying = None
            raise FileError(f"can't copy '{copying.source}' to '{copying.target}': {error.strerror}") from error
        how = "cloned" if copying.cloned else "copied"
        waited = time.perf_counter() - began
        _log.info(
            "%s '%s', %.1f MB, in %.2f s, of which %.2f s were waited for",
            *(how, copying.source, copying.size / 1e6, copying.seconds, waited),
        )

    def give_up(self) -> None:
        """Leave no copy behind that nobody has waited for; a working file that has been in use stays."""
        self._to_move = None
        copying, self._copying = self._copying, None
        if copying is not None:
            copying.give_up()

    def origin(self, source: str | None) -> str | None:
        """Return a file that has what the working file begins with, if there is any."""
        if self._begun and self._copying is None and self._to_move is None:
            return self.working
        if source is not None and not self.is_same(source):
            return source
        return self.path if self.extends(source) else None

    def extends(self, source: str | None) -> bool:
        """Say whether the job goes on with an output that is there."""
        if self._begun:
            return self._extends
        if source is not None:
            return self.is_same(source)
        return self._final.exists() and not self.overwrite

    def is_same(self, path: str) -> bool:
        """Say whether a path, however spelled, is that of the output."""
        return any(_same_file(Path(path), own) for own in (self._final, Path(self.working)))

    def publish(self) -> None:
        """Give the file its name. It must be closed. Raises `FileError`."""
        try:
            os.replace(self.working, self._final)  # noqa: PTH105
        except OSError as error:
            raise FileError(
                f"output '{self.path}' can't be given its name: {error.strerror}; it is complete as '{self.working}'"
            ) from error
        self._note.unlink(missing_ok=True)

    def _take_name_away(self, final: Path) -> None:
        try:
            self._note.write_text(f"{self.working} is {self.path}, on which a run works in place.\n")
            final.replace(self.working)
        except BaseException as error:
            if final.exists():
                self._note.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            raise FileError(f"can't work on '{self.path}' in place, as '{self.working}': {error.strerror}") from error

    def _start_with_copy_of(self, source: Path) -> None:
        try:
            self._copying = FileCopy(source, Path(self.working))
        except OSError as error:
            with contextlib.suppress(OSError):
                Path(self.working).unlink()
            raise FileError(f"can't copy '{source}' to '{self.working}': {error.strerror}") from error


def _same_file(one: Path, other: Path) -> bool:
    return one.resolve() == other or (one.exists() and other.exists() and one.samefile(other))


def _check_readable(path: Path, role: str, name: str) -> None:
    """Raise `FileError` if a file can't be one of HDF5, whose signature stands at 0, 512, 1024, 2048 …"""
    try:
        with path.open("rb") as file:
            size, offset = path.stat().st_size, 0
            while offset + len(_SIGNATURE) <= size:
                file.seek(offset)
                if file.read(len(_SIGNATURE)) == _SIGNATURE:
                    return
                offset = 2 * offset or 512
    except FileNotFoundError:
        raise FileError(f"{role} '{name}' doesn't exist") from None
    except IsADirectoryError:
        raise FileError(f"{role} '{name}' is a folder") from None
    except OSError as error:
        raise FileError(f"{role} '{name}' can't be opened: {error.strerror}") from error
    raise FileError(f"{role} '{name}' is not an HDF5 file")


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
