"""The journal of a run: who it is, and where its events go.

`emit(event)` is how all of h5flow tells something. Sinks take what is told: the file of a run, the terminal. Whoever
listens to standard-library logging hears of it, too, with the words of the event.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Protocol

from h5flow.telemetry.forks import renewed_in_forks

if TYPE_CHECKING:
    from h5flow.telemetry.events import Event
    from h5flow.telemetry.state import RunState
    from h5flow.telemetry.trace import Trace


class Identity(NamedTuple):
    """Who tells something."""

    run_id: str | None
    rank: int
    size: int
    host: str
    pid: int
    workflow: str | None = None


def identity(run_id: str | None, rank: int, size: int) -> Identity:
    """Return this process as one of the ranks of a run."""
    return Identity(run_id, rank, size, os.uname().nodename, os.getpid())


def new_run_id() -> str:
    """Return an id that no other run has, and that sorts by time: `20260131-235959-1f2e3d`."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"


class Acting(NamedTuple):
    """The component at work in the calling thread."""

    stage: str
    slice_index: int | None
    rows: slice | None


class Sink(Protocol):
    """Takes what is told."""

    #: The journal whose events it takes, `None` for those of all runs.
    journal: Journal | None

    def level(self, event: type[Event]) -> int:
        """Return the level from which on it takes such an event."""
        ...

    def take(self, event: Event, level: int, who: Identity) -> None:
        """Take an event. Never raises for what the run can't help."""
        ...


class Journal:
    """A run as it is told by one rank."""

    def __init__(self, identity: Identity, every: float = 1.0) -> None:
        self.identity = identity
        #: When the run began, by `time.perf_counter`; all `began_s` count from here.
        self.began = time.perf_counter()
        #: Which component is at work in the calling thread.
        self.acting: Callable[[], Acting | None] = lambda: None
        #: Whether somebody wants slices to be measured.
        self.measured = False
        #: Of so many slices one is told.
        self.every = every
        #: Where what is done is drawn, and how many workflows have begun.
        self.trace: Trace | None = None
        self.workflows = 0
        #: The state of the loop that is running, for whoever asks now and then.
        self.state: Callable[[], RunState] | None = None
        #: The last states of the loops that have ended, by workflow.
        self.ended: dict[str, RunState] = {}
        renewed_in_forks(self)

    def forked(self) -> None:
        """Go on in a fork: it is another process, and no loop of slices is running there."""
        self.identity = self.identity._replace(pid=os.getpid())
        self.state = None

    # who wants to know what, and who is at work

    def measure(self, wanted: bool = True) -> None:
        """Measure slices from now on, if that is `wanted`."""
        self.measured = self.measured or wanted

    def draw_on(self, trace: Trace | None) -> None:
        """Draw what is done on a trace, for which slices are measured; with `None`, on none from now on."""
        self.trace = trace
        self.measure(trace is not None)

    def begin_workflow(self, acting: Callable[[], Acting | None]) -> int:
        """Let lines say who is at work in the calling thread, as `acting` finds out; returns the workflow's number."""
        self.acting = acting
        self.workflows += 1
        return self.workflows - 1

    def begin_loop(self, state: Callable[[], RunState]) -> None:
        """Give the state of a loop to whoever asks for it, from now on."""
        self.state = state

    def end_loop(self, workflow: str, last: RunState) -> None:
        """Keep the last state of a loop."""
        self.ended = {**self.ended, workflow: last}
        self.state = None

    def states(self) -> dict[str, RunState]:
        """Return the states of all loops up to now, by workflow."""
        state, name = self.state, self.identity.workflow
        return self.ended if state is None or name is None else {**self.ended, name: state()}

    def in_sample(self, number: int) -> bool:
        """Say whether the slice of this number is told."""
        return self.every <= 1.0 or number == 0 or int(number / self.every) != int((number - 1) / self.every)

    @contextmanager
    def opened(self) -> Iterator[Journal]:
        """Let the calling thread, and those that know of no other, use this journal for the duration of the block."""
        before = _Last.journal
        token = _journal.set(self)
        _Last.journal = self
        try:
            yield self
        finally:
            _journal.reset(token)
            _Last.journal = before

    @contextmanager
    def of_workflow(self, name: str) -> Iterator[None]:
        """Attribute what is told to one workflow of the job, for the duration of the block."""
        self.identity = self.identity._replace(workflow=name)
        try:
            yield
        finally:
            self.identity = self.identity._replace(workflow=None)


_journal: ContextVar[Journal | None] = ContextVar("h5flow_journal", default=None)


class _Last:
    """For threads that know of no journal, such as those of users' modules."""

    journal: Journal | None = None
    #: Rank and number of ranks of this process, before a run has begun.
    ranks: Callable[[], tuple[int, int]] = staticmethod(lambda: (0, 1))
    nobody: Identity | None = None


class _Sinks:
    """All of the process; replaced as a whole, so that threads needn't lock."""

    all: tuple[Sink, ...] = ()


def journal_of() -> Journal | None:
    """Return the journal of the run that the calling thread works for."""
    return _journal.get() or _Last.journal


def add_sink(sink: Sink) -> None:
    """Add a sink, which is told of all that is emitted from now on."""
    _Sinks.all = (*_Sinks.all, sink)


def remove_sink(sink: Sink) -> None:
    """Tell a sink nothing more."""
    _Sinks.all = tuple(other for other in _Sinks.all if other is not sink)


def is_heard(event: type[Event], level: int) -> bool:
    """Say whether a sink would take such an event in the calling thread."""
    journal = journal_of()
    return any(level >= sink.level(event) and (sink.journal is None or sink.journal is journal) for sink in _Sinks.all)


def emit(event: Event, level: int | None = None) -> None:
    """Tell an event to all sinks, and to listeners of its standard-library logger."""
    level = event.LEVEL if level is None else level
    tell(event, level)
    if event.LOGGER is not None:
        logger = logging.getLogger(event.LOGGER)
        if logger.isEnabledFor(level):
            logger.log(level, "%s", event, extra={"h5flow_event": event}, stacklevel=2)


def tell(event: Event, level: int) -> None:
    """Tell an event to all sinks."""
    journal = journal_of()
    who = speaker()
    kind = type(event)
    for sink in _Sinks.all:
        if level >= sink.level(kind) and (sink.journal is None or sink.journal is journal):
            sink.take(event, level, who if sink.journal is None else sink.journal.identity)


def speaker() -> Identity:
    """Say who the calling thread speaks for."""
    journal = journal_of()
    if journal is not None:
        return journal.identity
    if _Last.nobody is None:
        _Last.nobody = identity(None, *_Last.ranks())
    return _Last.nobody


def known_by(ranks: Callable[[], tuple[int, int]]) -> None:
    """Let a function say which rank this process is, of how many, as long as no run has begun."""
    _Last.ranks = staticmethod(ranks)


def note_told(error: BaseException) -> None:
    """Note that what has ended the run is told."""
    error.__dict__["h5flow_told"] = True


def is_told(error: BaseException) -> bool:
    """Say whether what has ended the run is told."""
    return "h5flow_told" in error.__dict__
