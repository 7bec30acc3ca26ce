"""The log of one file among many."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from types import TracebackType


class FileLog:
    """While it is entered, logging goes to the end of a file, and to the terminal only if that is `shown`."""

    def __init__(self, path: str, label: str, shown: bool) -> None:
        self._stream = Path(path).open("a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - see __exit__
        self._handler = logging.StreamHandler(self._stream)
        self._handler.setFormatter(logging.Formatter(f"%(asctime)s {label}%(levelname)s %(name)s: %(message)s"))
        self._shown = shown
        self._hidden: list[logging.Handler] = []

    @staticmethod
    def begin(path: str) -> None:
        """Make the file anew, and its folder where there is none."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("")

    def __enter__(self) -> FileLog:
        root = logging.getLogger()
        if not self._shown:
            self._hidden = [handler for handler in root.handlers if _is_terminal(handler)]
        for handler in self._hidden:
            root.removeHandler(handler)
        root.addHandler(self._handler)
        return self

    def write(self, text: str) -> None:
        """Add a text to the file."""
        # Where the disk is full the outcome is told all the same.
        with contextlib.suppress(OSError):
            self._stream.write(text.rstrip("\n") + "\n")
            self._stream.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        root = logging.getLogger()
        root.removeHandler(self._handler)
        for handler in self._hidden:
            root.addHandler(handler)
        with contextlib.suppress(OSError):
            self._stream.close()


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.stdout)
