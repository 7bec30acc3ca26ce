"""`h5flow-async plan`: what a job would do, without doing it."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout

from h5flow.commands.showing import as_json, printable, quoted, show, shown_size, single
from h5flow.jobs.planning import LATE, MISSING, Plan, PlannedComponent, PlannedWorkflow, plan
from h5flow.telemetry.terminal import Terminal
from h5flow.workflow import check_all, load


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="h5flow-async plan",
        description="Show what would run: components, actors and queues, when each requirement is loaded and why, who"
        " waits for whom. Components are made and their init is called, on a skeleton of the input without rows;"
        " nothing is written.",
    )
    result.add_argument("workflows", nargs="+", metavar="WORKFLOW.yaml", help="workflow files, in order")
    result.add_argument("-i", "--input", metavar="IN.h5", help="the input")
    result.add_argument("-o", "--output", metavar="OUT.h5", help="the output that is meant")
    result.add_argument("-s", "--start", type=int, metavar="ROW", help="first row of the source")
    result.add_argument("-e", "--end", type=int, metavar="ROW", help="row to stop before")
    result.add_argument("-z", "--compression", choices=("gzip", "lzf"), help="compress new datasets")
    result.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="override")
    result.add_argument("--format", choices=("text", "json", "mermaid"), default="text", help="default: text")
    result.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv for everything")
    return result


def run(options: argparse.Namespace, _: Terminal) -> int:
    """Print the plan."""
    configs = check_all([load(path) for path in options.workflows], options.overrides)
    defaults = configs[0].run
    start, end = options.start, options.end
    source = single(options.input or defaults.input)
    # What components print isn't part of the plan, which may be read by a program.
    with redirect_stdout(sys.stderr):
        found = plan(
            configs,
            options.output or defaults.output,
            source,
            defaults.start if start is None else start,
            defaults.end if end is None else end,
            options.compression,
        )
    if options.format == "json":
        text = as_json(found)
    else:
        text = "\n".join(map(printable, _text(found)) if options.format == "text" else _mermaid(found))
    show(text)
    return 0


def _text(found: Plan) -> Iterator[str]:
    yield f"input     {found.input or 'none'}"
    yield f"output    {found.output or 'not given'}" + (f", {found.compression}" if found.compression else "")
    yield f"storage   serial on one rank; on several {found.storage_on_ranks}, since {found.why_storage}"
    for workflow in found.workflows:
        yield ""
        yield from _workflow(workflow)


def _workflow(workflow: PlannedWorkflow) -> Iterator[str]:
    # In sequential mode there are no queues, nobody loads ahead, and nobody waits for others.
    pipelined = workflow.mode == "pipelined"
    yield f"{workflow.name}, {workflow.mode}"
    yield f"  {_slices(workflow)}; " + (_in_flight(workflow) if pipelined else "one at a time")
    for resource in workflow.resources:
        yield from _component("", resource)
    yield from _component("─▶ ", workflow.generator)
    if pipelined:
        yield f"     │ {workflow.generator_depth} slices"
        early = [need.name for stage in workflow.stages for need in stage.requires if need.when not in (LATE, MISSING)]
        yield f"  ─▶ prefetcher: {workflow.loaders} loaders load {', '.join([workflow.source, *dict.fromkeys(early)])}"
        yield f"     │ {workflow.prefetch_depth} slices"
    for stage in workflow.stages:
        yield from _component("─▶ ", stage)
        for need in stage.requires:
            size = "" if need.bytes is None else f", about {shown_size(need.bytes)} a slice"
            when = f"{need.when}, {need.why}" if pipelined or need.when == MISSING else "loaded at this stage"
            yield f"       requires {need.name} ({' → '.join(need.path)}): {when}{size}"
        if pipelined:
            yield from (f"       waits {wait}" for wait in stage.waits)
            yield f"     │ {stage.depth} slices"
    if pipelined:
        yield "  ─▶ committer"
    if workflow.drop:
        yield f"  dropped at the end: {', '.join(workflow.drop)}"
    yield from (f"  note: {oversight}" for oversight in workflow.oversights)


def _component(sign: str, component: PlannedComponent) -> Iterator[str]:
    place = f" ({component.place})" if component.place else ""
    yield f"  {sign}{component.name}{place}: {component.module}.{component.classname} {component.version}"
    if component.source:
        yield f"       from {component.source}"
    if component.makes:
        yield f"       makes {', '.join(component.makes)}"
    if component.problem:
        yield f"       its init could not be tried without rows: {component.problem}"


def _mermaid(found: Plan) -> Iterator[str]:
    """Yield a diagram: actors with the depths of queues between them, and who has what of whom."""
    yield "graph LR"
    for number, workflow in enumerate(found.workflows):
        stages = {stage.name: f"w{number}s{position}" for position, stage in enumerate(workflow.stages)}
        yield f"  subgraph w{number}[{quoted(workflow.name)}]"
        yield f"  w{number}g([{quoted(workflow.generator.name)}])"
        yield from (f"  {key}[{quoted(name)}]" for name, key in stages.items())
        actors = [(f"w{number}g", workflow.generator_depth)]
        actors += [(stages[stage.name], stage.depth) for stage in workflow.stages]
        if workflow.mode == "pipelined":
            yield f'  w{number}p["prefetcher<br/>{workflow.loaders} loaders"]'
            yield f'  w{number}c(["committer"])'
            actors.insert(1, (f"w{number}p", workflow.prefetch_depth))
            actors.append((f"w{number}c", 0))
        for (before, depth), (after, _) in itertools.pairwise(actors):
            yield f"  {before} -->{f'|{depth}|' if workflow.mode == 'pipelined' else ''} {after}"
        for stage in workflow.stages:
            for need in stage.requires:
                if need.maker is not None:
                    yield f"  {stages[need.maker]} -.->|{quoted(need.name)}| {stages[stage.name]}"
        yield "  end"


def _in_flight(workflow: PlannedWorkflow) -> str:
    if workflow.max_in_flight == "auto":
        return "as many in flight as take little more memory than one"
    return f"up to {workflow.max_in_flight} in flight"


def _slices(workflow: PlannedWorkflow) -> str:
    """Say how many slices there are, and of what size, as far as that is known."""
    count = "" if workflow.slices is None else f"{workflow.slices:,} "
    rows = "" if workflow.rows_per_slice is None else f" of {workflow.rows_per_slice:,} rows"
    size = ""
    if workflow.bytes_per_slice is not None:
        size = f", about {shown_size(workflow.bytes_per_slice)} each with what stages require"
    elif workflow.bytes_per_row is not None:
        size = f", {shown_size(workflow.bytes_per_row)} a row"
    return f"{count}slices{rows} of '{workflow.source}'{size}"
