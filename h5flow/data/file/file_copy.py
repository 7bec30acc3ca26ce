"""Copies of whole files, made on a thread of their own without Python's lock, or as clones in no time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from pathlib import Path

# linux/fs.h: the target gets the blocks of the source, which are copied when either is written to.
_FICLONE = 0x40049409
# A copy can be given up after each piece of this size.
_PIECE = 64 << 20
# What is smaller isn't worth a thread.
_SMALL = 4 << 20

_CANNOT = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ENOTTY)


class FileCopy:
    """A copy that is being made of one file as another, which is replaced.

    It is whole when `wait` returns. Making one raises `OSError` if either file can't be opened. A process that is
    forked meanwhile has no part in it.
    """

    def __init__(self, source: Path, target: Path) -> None:
        self.source, self.target = source, target
        #: How many bytes there are to copy.
        self.size = 0
        #: Whether the file system shares the blocks of both, so that nothing had to be copied.
        self.cloned = False
        #: What copying took.
        self.seconds = 0.0
        self._given_up = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._began = time.perf_counter()
        self._from = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._to = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except BaseException:
            os.close(self._from)
            raise
        try:
            self.size = os.fstat(self._from).st_size
            if self._clone() or self.size <= _SMALL:
                self._copy()
            else:
                self._thread = threading.Thread(target=self._copy, name="h5flow copy", daemon=True)
                self._thread.start()
        except BaseException:
            self._given_up = True
            target.unlink(missing_ok=True)
            raise

    def wait(self) -> None:
        """Wait until the copy is whole. Raises `OSError` if it can't be made; then the target is gone."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            self.target.unlink(missing_ok=True)
            raise self._error

    def give_up(self) -> None:
        """Remove the copy, whole or not."""
        if os.getpid() != self._process:
            return
        self._given_up = True
        if self._thread is not None:
            self._thread.join()
        self.target.unlink(missing_ok=True)

    def _clone(self) -> bool:
        try:
            fcntl.ioctl(self._to, _FICLONE, self._from)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            return False
        self.cloned = True
        return True

    def _copy(self) -> None:
        try:
            if not self.cloned:
                self._copy_pieces()
            self.seconds = time.perf_counter() - self._began
        except OSError as error:
            self._error = error
        finally:
            os.close(self._from)
            with contextlib.suppress(OSError):
                os.close(self._to)

    def _copy_pieces(self) -> None:
        done = 0
        ways = [os.copy_file_range, os.sendfile] if hasattr(os, "copy_file_range") else [os.sendfile]
        while done < self.size:
            if self._given_up:
                return
            count = min(_PIECE, self.size - done)
            try:
                if not ways:
                    moved = os.write(self._to, os.pread(self._from, count, done))
                elif ways[0] is os.sendfile:
                    moved = os.sendfile(self._to, self._from, done, count)
                else:
                    moved = os.copy_file_range(self._from, self._to, count, done, done)
                    os.lseek(self._to, done + moved, os.SEEK_SET)
            except OSError as error:
                if error.errno not in _CANNOT or not ways:
                    raise
                ways.pop(0)
                continue
            if not moved:
                raise OSError(errno.EIO, "the file has become shorter while it was copied")
            done += moved
