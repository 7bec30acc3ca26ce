"""The command `h5flow-async`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from h5flow import mpi
from h5flow.errors import ConfigError, DiscoveryError, H5FlowError, UsageError
from h5flow.runtime.stopping import Stopped

PROGRAM = "h5flow-async"

DONE, FAILED, WRONG = 0, 1, 2

# What is wrong on all ranks is said by the first one, before others end the job (seconds).
_LET_FIRST_RANK_SPEAK = 5.0

_EPILOG = """\
Defaults for input, output, start, end, compression, drop and overwrite can stand in the workflow file:

  run:
    input: raw.h5
    output: reco.h5

The output is written as OUT.h5.partial and gets its name when the run is complete.
Exit codes: 0 done, 1 the workflow failed, 2 wrong usage or wrong workflow file."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run HDF5 workflows, one after the other, on one output file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("workflows", nargs="*", metavar="WORKFLOW.yaml", help="workflow files, in order")
    result.add_argument(
        "-c", "--configs", nargs="+", action="extend", default=[], metavar="WORKFLOW.yaml", help="the same"
    )
    files = result.add_argument_group("files and rows")
    files.add_argument("-i", "--input_filename", "--input", metavar="IN.h5", help="input file")
    files.add_argument("-o", "--output_filename", "--output", metavar="OUT.h5", help="output file")
    files.add_argument("-s", "--start_position", "--start", type=int, metavar="ROW", help="first row of the source")
    files.add_argument("-e", "--end_position", "--end", type=int, metavar="ROW", help="row to stop before")
    files.add_argument(
        "-d",
        "--drop",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="datasets that the output shall not have, with all that lies below them",
    )
    files.add_argument("--overwrite", action="store_true", help="replace an output that is there; else it is extended")
    files.add_argument("-z", "--compression", choices=("gzip", "lzf"), help="compress new datasets")
    running = result.add_argument_group("running")
    running.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="override a value of the workflow files, e.g. --set runtime.strict=true",
    )
    running.add_argument("--nompi", action="store_true", help="don't use MPI")
    running.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv for everything")
    running.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
    running.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        options = parser().parse_intermixed_args(arguments)
        _set_up_logging(options.verbose)
        code = _outcome(options)
        if code != DONE:
            mpi.end_all(code)
        return code
    except Stopped as stopped:
        if mpi.launched_rank() == 0:
            _say(f"{PROGRAM}: {stopped}")
        if stopped.at_once:
            os._exit(128 + stopped.signal)  # threads may still be at work, and nobody waits for them
        return 128 + stopped.signal


def _outcome(options: argparse.Namespace) -> int:
    """Run the workflows; returns the exit code."""
    try:
        _run(options)
    except ConfigError as error:
        for problem in error.problems if mpi.launched_rank() == 0 else ():
            _say(f"{PROGRAM}: {problem}")
        return WRONG
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the last place to say what happened
        return _failed(error, verbose=options.verbose)
    return DONE


def _run(options: argparse.Namespace) -> None:
    from h5flow.core.job import run_workflows
    from h5flow.workflow import check_all, load

    paths = [*options.workflows, *options.configs]
    if not paths:
        raise UsageError("no workflow file given")
    configs = check_all([load(path) for path in paths], options.overrides)
    defaults = configs[0].run
    output = options.output_filename or defaults.output
    if output is None:
        raise UsageError(f"no output: give -o OUT.h5, or a default for it in {paths[0]} (run: {{output: …}})")
    start, end = options.start_position, options.end_position
    started = time.perf_counter()
    counts = run_workflows(
        configs,
        output,
        options.input_filename or defaults.input,
        defaults.start if start is None else start,
        defaults.end if end is None else end,
        drop=options.drop,
        compression=options.compression,
        overwrite=options.overwrite,
        nompi=options.nompi,
    )
    if not options.quiet and mpi.launched_rank() == 0:
        slices, rows = sum(done.slices for done in counts), sum(done.rows for done in counts)
        _say(f"{output}: {slices:,} slices, {rows:,} rows in {time.perf_counter() - started:.1f} s")


def _failed(error: Exception | SystemExit, verbose: int) -> int:
    """Say what went wrong, with the traceback where it may be a mistake in somebody's code."""
    from h5flow.runtime.failure import located

    if mpi.launched_rank() and isinstance(error, UsageError | DiscoveryError | mpi.OnFirstRank):
        if mpi.working_together():
            time.sleep(_LET_FIRST_RANK_SPEAK)
        return WRONG
    if verbose or not isinstance(error, H5FlowError):
        _print_traceback(error)
    where = located(error)
    message = str(error) if isinstance(error, H5FlowError) else f"{type(error).__name__}: {error}"
    _say(f"{PROGRAM}: {where}: {message}" if where else f"{PROGRAM}: {message}")
    return WRONG if isinstance(error, UsageError | DiscoveryError) else FAILED


def _print_traceback(error: BaseException) -> None:
    """Print a traceback that begins in the user's code, if the error comes from there."""
    package = str(Path(__file__).parent)
    own = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename.startswith(package):
        own = own.tb_next
    if own is not None:
        error.__traceback__ = own
    traceback.print_exception(error)


def _set_up_logging(verbose: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _stop(number: int, _frame: object) -> NoReturn:
    raise Stopped(number)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _version() -> str:
    from h5flow import __version__

    return __version__
