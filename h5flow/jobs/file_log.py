"""The log of one file among many."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from h5flow.telemetry.journal import add_sink, remove_sink
from h5flow.telemetry.log_file import LogFile
from h5flow.telemetry.terminal import Terminal

_log = logging.getLogger(__name__)


class FileLog:
    """While it is entered, what is told goes to the end of a file, and to the terminal only if that is `shown`."""

    def __init__(self, path: str, terminal: Terminal, level: int, shown: bool) -> None:
        self._file = LogFile(path, level, readable=True, complain=_log.warning)
        self._terminal = terminal
        self._shown = shown
        self._hidden: list[logging.Handler] = []
        self._stack = ExitStack()

    @staticmethod
    def begin(path: str) -> None:
        """Make the file anew, and its folder where there is none."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("")

    def __enter__(self) -> Self:
        add_sink(self._file)
        if not self._shown:
            self._stack.enter_context(self._terminal.muted())
            # Users' modules may have added handlers of their own.
            self._hidden = [handler for handler in logging.getLogger().handlers if _is_terminal(handler)]
        for handler in self._hidden:
            logging.getLogger().removeHandler(handler)
        return self

    def write(self, text: str) -> None:
        """Add a text to the file."""
        self._file.write(text)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handler in self._hidden:
            logging.getLogger().addHandler(handler)
        self._stack.close()
        remove_sink(self._file)
        self._file.close()


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.stdout)
