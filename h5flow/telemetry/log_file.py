"""The log file of a run: lines are gathered in memory and written at least every second.

Warnings, and what concerns more than a slice, are written at once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from h5flow.telemetry.events import VERDICTS, Event, Log
from h5flow.telemetry.forks import renewed_in_forks
from h5flow.telemetry.journal import Identity, Journal
from h5flow.telemetry.rendering import Lines
from h5flow.telemetry.turns import Turns

#: Lines wait no longer than this to be written, in seconds.
FLUSH = 0.5
# So many bytes wake whoever writes; with so many, whoever has something to say writes himself.
_MANY = 1 << 18
_TOO_MANY = 1 << 24
_NEVER = 1000


class LogFile:
    """A sink that appends to a file, as JSON or `readable`. What can't be written is said once, to `complain`."""

    def __init__(
        self,
        path: str,
        level: int,
        *,
        journal: Journal | None = None,
        readable: bool = False,
        complain: Callable[[str], None],
    ) -> None:
        self.path = path
        self.journal = journal
        self._least = level
        self._complain: Callable[[str], None] | None = complain
        self._readable = readable
        self._wanted = threading.Event()
        self._closed = False
        self._begin(is_fork=False)
        self._descriptor: int | None = None
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            self._gave_up(error)
            return
        self._thread = threading.Thread(target=self._work, name="h5flow log", daemon=True)
        self._thread.start()
        renewed_in_forks(self)

    def _begin(self, *, is_fork: bool) -> None:
        self._is_fork = is_fork
        self._lines = Lines(self._add, readable=self._readable)
        self._gathered: list[bytes] = []
        self._handed_over: list[bytes] = []
        self._size = 0
        self._adding, self._writing = Turns(), Turns()

    def forked(self) -> None:
        """Go on in a fork, where nobody else writes; what was gathered before is its parent's to write."""
        self._begin(is_fork=True)

    @property
    def is_open(self) -> bool:
        """Say whether it can be written to, as far as is known."""
        return self._descriptor is not None

    def level(self, event: type[Event]) -> int:
        """Return the level from which on it takes such an event."""
        masses = event.SHOWN is not None and self._least > event.SHOWN
        return _NEVER if self._readable and (masses or event in VERDICTS) else self._least

    def take(self, event: Event, level: int, who: Identity) -> None:
        """Take an event."""
        if self._descriptor is None:
            return
        # Structlog keeps no lock, and what it is bound to depends on the last event.
        if not self._adding.take(functools.partial(self._lines.write, event, level, who)):
            self._wanted.set()  # others may be writing, and wait for what is added here
            return
        size = self._size
        rare = event.SHOWN is None and not isinstance(event, Log) and level >= logging.INFO
        if level >= logging.WARNING or rare or size > _TOO_MANY or self._is_fork:
            self.flush()
        elif size > _MANY:
            self._wanted.set()

    def write(self, text: str) -> None:
        """Add a text as it is."""
        if self._descriptor is not None:
            self._adding.take(lambda: self._add(f"{text.rstrip()}\n".encode(errors="backslashreplace")))
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        self._writing.take(self._write_gathered)

    def close(self) -> None:
        """Write everything, and end."""
        self._closed = True
        self._wanted.set()
        if self._descriptor is not None:
            if not self._is_fork:
                self._thread.join()
            self.flush()
            self._writing.take(self._shut)

    def _add(self, line: bytes) -> None:
        self._gathered.append(line)
        self._size += len(line)

    def _write_gathered(self) -> None:
        self._adding.take(self._hand_over)
        content, self._handed_over = b"".join(self._handed_over), []
        if self._descriptor is not None and content:
            self._write(content)

    def _hand_over(self) -> None:
        self._handed_over, self._gathered, self._size = self._gathered, [], 0

    def _write(self, content: bytes) -> None:
        assert self._descriptor is not None
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                # No half lines.
                begun = written - (content.rfind(b"\n", 0, written) + 1)
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - begun)
            self._gave_up(error)

    def _shut(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _gave_up(self, error: OSError) -> None:
        self._shut()
        if self._complain is not None:
            self._complain(f"log file '{self.path}' can't be written, and the run goes on without: {error.strerror}")
        self._complain = None

    def _work(self) -> None:
        while not self._closed:
            self._wanted.wait(FLUSH)
            self._wanted.clear()
            self.flush()
