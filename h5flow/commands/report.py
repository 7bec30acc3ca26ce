"""`h5flow-async report`: what limited a run, from its logs, in words and as a page with pictures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from h5flow.commands.showing import as_json, show
from h5flow.errors import UsageError
from h5flow.report import Verdict, judged, read_run
from h5flow.telemetry.terminal import Terminal

#: What the page is called, in the folder of the logs, unless one says otherwise.
PAGE = "report.html"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="h5flow-async report",
        description="Say what limited a run, from its logs, and draw what it did: one page that needs nothing else.",
    )
    result.add_argument(
        "logs", metavar="LOGS", help="the folder of a run, logs/RUN_ID, or a log file; of a folder of runs the newest"
    )
    result.add_argument("-o", "--output", metavar="OUT.html", help=f"the page (default: {PAGE} beside the logs)")
    result.add_argument(
        "--format",
        choices=("html", "text", "json"),
        default="html",
        help="html: the page, and what it says in words; text, json: words only, without a page (default: html)",
    )
    return result


def run(options: argparse.Namespace, _: Terminal) -> int:
    """Print what is to be said of the run, and write the page."""
    if options.output is not None and options.format != "html":
        raise UsageError(f"-o is for the page, which --format {options.format} doesn't make")
    read = read_run(options.logs)
    verdict = judged(read)
    if options.format == "json":
        show(as_json(verdict))
        return 0
    show("\n".join(_lines(verdict)))
    if options.format == "html":
        # Not before: words need no plotly.
        from h5flow.report.page import page

        path = Path(options.output or read.files[0].parent / PAGE)
        if any(path.resolve() == log.resolve() for log in read.files):
            raise UsageError(f"-o '{path}' is one of the logs")
        _write(path, page(read, verdict))
        show(f"\npage: {path}")
    return 0


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"run {verdict.run_id}: {verdict.status}"
    yield verdict.outcome
    for loop in verdict.loops:
        yield ""
        if len(verdict.loops) > 1:
            yield f"{loop.workflow}:"
        yield from loop.sentences
        if loop.advice:
            yield "What would help:"
            yield from (f"  - {advice}" for advice in loop.advice)
    if verdict.notices:
        yield ""
        yield from (f"note: {notice}" for notice in verdict.notices)


def _write(path: Path, text: str) -> None:
    """Write a file that has its name when it is complete."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"page '{path}' can't be written: {error.strerror}") from error
