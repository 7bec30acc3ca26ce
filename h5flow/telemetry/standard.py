"""Standard-library logging and printing of users' modules, on their way to the sinks."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from h5flow.telemetry.events import Log
from h5flow.telemetry.forks import speaking
from h5flow.telemetry.journal import journal_of, tell


class Records(logging.Handler):
    """Makes events of records; those that come of events are told already.

    It keeps no lock, as sinks have their own: a finaliser that logs while its thread is telling something would
    wait for one that another thread has, and that waits for the sink.
    """

    def createLock(self) -> None:  # noqa: N802 - its name in the standard library
        """Make none."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """Tell a record, if filters let it pass."""
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a record as an event."""
        if hasattr(record, "h5flow_event"):
            return
        try:
            message = record.getMessage()
            exception = None
            if record.exc_info and record.exc_info[0] is not None:
                exception = (self.formatter or _FORMATTER).formatException(record.exc_info)
            tell(_log(record.name, message, exception), record.levelno)
        except Exception:  # noqa: BLE001 - as any handler does
            self.handleError(record)


_FORMATTER = logging.Formatter()


def _log(logger: str, message: str, exception: str | None = None) -> Log:
    journal = journal_of()
    acting = None if journal is None else journal.acting()
    if acting is None:
        return Log(logger=logger, message=message, exception=exception)
    rows = acting.rows
    return Log(
        logger=logger,
        message=message,
        stage=acting.stage,
        slice_index=acting.slice_index,
        start=None if rows is None or rows.start is None else int(rows.start),
        stop=None if rows is None or rows.stop is None else int(rows.stop),
        exception=exception,
    )


@contextmanager
def records_told(level: int) -> Iterator[None]:
    """While records of the standard library are told.

    Where the command tells them anyway, it lets pass what is of a `level`, too; in an application they are told as
    far as its own loggers let them pass.
    """
    root = logging.getLogger()
    if any(isinstance(handler, Records) for handler in root.handlers):
        before = root.level
        root.setLevel(min(level, before))
        try:
            yield
        finally:
            root.setLevel(before)
        return
    handler = Records()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Copied:
    """A stream that tells, as well, each line that a component writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = threading.local()

    def write(self, text: str) -> int:
        """Write to the stream; lines of components are told when they end."""
        with speaking:
            written = self._stream.write(text)
        with contextlib.suppress(Exception):
            journal = journal_of()
            if journal is not None and journal.acting() is not None:
                *lines, rest = (getattr(self._begun, "line", "") + text).split("\n")
                self._begun.line = rest
                for line in lines:
                    tell(_log("print", line), _PRINTED)
        return written

    def writelines(self, lines: Any) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_PRINTED = logging.INFO


@contextmanager
def printing_told() -> Iterator[None]:
    """While what components print is told, too."""
    before = sys.stdout
    copied: Any = _Copied(before)
    sys.stdout = copied
    try:
        yield
    finally:
        if sys.stdout is copied:
            sys.stdout = before
