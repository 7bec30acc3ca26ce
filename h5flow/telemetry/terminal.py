"""What is told on standard error: readable on a terminal, JSON elsewhere."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

from h5flow.telemetry.events import VERDICTS, Event, Log, Progress
from h5flow.telemetry.forks import renewed_in_forks, speaking
from h5flow.telemetry.journal import Identity, Journal, add_sink, remove_sink, speaker
from h5flow.telemetry.rendering import Lines
from h5flow.telemetry.standard import Records
from h5flow.telemetry.turns import Turns

Format = Literal["json", "console", "auto"]

#: Above all levels.
NEVER = 1000


class Terminal:
    """The sink of the command: rank 0 tells what is of a `level`, other ranks warnings and errors only.

    With the format `json` all lines are JSON, and those that the command says otherwise, too.
    """

    journal: Journal | None = None

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank
        self._wanted = self._least = logging.WARNING
        self._quiet = False
        self._turns = Turns()
        self._muted = 0
        self._tells_progress = False
        self.format: Format = "auto"
        self._lines: Lines | None = None
        renewed_in_forks(self)

    def forked(self) -> None:
        """Go on in a fork."""
        self._turns, self._lines = Turns(), None

    def set_up(self, level: int, quiet: bool) -> None:
        """Tell what is of a level; on plain success say nothing, if that shall be `quiet`."""
        self._wanted = level
        self._least = level if self._rank == 0 else max(level, logging.WARNING)
        self._quiet = quiet

    @contextmanager
    def told(self) -> Iterator[None]:
        """Write events, and with them what the standard library logs, for the duration of the block."""
        root = logging.getLogger()
        before, records = root.level, None if root.handlers else Records()
        if records is not None:
            root.addHandler(records)
            root.setLevel(self._wanted)
        add_sink(self)
        try:
            yield
        finally:
            remove_sink(self)
            if records is not None:
                root.removeHandler(records)
                root.setLevel(before)

    @property
    def all_json(self) -> bool:
        """Say whether the command itself says what it says in JSON."""
        return self.format == "json"

    def use(self, format: Format) -> None:
        """Write in a format from now on."""
        self.format, self._lines = format, None

    def level(self, event: type[Event]) -> int:
        """Return the level from which on it takes such an event."""
        if self._muted:
            return NEVER
        if event is Progress:
            return logging.INFO if self._tells_progress else NEVER
        if event in VERDICTS:
            return (logging.WARNING if self._quiet else logging.INFO) if self.all_json else NEVER
        return NEVER if event.SHOWN is not None and self._least > event.SHOWN else self._least

    def take(self, event: Event, level: int, who: Identity) -> None:
        """Write the line of an event."""
        if isinstance(event, Log) and event.logger == "print":
            return  # it has been printed
        # In the order in which others have both who print, or draw a live view.
        with speaking:
            self._turns.take(functools.partial(self._write, event, level, who))

    def _write(self, event: Event, level: int, who: Identity) -> None:
        if self._lines is None:
            is_terminal = sys.stderr.isatty()
            readable = self.format == "console" or (self.format == "auto" and is_terminal)
            self._lines = Lines(_write, readable=readable, colours=is_terminal)
        self._lines.write(event, level, who)

    def say(self, line: str, level: int = logging.INFO) -> None:
        """Say a line of the command's own, which isn't told otherwise."""
        if not self.all_json:
            sys.stderr.write(f"{line}\n")
            return
        self.take(Log(logger="h5flow-async", message=line), level, speaker())

    @contextmanager
    def progress(self, journal: Journal) -> Iterator[None]:
        """Show progress on rank 0 for the duration of the block: live on a terminal, otherwise a line now and then."""
        if self._rank or self._quiet or self._muted:
            yield
            return
        if self.format != "json" and sys.stderr.isatty() and find_spec("rich") is not None:
            from h5flow.telemetry.live import LiveView

            journal.measure()
            with LiveView(journal).shown():
                yield
            return
        self._tells_progress = True
        try:
            yield
        finally:
            self._tells_progress = False

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Write nothing but the command's own lines for the duration of the block."""
        self._muted += 1
        try:
            yield
        finally:
            self._muted -= 1


def _write(line: bytes) -> None:
    # Nobody may be reading any more.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line.decode())
        sys.stderr.flush()
