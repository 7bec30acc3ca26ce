"""A job: workflows one after the other on one output file."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from h5flow import mpi
from h5flow.core.h5_flow_manager import H5FlowManager
from h5flow.core.part_of_job import PartOfJob
from h5flow.core.provenance import Provenance
from h5flow.data.file.output_file import OutputFile
from h5flow.errors import UsageError
from h5flow.jobs.session import Watching, session, size_of_file
from h5flow.runtime.steps import Done
from h5flow.telemetry import emit
from h5flow.telemetry.events import FilePublished, RunDone
from h5flow.workflow import WorkflowConfig, check, load
from h5flow.workflow.positions import check_rows

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def run_workflows(
    configs: Sequence[WorkflowConfig],
    output_filename: str,
    input_filename: str | None = None,
    start_position: int | None = None,
    end_position: int | None = None,
    drop: Sequence[str] = (),
    compression: str | None = None,
    nompi: bool = False,
    overwrite: bool = False,
    in_place: bool = False,
    comm: Intracomm | None = None,
    log_dir: str | None = None,
    trace: str | None = None,
    watching: Watching | None = None,
    output: OutputFile | None = None,
) -> list[Done]:
    """Run checked workflows in order; from the second on, the file is also the input. Returns how far each got.

    Collective on `comm`, without one on all ranks that were launched; rank 0 returns how far all of them got.

    An output that is there already is extended, itself if `in_place` or else a copy of it, or with `overwrite`
    replaced. `drop` applies to the last workflow, since the others may need what is dropped. The output has its name
    only when all are done; until then, and after a failure, it is `<output_filename>.partial`. Components of later
    workflows are told the output's name as that of their input; they read it through the data manager. With a
    `log_dir` the job is told in a file of each rank in a folder there, with `trace` drawn in a file. `output` may have
    been begun already, of that name.
    """
    if not configs:
        raise UsageError("no workflow to run")
    # Before the input is copied, which may take long.
    check_rows(configs, start_position, end_position)
    if comm is None:
        comm = launched(nompi)
    if output is None:
        output = OutputFile(output_filename, overwrite or configs[0].run.overwrite, in_place or configs[0].run.in_place)
    started = time.perf_counter()
    with mpi.together(comm):
        if comm is not None:
            mpi.check_same(comm, [repr(config) for config in configs], "the workflow files")
            # The first one on a communicator duplicates it with the GIL held: later, when ranks have stopped, one
            # that still asks this one for rows would get no answer, and this one would wait for it.
            comm.allreduce(0)
        with session(configs, comm, output_filename, input_filename, log_dir, trace, watching) as journal:
            provenance = Provenance(
                str(journal.identity.run_id),
                journal.identity.size,
                [input_filename],
                {
                    "output": output_filename,
                    "input": input_filename,
                    "start": start_position,
                    "end": end_position,
                    "drop": list(drop),
                    "compression": compression,
                    "overwrite": output.overwrite,
                    "extends": output.extends(input_filename),
                },
            )
            counts = []
            for number, config in enumerate(configs, start=1):
                last = number == len(configs)
                with journal.of_workflow(config.name):
                    manager = H5FlowManager(
                        config,
                        output_filename,
                        input_filename,
                        start_position,
                        end_position,
                        compression or config.run.compression,
                        mpi=False if nompi else None,
                        part=PartOfJob(
                            output=output,
                            comm=comm,
                            provenance=provenance,
                            drop=(*config.run.drop, *drop) if last else config.run.drop,
                            first=number == 1,
                            last=last,
                        ),
                    )
                    counts.append(_run(manager))
                # Not the working file's name: components look at how it ends, look it up in tables and store it. One
                # that opens the file by itself finds none, or an older output; with the working file it would be
                # worse off, for if it were first to open it, the data manager could not open it for writing any more.
                input_filename = output_filename
            if comm is None:
                output.publish()
            else:
                mpi.on_first_rank(comm, output.publish)
                counts = [comm.reduce(done) or done for done in counts]
            if comm is None or comm.Get_rank() == 0:
                emit(FilePublished(path=output_filename, bytes=size_of_file(output_filename)))
            total = sum(counts, start=Done())
            seconds = time.perf_counter() - started
            emit(RunDone(output=output_filename, slices=total.slices, rows=total.rows, seconds=seconds))
    return counts


def launched(nompi: bool) -> Intracomm | None:
    """Return all ranks, if a launcher has started several; raises `UsageError` if they can't work together."""
    ranks = mpi.launched_ranks()
    if ranks == 1:
        return None
    if nompi:
        raise UsageError(f"started on {ranks} ranks with --nompi: start it without mpiexec")
    mpi.check_launch(ranks)
    return mpi.world()


def _run(manager: H5FlowManager) -> Done:
    """Run one workflow; says how far it got."""
    try:
        manager.init()
        manager.run()
        manager.finish()
    except BaseException:
        manager.abandon()
        raise
    return manager.done


def run(
    configs: str | Path | Sequence[str | Path],
    output_filename: str,
    input_filename: str | None = None,
    start_position: int | None = None,
    end_position: int | None = None,
    verbose: int = 0,
    drop: Sequence[str] | None = None,
    nompi: bool = False,
    compression: str | None = None,
    log_dir: str | None = None,
    trace: str | None = None,
) -> None:
    """Run workflow files in order on one output file; from the second on, the output is also the input.

    `start_position` and `end_position` bound the rows of the source dataset, the end not included, by default all;
    `drop` names datasets that the output shall not have; `compression` of new datasets is `'gzip'`, `'lzf'`, or none;
    `verbose` 1 logs at info level, 2 at debug level; `log_dir` gets a folder with a log file of each rank. Loggers of
    the application stay as they are: what users' modules log is in the log file as far as those let it pass. `trace`
    is a file that Perfetto opens. The output is `<output_filename>.partial` until all is done.

    Collective where a launcher has started several ranks, of which a failure of one ends all. Raises `UsageError`,
    `ConfigError` if a workflow is wrong as written, before anything is opened, `DiscoveryError` for a class that isn't
    found, `Stopped` after SIGINT or SIGTERM, and what a component raises.
    """
    if verbose:
        logging.basicConfig()
        logging.getLogger("h5flow").setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    paths = [configs] if isinstance(configs, str | Path) else configs
    try:
        run_workflows(
            [check(load(str(path))) for path in paths],
            output_filename,
            input_filename,
            start_position,
            end_position,
            drop=drop or (),
            compression=compression,
            nompi=nompi,
            log_dir=log_dir,
            trace=trace,
        )
    except BaseException:
        if mpi.working_together():
            traceback.print_exc()
            mpi.end_all(1)
        raise
