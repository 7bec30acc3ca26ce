"""A job as it is told: its run id, its log file, its beginning and its end."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from h5flow.runtime.failure_report import failure_event
from h5flow.runtime.stopping import Stopped
from h5flow.telemetry import Journal, emit
from h5flow.telemetry.events import Progress, RunStart, RunStopped, SliceDone
from h5flow.telemetry.journal import add_sink, identity, is_heard, new_run_id, note_told, remove_sink
from h5flow.telemetry.naming import filled, literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py.MPI import Intracomm

    from h5flow.workflow import WorkflowConfig

_log = logging.getLogger(__name__)

#: Shows a job that is running to people.
Watching = Callable[[Journal], AbstractContextManager[None]]

_PACKAGES = ("h5flow-async", "numpy", "h5py", "msgspec")


@contextmanager
def session(
    configs: Sequence[WorkflowConfig],
    comm: Intracomm | None,
    output: str,
    input_filename: str | None,
    log_dir: str | None = None,
    trace: str | None = None,
    watching: Watching | None = None,
) -> Iterator[Journal]:
    """Log a job for the duration of the block, as its first workflow or `log_dir` says; draw a `trace`. Collective.

    `watching` is entered with the journal, for who shows people how far it is.
    """
    settings = configs[0].logging
    run_id = new_run_id()
    rank, size = 0, 1
    if comm is not None:
        rank, size = comm.Get_rank(), comm.Get_size()
        run_id, trace = comm.bcast((run_id, trace))
    journal = Journal(
        identity(run_id, rank, size), every=1 / settings.sample if settings.sample < 1 else settings.sample
    )
    pattern = settings.file if log_dir is None else f"{literal(log_dir)}/{{run_id}}/rank-{{rank:04d}}.jsonl"
    with ExitStack() as stack:
        stack.enter_context(journal.opened())
        if pattern is not None:
            stack.enter_context(_log_file(filled(pattern, journal.identity), settings.level, journal))
        if configs[0].metrics.wanted:
            from h5flow.jobs.metrics_session import metered

            stack.enter_context(metered(journal, configs[0].metrics))
        if trace is not None:
            from h5flow.jobs.trace_session import drawn

            stack.enter_context(drawn(journal, trace, comm))
        journal.measure(is_heard(SliceDone, SliceDone.LEVEL))
        if watching is not None:
            stack.enter_context(watching(journal))
        if is_heard(Progress, Progress.LEVEL):
            from h5flow.telemetry import ticker

            due = (ticker.PROGRESS, ticker.telling_progress())
            stack.enter_context(ticker.Ticker(journal, [due]).running())
        names = [config.name for config in configs]
        emit(
            RunStart(
                workflows=names,
                output=output,
                input=input_filename,
                versions=_versions() if journal.measured else {},
                arguments=sys.argv,
            )
        )
        try:
            yield journal
        except Stopped as stopped:
            emit(RunStopped(signal=stopped.signal.name, at_once=stopped.at_once, progress=stopped.progress))
            note_told(stopped)
            raise
        except BaseException as error:
            emit(failure_event(error))
            note_told(error)
            raise


@contextmanager
def _log_file(path: str, level_name: str, journal: Journal) -> Iterator[None]:
    from h5flow.telemetry.log_file import LogFile
    from h5flow.telemetry.standard import keep_records_told, printing_told, records_told
    from h5flow.telemetry.ticker import QUEUES, Ticker, tell_queues

    level = logging.getLevelNamesMapping()[level_name.upper()]
    file = LogFile(path, level, journal=journal, complain=_log.warning)
    if not file.is_open:
        yield
        return
    journal.measure()
    add_sink(file)
    try:
        dues = [(QUEUES, tell_queues), (0.0, lambda _: keep_records_told())]
        with records_told(level), printing_told(), Ticker(journal, dues).running():
            yield
    finally:
        remove_sink(file)
        file.close()


def _versions() -> dict[str, str]:
    from importlib import metadata

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # run from a folder of sources
    return versions


def size_of_file(path: str) -> int | None:
    """Return the size of a file in bytes, `None` if it isn't there."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return None
