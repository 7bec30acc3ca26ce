"""The command `h5flow-async`."""

from __future__ import annotations

import argparse
import gc
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from h5flow import mpi
from h5flow.commands import COMMANDS, command
from h5flow.errors import ConfigError, DiscoveryError, H5FlowError, UsageError
from h5flow.runtime.stopping import SIGNALS, Stopped, handling
from h5flow.telemetry import emit
from h5flow.telemetry.journal import is_told, known_by
from h5flow.telemetry.terminal import Terminal

if TYPE_CHECKING:
    from h5flow.workflow import WorkflowConfig

PROGRAM = "h5flow-async"

DONE, FAILED, WRONG = 0, 1, 2

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

# What is wrong on all ranks is said by the first one, before others end the job (seconds).
_LET_FIRST_RANK_SPEAK = 5.0

_INPUT = ("-i", "--input_filename", "--input")
_OUTPUT_HELP = "output file; for several inputs a pattern with {stem}, {name} or {parent} of the input"
# Tells names of workflows from those of inputs before them.
_WORKFLOWS_FOLLOW = "--workflows-follow"

_EPILOG = f"""\
Other commands, each with a --help of its own:

{chr(10).join(f"  {PROGRAM} {name:8} {what}" for name, what in COMMANDS.items())}

Defaults for input, output, start, end, compression, drop, overwrite and in_place can stand in the workflow file:

  run:
    input: raw.h5
    output: reco.h5

The output is written as OUT.h5.partial and gets its name when the run is complete.
Exit codes: 0 done, 1 the workflow failed, 2 wrong usage or wrong workflow file."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal.

    How wide that is, argparse asks shutil, whenever an argument is added; its import takes as long as the parsing.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run HDF5 workflows, one after the other, on one output file.",
        epilog=_EPILOG,
        formatter_class=_Help,
    )
    result.add_argument(_WORKFLOWS_FOLLOW, action="store_true", help=argparse.SUPPRESS)
    result.add_argument("workflows", nargs="*", metavar="WORKFLOW.yaml", help="workflow files, in order")
    result.add_argument(
        "-c", "--configs", nargs="+", action="extend", default=[], metavar="WORKFLOW.yaml", help="the same"
    )
    files = result.add_argument_group("files and rows")
    files.add_argument(
        *_INPUT,
        nargs="+",
        action="extend",
        default=[],
        metavar="IN.h5",
        help="input file; several, and patterns such as 'raw/*.h5', each with an output of its own",
    )
    files.add_argument("-o", "--output_filename", "--output", metavar="OUT.h5", help=_OUTPUT_HELP)
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
    files.add_argument(
        "--in-place",
        action="store_true",
        help="extend the output itself, not a copy of it: saves the time and the room that a copy takes, but a run that"
        " fails or is killed leaves it changed, perhaps unreadable, as OUT.h5.partial, and there is no other",
    )
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
    running.add_argument(
        "--ranks-per-file",
        type=int,
        metavar="K",
        help="with several inputs under mpiexec: how many ranks work on a file together (default: 1)",
    )
    running.add_argument("--fail-fast", action="store_true", help="begin no more inputs when one has failed")
    running.add_argument("--nompi", action="store_true", help="don't use MPI")
    running.add_argument("--log-dir", metavar="DIR", help="write JSON logs to DIR/RUN_ID/rank-0000.jsonl and so on")
    running.add_argument("--trace", metavar="OUT.json", help="draw what the run does, for ui.perfetto.dev")
    running.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv for everything")
    running.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
    running.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    _have_standard_streams()
    with handling(_stop, SIGNALS):
        return _main(list(sys.argv[1:] if arguments is None else arguments))


def _have_standard_streams() -> None:
    """See that what is printed goes nowhere where the standard streams are closed, and not into the next file opened.

    Where they don't have a sign, it is printed as an escape.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: PTH123, SIM115
        elif number and isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _main(given: Sequence[str]) -> int:
    terminal = Terminal(mpi.launched_rank())
    try:
        run: Callable[[argparse.Namespace, Terminal], int] = _run
        if given and given[0] in COMMANDS:
            other = command(given[0])
            options, run = other.parser().parse_args(given[1:]), other.run
        else:
            options = parser().parse_intermixed_args(_told_apart(given))
        verbose = getattr(options, "verbose", 0)
        terminal.set_up(_LEVELS[min(verbose, 2)], getattr(options, "quiet", False))
        known_by(lambda: (mpi.launched_rank(), mpi.launched_ranks()))
        with terminal.told():
            code = _outcome(run, options, verbose, terminal)
        if code != DONE:
            mpi.end_all(code)
        return code
    except Stopped as stopped:
        with handling(_ends_anyway, SIGNALS):
            return _stopped(stopped, terminal)


def _outcome(
    run: Callable[[argparse.Namespace, Terminal], int], options: argparse.Namespace, verbose: int, terminal: Terminal
) -> int:
    """Run the workflows, or what else there is to do; returns the exit code."""
    try:
        return run(options, terminal)
    except ConfigError as error:
        for problem in error.problems if mpi.launched_rank() == 0 else ():
            terminal.say(f"{PROGRAM}: {problem}", logging.ERROR)
        return WRONG
    except Stopped:
        raise
    except BaseException as error:  # noqa: BLE001 - the last place to say what happened
        return _failed(error, verbose, terminal)


def _stopped(stopped: Stopped, terminal: Terminal) -> int:
    """Say that a signal has ended the run, and end ranks that would wait for this one; returns the exit code."""
    code = 128 + stopped.signal
    rank = mpi.launched_rank()
    alone = mpi.working_together() and not stopped.at_once
    if rank and alone:
        # Most signals are for all ranks, and then it is said by the first one.
        time.sleep(_LET_FIRST_RANK_SPEAK)
    if (rank == 0 or alone) and not (terminal.all_json and is_told(stopped)):
        where = f" on rank {rank}" if rank else ""
        terminal.say(f"{PROGRAM}: {stopped}{where}", logging.WARNING)
    if stopped.at_once:
        os._exit(code)  # threads may still be at work, and nobody waits for them
    mpi.end_all(code)
    mpi.end_all_before_start(code)
    return code


def _told_apart(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, with a mark before a workflow file that follows inputs, which isn't one of them."""
    result, among_inputs = [], False
    for argument in arguments:
        if argument.startswith("-"):
            among_inputs = argument in _INPUT
        elif among_inputs and argument.lower().endswith((".yaml", ".yml")):
            result.append(_WORKFLOWS_FOLLOW)
            among_inputs = False
        result.append(argument)
    return result


def _run(options: argparse.Namespace, terminal: Terminal) -> int:
    from h5flow.data.file.output_file import OutputFile
    from h5flow.jobs.inputs import are_several
    from h5flow.workflow import check_all, load
    from h5flow.workflow.positions import check_rows

    paths = [*options.workflows, *options.configs]
    if not paths:
        taken = f": '{options.input_filename[-1]}' was taken for an input" if options.input_filename else ""
        raise UsageError(f"no workflow file given{taken}")
    configs = check_all([load(path) for path in paths], options.overrides)
    terminal.use(configs[0].logging.format)
    mpi.tell_strangers()
    defaults = configs[0].run
    output = options.output_filename or defaults.output
    if output is None:
        raise UsageError(f"no output: give -o OUT.h5, or a default for it in {paths[0]} (run: {{output: …}})")
    start, end = options.start_position, options.end_position
    start = defaults.start if start is None else start
    end = defaults.end if end is None else end
    inputs = options.input_filename or ([] if defaults.input is None else [defaults.input])
    if are_several(inputs, output):
        return _run_many(options, configs, inputs, output, start, end, terminal)
    if options.ranks_per_file is not None:
        raise UsageError("--ranks-per-file is for several inputs; all ranks work on a single one")
    check_rows(configs, start, end)
    started = time.perf_counter()
    source = inputs[0] if inputs else None
    file = OutputFile(output, options.overwrite or defaults.overwrite, options.in_place or defaults.in_place)
    try:
        if mpi.launched_ranks() == 1 and (source is None or configs[0].loops_over_input):
            file.begin(source)  # a copy, if it takes one, is made beside all that has to be imported
        with _importing():
            from h5flow.jobs.job import run_workflows

        counts = run_workflows(
            configs,
            output,
            source,
            start,
            end,
            drop=options.drop,
            compression=options.compression,
            nompi=options.nompi,
            log_dir=options.log_dir,
            trace=options.trace,
            watching=terminal.progress,
            output=file,
        )
    finally:
        file.give_up()
    if not (options.quiet or terminal.all_json) and mpi.launched_rank() == 0:
        slices, rows = sum(done.slices for done in counts), sum(done.rows for done in counts)
        terminal.say(f"{output}: {slices:,} slices, {rows:,} rows in {time.perf_counter() - started:.1f} s")
    return DONE


@contextmanager
def _importing() -> Iterator[None]:
    """Keep the garbage collector off what imports in the block make, now and later: none of it is garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _run_many(
    options: argparse.Namespace,
    configs: Sequence[WorkflowConfig],
    inputs: Sequence[str],
    output: str,
    start: int | None,
    end: int | None,
    terminal: Terminal,
) -> int:
    """Run the workflows on each of several inputs; returns the exit code."""
    from h5flow.jobs.farm import FarmOptions, run_farm

    if options.trace is not None:
        raise UsageError("--trace is for a single input")
    farm = FarmOptions(
        start=start,
        end=end,
        drop=options.drop,
        compression=options.compression,
        overwrite=options.overwrite,
        in_place=options.in_place,
        nompi=options.nompi,
        ranks_per_file=1 if options.ranks_per_file is None else options.ranks_per_file,
        fail_fast=options.fail_fast,
        verbose=options.verbose > 0,
        level=_LEVELS[min(options.verbose, 2)],
        quiet=options.quiet,
        log_dir=options.log_dir,
    )
    return run_farm(configs, inputs, output, farm, terminal)


def _failed(error: BaseException, verbose: int, terminal: Terminal) -> int:
    """Say what went wrong, with the traceback where it may be a mistake in somebody's code."""
    from h5flow.runtime.failure_report import failure_event, line, traceback_of

    if mpi.launched_rank() and isinstance(error, UsageError | DiscoveryError | mpi.OnFirstRank):
        if mpi.working_together():
            time.sleep(_LET_FIRST_RANK_SPEAK)
        return WRONG
    if terminal.all_json:
        if not is_told(error):
            emit(failure_event(error))
    else:
        if verbose or not isinstance(error, H5FlowError):
            sys.stderr.write(traceback_of(error))
        terminal.say(f"{PROGRAM}: {line(error)}")
    return WRONG if isinstance(error, UsageError | DiscoveryError) else FAILED


def _stop(number: int, _frame: object) -> NoReturn:
    raise Stopped(number)


def _ends_anyway(_number: int, _frame: object) -> None:
    """Ignore a further signal: whoever left now might leave others waiting for it to start MPI."""


def _version() -> str:
    from h5flow._version import __version__

    return __version__
