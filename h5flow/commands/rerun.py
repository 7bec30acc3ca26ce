"""`h5flow-async rerun`: run again what made a file, and say what is different now."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from h5flow import mpi
from h5flow.core import provenance
from h5flow.core.provenance import InputRecord, RunRecord
from h5flow.data.inspection.facts import opened
from h5flow.data.storage.object_references import portable
from h5flow.data.storage.opening import UNREADABLE
from h5flow.data.storage.walk import objects_below
from h5flow.errors import DiscoveryError, UsageError
from h5flow.jobs.job import run_workflows
from h5flow.telemetry.terminal import Terminal
from h5flow.workflow import Document, WorkflowConfig, check_all, get_class, load_text

_ROWS = 1 << 16
# What the name of a workflow ends with that was run again.
_FROM = re.compile(r" \(in .*\)$")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="h5flow-async rerun",
        description="Run again what made a file: the same workflows, as they were then, on the same input. Classes are"
        " those of today; what is different from then is said before it runs.",
    )
    result.add_argument("file", metavar="OUT.h5", help="a file that h5flow-async has made")
    result.add_argument("-o", "--output", required=True, metavar="AGAIN.h5", help="the new output")
    result.add_argument("-i", "--input", metavar="IN.h5", help="the input, if it isn't where it was")
    result.add_argument("--run", type=int, metavar="N", help="which run, as 'inspect' counts them (default: the last)")
    result.add_argument("--compare", action="store_true", help="compare all datasets then; exit code 1 if any differs")
    result.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    result.add_argument("--nompi", action="store_true", help="don't use MPI")
    result.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv for everything")
    result.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
    return result


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Run what made a file again."""
    record = _chosen(options.file, options.run)
    source = options.input or _input_of(record)
    configs = check_all([_document(options.file, workflow.name, workflow.text) for workflow in record.workflows])
    terminal.use(configs[0].logging.format)
    first = mpi.launched_rank() == 0
    if first and not options.quiet:
        different = list(_different(record, configs, source))
        for line in different or ["nothing is different from then"]:
            terminal.say(f"rerun: {line}")
    if Path(options.output).exists() and not options.overwrite:
        raise UsageError(f"output '{options.output}' exists; choose another one, or --overwrite")
    given = record.arguments
    counts = run_workflows(
        configs,
        options.output,
        source,
        given.get("start"),
        given.get("end"),
        drop=given.get("drop") or (),
        compression=given.get("compression"),
        nompi=options.nompi,
        overwrite=options.overwrite,
        watching=terminal.progress,
    )
    if first and not (options.quiet or terminal.all_json):
        slices, rows = sum(done.slices for done in counts), sum(done.rows for done in counts)
        terminal.say(f"{options.output}: {slices:,} slices, {rows:,} rows")
    return _compared(options.file, options.output, terminal) if options.compare and first else 0


def _chosen(path: str, number: int | None) -> RunRecord:
    with opened(path) as file:
        runs = provenance.read(file)
    if not runs:
        raise UsageError(f"'{path}' doesn't say what made it: only h5flow-async 0.3 and later write that down")
    if number is not None and not 1 <= number <= len(runs):
        raise UsageError(f"'{path}' has runs 1 to {len(runs)}, not {number}")
    return runs[-1 if number is None else number - 1]


def _document(path: str, name: str, text: str) -> Document:
    # What made the file may have been run again from a file itself.
    return load_text(text, f"{_FROM.sub('', name)} (in {path})")


def _input_of(record: RunRecord) -> str | None:
    """Find the input, as it was named then, from here or from the folder of the run."""
    if not record.inputs:
        return None
    path = record.inputs[0].path
    there = Path(record.folder, path)
    return str(there) if not Path(path).exists() and there.exists() else path


def _different(record: RunRecord, configs: Sequence[WorkflowConfig], source: str | None) -> Iterator[str]:
    """Yield sentences on what is different from a run."""
    if record.status != provenance.DONE:
        yield f"the run had not come to its end: {record.status}"
    if record.arguments.get("extends"):
        yield "the run went on with a file that was there; this one doesn't, unless that is given as input"
    now = provenance.versions()
    for name in {**record.versions, **now}:
        then, here = record.versions.get(name), now.get(name)
        if then != here and not (name.startswith("mpi") and here is None):
            yield f"{name}: {then or 'not there'} then, {here or 'not there'} now"
    ranks = mpi.launched_ranks()
    if ranks != record.ranks:
        yield f"{record.ranks} ranks then, {ranks} now: another order of rows (mpiexec -n {record.ranks} has the same)"
    for config, workflow in zip(configs, record.workflows, strict=True):
        sections = {section.key: section for section in (*config.resources, *config.stages)}
        if config.generator is not None:
            sections[config.generator.key] = config.generator
        for component in workflow.components:
            section = sections.get(component.key)
            if section is None:
                continue
            try:
                found = get_class(section.classname, section.path)
            except DiscoveryError as error:
                raise DiscoveryError(f"{error}; the run was started in '{record.folder}'") from error
            here_ = provenance.record_of(component.role, component.key, found)
            for what in ("module", "class_version", "package_version"):
                then, here = getattr(component, what), getattr(here_, what)
                if then != here:
                    yield f"{component.role} '{component.key}': {what.replace('_', ' ')} {then} then, {here} now"
    if record.inputs and source is not None:
        yield from _different_input(record.inputs[0], source)


def _different_input(then: InputRecord, path: str) -> Iterator[str]:
    (now,) = provenance.records_of([path])
    if then.size != now.size:
        yield f"input '{path}': {then.size} bytes then, {'missing' if now.size is None else f'{now.size} bytes'} now"
    elif then.modified != now.modified:
        yield f"input '{path}': modified {then.modified} then, {now.modified} now, of the same size"


def _compared(one: str, other: str, terminal: Terminal) -> int:
    """Say which datasets of two files differ; returns the exit code."""
    with opened(one) as first, opened(other) as second:
        names = sorted(_datasets(first) | _datasets(second))
        different = []
        for name in names:
            try:
                if not _same(first.get(name), second.get(name)):
                    different.append(name)
            except UNREADABLE as error:
                terminal.say(f"rerun: dataset '/{name}' can't be compared: {error}")
    for name in different:
        terminal.say(f"rerun: dataset '/{name}' differs")
    if not different:
        terminal.say(f"rerun: all {len(names)} datasets are the same")
    return 1 if different else 0


def _datasets(file: h5py.File) -> set[str]:
    return {path for path, found in objects_below(file["/"]) if isinstance(found, h5py.Dataset)}


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.shape:
        return bool(_plain(one[()], one.file) == _plain(other[()], other.file))
    parts = (slice(start, start + _ROWS) for start in range(0, one.shape[0], _ROWS))
    return all(_plain(one[part], one.file) == _plain(other[part], other.file) for part in parts)


def _plain(values: Any, file: h5py.File) -> Any:
    """Return values that can be compared: NaN equals NaN, padding between fields is left out, references are paths."""
    array = np.asarray(values)
    if array.dtype.names is not None:
        return [_plain(array[name], file) for name in array.dtype.names]
    if not array.dtype.hasobject:
        return array.tobytes()
    array = portable(array, file)
    return [_plain(each, file) if isinstance(each, np.ndarray) else each for each in array.flat]
