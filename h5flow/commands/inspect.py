"""`h5flow-async inspect`: what is in a file, how its datasets refer to each other, and what made it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from h5flow.commands.showing import as_json, printable, quoted, show, shown_size
from h5flow.core import provenance
from h5flow.core.provenance import RunRecord
from h5flow.data.inspection.facts import DatasetFacts, FileFacts, inspected, opened
from h5flow.telemetry.terminal import Terminal


class Report(msgspec.Struct, frozen=True):
    """What is known of a file: what is in it, whether it is complete, and the jobs that made it."""

    file: FileFacts
    complete: bool | None
    runs: tuple[RunRecord, ...]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="h5flow-async inspect",
        description="Show what is in an HDF5 file: datasets, the references between them, and the jobs that made it.",
    )
    result.add_argument("file", metavar="FILE.h5", help="the file; it may be one that is being written")
    result.add_argument(
        "--format",
        choices=("text", "json", "mermaid"),
        default="text",
        help="json has everything, mermaid is a diagram of the references (default: text)",
    )
    return result


def run(options: argparse.Namespace, _: Terminal) -> int:
    """Print what is in the file."""
    with opened(options.file) as file:
        runs = tuple(provenance.read(file))
        found = Report(inspected(file, options.file, provenance.TOP), _is_complete(runs), runs)
    if options.format == "json":
        show(as_json(found))
    else:
        lines = map(printable, _text(found)) if options.format == "text" else _mermaid(found.file)
        show("\n".join(lines))
    return 0


def _is_complete(runs: Iterable[RunRecord]) -> bool | None:
    """Say whether all jobs that have written to the file have come to their end; `None` if none says so."""
    runs = list(runs)
    return all(each.status == provenance.DONE for each in runs) if runs else None


def _text(report: Report) -> Iterator[str]:
    file = report.file
    state = {True: "complete", False: "NOT COMPLETE: a run that wrote it is at work, or has failed", None: ""}
    yield ", ".join(filter(None, [file.path, shown_size(file.bytes), state[report.complete]]))
    yield ""
    if not file.datasets:
        yield "no datasets"
    yield from _tree(file.datasets)
    for where, target in file.links:
        yield f"/{where} → {target}"
    for where, why in file.unreadable:
        yield f"/{where.lstrip('/')} can't be read: {why}"
    if file.references:
        yield ""
        yield "references"
        yield from _columns(
            [
                f"  {reference.parent} → {reference.child}",
                f"{reference.count:,}",
                f"of {_count(reference.parents)} rows to {_count(reference.children)}",
            ]
            for reference in file.references
        )
    for number, each in enumerate(report.runs, start=1):
        yield ""
        yield from _run(number, each)


def _tree(datasets: Iterable[DatasetFacts]) -> Iterator[str]:
    """Yield a line for each dataset, below lines for the groups that it is in."""
    lines: list[list[str]] = []
    above: list[str] = []
    for dataset in datasets:
        *groups, name = dataset.path.strip("/").split("/")
        same = 0
        while same < min(len(groups), len(above)) and groups[same] == above[same]:
            same += 1
        lines += [["  " * depth + group + "/"] for depth, group in enumerate(groups) if depth >= same]
        shape = "" if not dataset.row_shape else f" x {' x '.join(map(str, dataset.row_shape))}"
        rows = "scalar" if dataset.rows is None else f"{dataset.rows:,}{shape} rows"
        stored = f" as {shown_size(dataset.stored_bytes)} ({dataset.compression})" if dataset.compression else ""
        lines.append(["  " * len(groups) + name, rows, shown_size(dataset.bytes) + stored, dataset.type])
        # A dataset may have others below its own name.
        above = [*groups, name]
    return _columns(lines)


def _columns(lines: Iterable[list[str]], numbers: tuple[int, ...] = (1,)) -> Iterator[str]:
    """Yield lines with their cells aligned in columns; `numbers` are the places of numbers."""
    rows = list(lines)
    widths = [max((len(row[place]) for row in rows if len(row) > place + 1), default=0) for place in range(4)]
    for row in rows:
        cells = [
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        yield "  ".join(cells).rstrip()


def _run(number: int, run: RunRecord) -> Iterator[str]:
    took = ""
    if run.ended is not None:
        seconds = (datetime.fromisoformat(run.ended) - datetime.fromisoformat(run.started)).total_seconds()
        took = f", {seconds:.1f} s"
    ranks = f"{run.ranks} rank{'s' if run.ranks > 1 else ''}"
    yield f"run {number}: {run.run_id}, {run.status}, began {run.started[:19]}Z on {run.host}, {ranks}{took}"
    yield "  " + ", ".join(f"{name} {version}" for name, version in run.versions.items())
    for given in run.inputs:
        size = "missing" if given.size is None else shown_size(given.size)
        yield f"  input {given.path}, {size}" + (f", of {given.modified[:19]}Z" if given.modified else "")
    for workflow in run.workflows:
        yield (
            f"  {workflow.name}, {workflow.status}, {workflow.slices:,} slices, {workflow.rows:,} rows, storage"
            f" {workflow.storage}, sha256 {workflow.sha256[:12]}"
        )
        made_of = [
            [
                f"    {component.role} {component.key}",
                f"{component.module}.{component.classname}",
                component.class_version,
            ]
            for component in workflow.components
        ]
        yield from _columns(made_of, numbers=())


def _mermaid(file: FileFacts) -> Iterator[str]:
    """Yield a diagram: a box for each dataset, an arrow with their number for references."""
    yield "graph LR"
    names: dict[str, str] = {}
    rows = {dataset.path: dataset.rows for dataset in file.datasets}
    linked = [name for reference in file.references for name in (reference.parent, reference.child)]
    for name in dict.fromkeys([*rows, *linked]):
        names[name] = f"d{len(names)}"
        count = [] if rows.get(name) is None else [f"{rows[name]:,} rows"]
        yield f"  {names[name]}[{quoted(name, *count)}]"
    for reference in file.references:
        yield f"  {names[reference.parent]} -->|{reference.count:,}| {names[reference.child]}"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
