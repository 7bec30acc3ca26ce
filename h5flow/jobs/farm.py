"""Many files with the same workflows: each is a job of its own, and ranks take them from a queue until none is left."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from h5flow import mpi
from h5flow.core.classes import with_found_classes
from h5flow.errors import DiscoveryError, H5FlowError, UsageError
from h5flow.jobs.farm_report import FarmReport, FileOutcome, Stop
from h5flow.jobs.file_log import FileLog
from h5flow.jobs.inputs import FileJob, file_jobs_of
from h5flow.jobs.job import launched, run_workflows
from h5flow.jobs.rank_queue import Dealer, Group, RankQueue
from h5flow.ranks import leaving
from h5flow.ranks.leaving import OtherRankFailed
from h5flow.runtime.failure_report import line, traceback_of
from h5flow.runtime.steps import Done
from h5flow.runtime.stopping import Stopped, handled_anyway, handling
from h5flow.telemetry.terminal import Terminal
from h5flow.workflow import WorkflowConfig
from h5flow.workflow.positions import check_rows

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

# A failure of all ranks of a group is told by the first one, before others end the job (seconds).
_LET_FIRST_RANK_SPEAK = 2.0
#: How long a rank of a group that has failed waits for the others to come to an end with their file (seconds).
PATIENCE = 30.0
# How often is looked for a loop that can be stopped (seconds).
_LOOK_FOR_LOOP = 0.01


class GroupFailed(H5FlowError):
    """A file has failed that several ranks work on together, and some of them can't give it up."""


class FarmOptions(msgspec.Struct, frozen=True):
    """How each file is run, and what a failure means for the others."""

    start: int | None = None
    end: int | None = None
    drop: Sequence[str] = ()
    compression: str | None = None
    overwrite: bool = False
    in_place: bool = False
    nompi: bool = False
    ranks_per_file: int = 1
    fail_fast: bool = False
    #: Whether logging is shown on the terminal, too, and of which level it is written.
    verbose: bool = False
    level: int = logging.WARNING
    quiet: bool = False
    log_dir: str | None = None


class _Farm(msgspec.Struct, frozen=True):
    """Workflows, with their classes found, and the files on which they are run."""

    configs: Sequence[WorkflowConfig]
    jobs: Sequence[FileJob]
    options: FarmOptions
    overwrite: bool


def run_farm(
    configs: Sequence[WorkflowConfig], inputs: Sequence[str], output: str, options: FarmOptions, terminal: Terminal
) -> int:
    """Run checked workflows on each of several inputs; returns the exit code, the same on all ranks.

    Inputs are names and patterns, `output` has placeholders; see `file_jobs_of`. Outputs that are there already are
    skipped, unless `overwrite` says otherwise. All that can be wrong with classes and names is found before the
    first file is begun. The file that failed is named on the terminal by rank 0, and the others go on; where ranks that
    work on it together can't give it up, `GroupFailed` is raised. 128 more than a signal is the exit code when that has
    stopped the files in work.
    """
    overwrite = options.overwrite or configs[0].run.overwrite

    def plan() -> tuple[list[FileJob], list[int]]:
        check_rows(configs, options.start, options.end)
        jobs = file_jobs_of(inputs, output)
        for config in configs:
            with_found_classes(config)
        to_do = [number for number, job in enumerate(jobs) if overwrite or not job.is_done]
        # One that has ended the job would do so again, each time before others are reached.
        return jobs, sorted(to_do, key=lambda number: jobs[number].was_begun)

    if mpi.launched_ranks() == 1:
        _check_groups(1, options.ranks_per_file)
        jobs, to_do = plan()
        farm = _Farm([with_found_classes(config) for config in configs], jobs, options, overwrite)
        report = FarmReport(jobs, to_do, terminal.say, fail_fast=options.fail_fast, quiet=options.quiet)
        dealer = Dealer(to_do, report.receive)
        with _Signals().caught() as signals:
            _Worker(farm, signals, dealer.take, terminal).work()
        return _ended(report)
    # From here on a rank that left because of a signal would keep the others waiting.
    with _Signals().caught() as signals:
        world = launched(options.nompi)
        assert world is not None
        _check_groups(world.Get_size(), options.ranks_per_file)
        jobs, to_do = _planned_together(world, configs, plan)
        try:
            farm = _Farm([with_found_classes(config) for config in configs], jobs, options, overwrite)
            return _work_with_others(world, farm, to_do, signals, terminal)
        except Stopped:
            raise
        except BaseException:
            # The other ranks would wait for this one; whoever tells the error ends them.
            with mpi.together(world):
                raise


def _check_groups(size: int, of: int) -> None:
    """Raise `UsageError` if ranks can't be split into groups."""
    if of < 1 or size % of:
        raise UsageError(
            f"{size} ranks can't be split into groups of {of} (--ranks-per-file): start a multiple of it,"
            f" as in 'mpiexec -n {2 * max(1, of)}'"
        )


def _planned_together(
    world: Intracomm, configs: Sequence[WorkflowConfig], plan: Callable[[], tuple[list[FileJob], list[int]]]
) -> tuple[list[FileJob], list[int]]:
    """Return what rank 0 has planned; a mistake of the user's is raised on all ranks, which then end in order."""

    def plan_or_mistake() -> tuple[list[FileJob], list[int]] | UsageError | DiscoveryError:
        try:
            return plan()
        except (UsageError, DiscoveryError) as mistake:
            return mistake

    mpi.check_same(world, [repr(config) for config in configs], "the workflow files")
    with mpi.together(world):
        planned = mpi.on_first_rank(world, plan_or_mistake)
    if not isinstance(planned, tuple):
        raise planned
    return planned


def _work_with_others(
    world: Intracomm, farm: _Farm, to_do: Sequence[int], signals: _Signals, terminal: Terminal
) -> int:
    """Run files as one of several ranks, until all of them have no more; returns the exit code."""
    from mpi4py import MPI

    options = farm.options
    report = FarmReport(farm.jobs, to_do, terminal.say, fail_fast=options.fail_fast, quiet=options.quiet)
    rank = world.Get_rank()
    queue = RankQueue[FileOutcome | Stop](world.Dup(), Dealer(to_do, report.receive) if rank == 0 else None)
    if options.ranks_per_file == 1:
        named = f" (on rank {rank})"
        _Worker(farm, signals, queue.take, terminal, MPI.COMM_SELF, named).work()
    else:
        first = rank - rank % options.ranks_per_file
        comm = MPI.Intracomm(world.Split(first))
        group = Group(comm.Dup())
        named = f" (on ranks {first} to {first + options.ranks_per_file - 1})"
        _Worker(farm, signals, queue.take, terminal, comm, named, group).work()
    return queue.leave(lambda: _ended(report))


def _ended(report: FarmReport) -> int:
    """Tell how it went; the exit code."""
    report.tell()
    if report.signal is not None:
        return 128 + report.signal
    return 1 if report.have_failed else 0


class _Signals:
    """Signals during a farm: in a file as in a single run, between files noted. A second one stops at once.

    Only the main thread can catch them, and only those that the program handles anyway.
    """

    def __init__(self) -> None:
        self.noted: int | None = None
        self._raises = self._in_group = self._handing_on = False

    @contextmanager
    def caught(self) -> Iterator[_Signals]:
        """Catch signals for the duration of the block."""
        with handling(self._receive, handled_anyway()):
            yield self

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Let a signal raise `Stopped` within the block; so does one that came before."""
        self._raises = True
        try:
            if self.noted is not None:
                raise Stopped(self.noted)
            yield
        except Stopped as stopped:
            self.noted = stopped.signal
            raise
        finally:
            self._raises = False

    @contextmanager
    def handed_on(self) -> Iterator[None]:
        """Hold a signal back until there is a loop to be stopped, which all ranks of a group leave together.

        Elsewhere the others may be waiting for this rank.
        """
        self._in_group = True
        try:
            if self.noted is not None:
                self._hand_on(self.noted)
            yield
        except Stopped as stopped:
            self.noted = stopped.signal
            raise
        finally:
            self._in_group = False

    def _receive(self, number: int, _frame: object) -> None:
        if self._handing_on:  # the loop has just been left
            self._handing_on = False
            return
        again = self.noted is not None
        self.noted = number
        if again or self._raises:
            raise Stopped(number, at_once=again)
        if self._in_group:
            self._hand_on(number)

    def _hand_on(self, number: int) -> None:
        def wait_for_loop() -> None:
            while self._in_group:
                if signal.getsignal(number) != self._receive:
                    self._handing_on = True
                    os.kill(os.getpid(), number)
                    return
                time.sleep(_LOOK_FOR_LOOP)

        threading.Thread(target=wait_for_loop, name="h5flow signal", daemon=True).start()


class _Worker:
    """A rank, or one of a group of ranks, that runs file after file."""

    def __init__(
        self,
        farm: _Farm,
        signals: _Signals,
        take: Callable[[FileOutcome | Stop | None], int | None],
        terminal: Terminal,
        comm: Intracomm | None = None,
        named: str = "",
        group: Group | None = None,
    ) -> None:
        self._farm = farm
        self._signals = signals
        self._take = take
        self._terminal = terminal
        self._comm, self._named, self._group = comm, named, group

    def work(self) -> None:
        """Run files until there are no more."""
        result = None
        while (number := self._next(result)) is not None:
            result = self._run(number)

    def _next(self, result: FileOutcome | None) -> int | None:
        """Take the next file and make it ready to be begun; `None` if there are no more."""
        if self._group is None:
            return self._taken(result, self._signals.noted)
        noted = [signal for signal in self._group.gathered(self._signals.noted) if signal is not None]
        if not self._group.leads:
            return self._group.told()
        if result is not None and result.signal is not None and noted:
            # Ranks that were stopped by another one don't know by which signal.
            result = msgspec.structs.replace(result, signal=min(noted))
        return self._group.told(self._taken(result, noted[0] if noted else None))

    def _taken(self, result: FileOutcome | None, noted: int | None) -> int | None:
        if noted is not None:
            self._take(result)
            return self._take(Stop(noted))
        while (number := self._take(result)) is not None:
            try:
                FileLog.begin(self._farm.jobs[number].log)
            except OSError as error:
                result = FileOutcome(number, "failed", f"{self._farm.jobs[number].log}: {error.strerror}")
            else:
                return number
        return None

    def _run(self, number: int) -> FileOutcome:
        """Run the workflows on a file; whatever goes wrong is its own affair."""
        job = self._farm.jobs[number]
        started = time.perf_counter()
        with FileLog(job.log, self._terminal, self._farm.options.level, self._farm.options.verbose) as log:
            try:
                with self._signals.raised() if self._group is None else self._signals.handed_on():
                    counts = self._job(job)
            except Stopped as stopped:
                if stopped.at_once:
                    raise
                if self._group is not None and not stopped.progress:
                    # Others of the group are elsewhere and may wait for this one.
                    raise Stopped(stopped.signal, at_once=True) from stopped
                outcome = FileOutcome(number, "stopped", f"{stopped}{self._named}", stopped.signal)
            except BaseException as error:  # noqa: BLE001 - users' modules may raise anything
                why = line(error)
                if not isinstance(error, OtherRankFailed):
                    log.write(traceback_of(error))
                if self._group is not None:
                    why = self._given_up(self._group, job, error)
                outcome = FileOutcome(number, "failed", f"{why}{self._named}")
            else:
                slices, rows = sum(done.slices for done in counts), sum(done.rows for done in counts)
                seconds = time.perf_counter() - started
                text = f"{slices:,} slices, {rows:,} rows in {seconds:.1f} s{self._named}"
                outcome = FileOutcome(number, "done", text)
            if self._group is None or self._group.leads:
                failed = "failed: " if outcome.kind == "failed" else ""
                log.write(f"{job.output}: {failed}{outcome.text}")
        return outcome

    def _job(self, job: FileJob) -> list[Done]:
        options = self._farm.options
        return run_workflows(
            self._farm.configs,
            job.output,
            job.input,
            options.start,
            options.end,
            drop=options.drop,
            compression=options.compression,
            nompi=options.nompi,
            overwrite=self._farm.overwrite,
            in_place=options.in_place,
            comm=self._comm,
            log_dir=options.log_dir,
        )

    def _given_up(self, group: Group, job: FileJob, error: BaseException) -> str:
        """Say why a file has failed, when all ranks of the group have let go of it.

        Raises `GroupFailed` if they can't.
        """
        alone = None if isinstance(error, OtherRankFailed | mpi.OnFirstRank) else line(error)
        leaving.tell(line(error))
        each = group.failed(alone, PATIENCE)
        if each is None or not leaving.part(PATIENCE):
            if not group.leads:
                time.sleep(_LET_FIRST_RANK_SPEAK)
            raise GroupFailed(
                f"{job.input}: {line(error)}{self._named}. Not all of these ranks could give the file up, so all of"
                f" the job ends; traceback in '{job.log}'. The same command goes on with the files that are missing"
            ) from error
        mpi.parted()
        self._comm = group.another_comm()
        return next((why for why in each if why is not None), line(error))
