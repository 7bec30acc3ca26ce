"""Lines of events: structlog's loggers, with msgspec's encoder for JSON and columns for people.

structlog is imported when there is a first line to write: that costs a good part of a start.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from h5flow.telemetry.encoding import encoded
from h5flow.telemetry.events import SCHEMA_VERSION, Event, Log, RunFailed, fields_of, worded
from h5flow.telemetry.journal import Identity

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

#: Writes a line, which ends itself.
Write = Callable[[bytes], None]

_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)
_COLOURS = {
    "CRITICAL": "\x1b[1;31m",
    "ERROR": "\x1b[31m",
    "WARNING": "\x1b[33m",
    "INFO": "\x1b[32m",
    "DEBUG": "\x1b[2m",
}
_FAINT, _PLAIN = "\x1b[2m", "\x1b[0m"


def level_name(level: int) -> str:
    """Return the standard level that a level belongs to."""
    return next((name for least, name in _LEVELS if level >= least), "debug")


class Lines:
    """Renders events to lines that go to `write`, as JSON or, with `readable`, for people."""

    def __init__(self, write: Write, *, readable: bool = False, colours: bool = False) -> None:
        self._write = write
        self._readable, self._colours = readable, colours
        self._front: Any = None
        self._bound: tuple[Identity | None, Any] = (None, None)

    def write(self, event: Event, level: int, who: Identity) -> None:
        """Write the line of an event."""
        if self._bound[0] is not who:
            self._bound = (who, self._logger().bind(**who._asdict()))
        tell = getattr(self._bound[1], level_name(level))
        if self._readable:
            tell(str(event), **_shown(event))
        else:
            tell(event.name, **worded(event), **fields_of(event))

    def _logger(self) -> Any:
        if self._front is None:
            structlog = _structlog()
            processors: list[Processor] = [self._for_people()] if self._readable else [_as_json]
            self._front = structlog.wrap_logger(
                _Target(self._write),
                processors=processors,
                wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
                context_class=dict,
            )
        return self._front

    def _for_people(self) -> Processor:
        from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter

        def column(style: str = "", prefix: str = "", postfix: str = "") -> KeyValueColumnFormatter:
            reset = _PLAIN if style else ""
            return KeyValueColumnFormatter(None, style, reset, str, prefix=prefix, postfix=postfix)

        faint = _FAINT if self._colours else ""
        named = KeyValueColumnFormatter(faint, "", _PLAIN if faint else "", str)
        render = ConsoleRenderer(
            sort_keys=False,
            columns=[
                Column("", named),
                Column("timestamp", column(faint)),
                Column("rank", column(faint, prefix="rank ")),
                Column("level", self._level_column),
                Column("logger", column(faint, postfix=":")),
                Column("event", column()),
            ],
        )

        def rendered(logger: WrappedLogger, method: str, fields: EventDict) -> bytes:
            line: EventDict = {"timestamp": datetime.now().astimezone().isoformat(" ", "milliseconds")[:-6]}
            if fields["size"] > 1:
                line["rank"] = fields["rank"]
            for name in ("rank", "size", "host", "pid", "run_id", "workflow"):
                fields.pop(name, None)
            line["level"] = method.upper()
            text = render(logger, method, {**line, **fields})
            return f"{text}\n".encode(errors="backslashreplace")

        return rendered

    def _level_column(self, key: str, value: object) -> str:
        colour = _COLOURS.get(str(value), "") if self._colours else ""
        return f"{colour}{value}{_PLAIN if colour else ''}"


def _structlog() -> Any:
    """Import structlog. It imports rich for tracebacks, which aren't wanted here, and rich draws a random number then.

    The first line comes from within a component, whose draws are watched, and must not become others by being told.
    """
    without = _WithoutRich()
    sys.meta_path.insert(0, without)
    try:
        import structlog
    finally:
        sys.meta_path.remove(without)
    return structlog


class _WithoutRich:
    """Finds no rich for the thread that has made it."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Raise `ModuleNotFoundError` for what belongs to rich."""
        if fullname.partition(".")[0] == "rich" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} isn't wanted here", name=fullname)


class _Target:
    """The logger under structlog's: it has a method for each level, and all do the same."""

    def __init__(self, write: Write) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


def _as_json(_logger: WrappedLogger, method: str, fields: EventDict) -> bytes:
    name = fields.pop("event")
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    line = {"timestamp": f"{now[:-6]}Z", "level": method, "event": name, "schema_version": SCHEMA_VERSION, **fields}
    return encoded(line) + b"\n"


def _shown(event: Event) -> dict[str, Any]:
    """Return what people get to see of an event besides its words."""
    shown: dict[str, Any] = {}
    if isinstance(event, Log):
        shown["logger"] = event.logger
        if event.stage is not None:
            shown["stage"] = event.stage
        if event.start is not None and event.stop is not None:
            shown["slice"] = f"{event.start}:{event.stop}"
        if event.exception is not None:
            shown["exception"] = event.exception
    elif event.LOGGER is not None:
        shown["logger"] = event.LOGGER
    if isinstance(event, RunFailed):
        shown["exception"] = event.traceback.rstrip("\n")
    return shown
