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
from h5flow.telemetry.journal import Acting, journal_of, tell


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
    return _log_of(None if journal is None else journal.acting(), logger, message, exception)


def _log_of(acting: Acting | None, logger: str, message: str, exception: str | None = None) -> Log:
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


# Those that runs which are logged rely on.
_relied_on: list[Records] = []


def keep_records_told() -> None:
    """Add the handlers again where a module has replaced all: `basicConfig(force=True)`, `dictConfig`."""
    root = logging.getLogger()
    for handler in _relied_on:
        if handler not in root.handlers:
            root.addHandler(handler)


@contextmanager
def records_told(level: int) -> Iterator[None]:
    """Tell records of the standard library for the duration of the block.

    Where the command tells them anyway, it lets pass what is of a `level`, too; in an application they are told as
    far as its own loggers let them pass.
    """
    root = logging.getLogger()
    before = root.level
    handler = next((each for each in root.handlers if isinstance(each, Records)), None) or Records()
    of_command = handler in root.handlers and handler not in _relied_on
    if of_command:
        root.setLevel(min(level, before))
    root.addHandler(handler)
    _relied_on.append(handler)
    try:
        yield
    finally:
        _relied_on.remove(handler)
        if of_command:
            root.setLevel(before)
        elif handler not in _relied_on:  # else a run in another thread goes on
            root.removeHandler(handler)


class _Copied:
    """A stream that tells, as well, each line that is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: By thread: a line that hasn't ended yet, and whose it is.
        self._begun: dict[int, tuple[str, Acting | None]] = {}

    def write(self, text: str) -> int:
        """Write to the stream; lines are told when they end, or somebody else writes, or on another slice."""
        with speaking:
            written = self._stream.write(text)
        with contextlib.suppress(Exception):
            journal = journal_of()
            if journal is not None:
                self._told(text, journal.acting())
        return written

    def _told(self, text: str, acting: Acting | None) -> None:
        thread = threading.get_ident()
        begun, by = self._begun.pop(thread, ("", acting))
        if by != acting:
            tell(_log_of(by, "print", begun), _PRINTED)
            begun = ""
        *lines, rest = (begun + text).split("\n")
        for line in lines:
            tell(_log_of(acting, "print", line), _PRINTED)
        if rest:
            self._begun[thread] = (rest, acting)

    def end(self) -> None:
        """Tell what hasn't ended."""
        for line, acting in self._begun.values():
            tell(_log_of(acting, "print", line), _PRINTED)
        self._begun.clear()

    def writelines(self, lines: Any) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_PRINTED = logging.INFO


@contextmanager
def printing_told() -> Iterator[None]:
    """Tell what is printed, too, for the duration of the block."""
    before = sys.stdout
    copied: Any = _Copied(before)
    sys.stdout = copied
    try:
        yield
    finally:
        copied.end()
        if sys.stdout is copied:
            sys.stdout = before
