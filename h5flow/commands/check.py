"""`h5flow-async check`: whether workflows, classes, input and references are in order."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence

from h5flow.commands.showing import single
from h5flow.core.classes import class_of, sections
from h5flow.data.inspection.facts import opened
from h5flow.data.inspection.integrity import unsound
from h5flow.errors import DiscoveryError, FileError
from h5flow.jobs.planning import MISSING, Plan, PlannedComponent, PlannedWorkflow, plan
from h5flow.runtime.failure_report import line
from h5flow.telemetry.terminal import Terminal
from h5flow.workflow import Document, WorkflowConfig, check_all, load

_log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="h5flow-async check",
        description="Check workflow files, the classes that they name, that the input has what they require, and that"
        " its references lead somewhere. Components are made and their init is called, on a skeleton of the input"
        " without rows; nothing is written. Exit code 2 if anything is wrong, each on a line with its place.",
    )
    result.add_argument("workflows", nargs="+", metavar="WORKFLOW.yaml", help="workflow files, in order")
    result.add_argument("-i", "--input", metavar="IN.h5", help="the input")
    result.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="override")
    result.add_argument("--no-references", action="store_true", help="don't read the references of the input")
    result.add_argument("-q", "--quiet", action="store_true", help="say nothing if nothing is wrong")
    result.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv for everything")
    return result


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Say what is wrong; returns the exit code."""
    documents = [load(path) for path in options.workflows]
    configs = check_all(documents, options.overrides)
    source = single(options.input or configs[0].run.input)
    problems = list(_wrong_classes(configs))
    if not problems:
        try:
            found = plan(configs, configs[0].run.output, source)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever components raise is what is wrong
            _log.debug("what is wrong", exc_info=error)
            problems.append(line(error))
        else:
            problems += _missing(documents, configs, found)
            for sentence in (*_untried(found), *_overlooked(found), *_unsure(documents, configs, found)):
                terminal.say(f"h5flow-async: {sentence}")
    if source is not None and not problems and not options.no_references:
        try:
            with opened(source) as file:
                problems += [f"{source}: {sentence}" for sentence in unsound(file)]
        except FileError as error:
            problems.append(str(error))
    for problem in problems:
        sys.stderr.write(f"h5flow-async: {problem}\n")
    if not problems and not options.quiet:
        stages = sum(len(config.stages) for config in configs)
        terminal.say(
            f"{', '.join(options.workflows)}: nothing is wrong; {stages} stages" + (f", {source}" if source else "")
        )
    return 2 if problems else 0


def _wrong_classes(configs: Sequence[WorkflowConfig]) -> Iterator[str]:
    for config in configs:
        for section, base in sections(config):
            try:
                class_of(section, base)
            except DiscoveryError as error:
                yield str(error)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module raises is what is wrong
                _log.debug("what is wrong", exc_info=error)
                module = section.path or f"the module of class '{section.classname}'"
                yield f"{section.place}: importing {module} raises {line(error)}"


def _missing(documents: Sequence[Document], configs: Sequence[WorkflowConfig], found: Plan) -> Iterator[str]:
    """Yield the requirements that no file and no component provides, each at its place."""
    for workflow, sentence in _not_found(documents, configs, found):
        if not _is_unsure(found, workflow):
            yield sentence


def _unsure(documents: Sequence[Document], configs: Sequence[WorkflowConfig], found: Plan) -> Iterator[str]:
    """Yield those that a component may provide whose `init` could not be tried."""
    for workflow, sentence in _not_found(documents, configs, found):
        if _is_unsure(found, workflow):
            yield f"not wrong if an init that could not be tried makes it: {sentence}"


def _not_found(
    documents: Sequence[Document], configs: Sequence[WorkflowConfig], found: Plan
) -> Iterator[tuple[int, str]]:
    """Yield the number of the workflow, and a sentence, for each requirement that is nowhere."""
    for workflow, (document, config) in enumerate(zip(documents, configs, strict=True)):
        for section, stage in zip(config.stages, found.workflows[workflow].stages, strict=True):
            for number, need in enumerate(stage.requires):
                if need.when == MISSING:
                    place = document.place(section.key, "requires", number)
                    yield workflow, f"{place}: {section.key}.requires[{number}]: {need.why}"


def _is_unsure(found: Plan, workflow: int) -> bool:
    """Say whether it isn't known in full what a workflow, or one before it, makes."""
    return any(component.problem for each in found.workflows[: workflow + 1] for component in _components(each))


def _components(workflow: PlannedWorkflow) -> Sequence[PlannedComponent]:
    return (*workflow.resources, workflow.generator, *workflow.stages)


def _untried(found: Plan) -> Iterator[str]:
    for workflow in found.workflows:
        for component in _components(workflow):
            if component.problem:
                yield f"not wrong, but its init could not be tried without rows: {component.problem}"


def _overlooked(found: Plan) -> Iterator[str]:
    for workflow in found.workflows:
        yield from (f"not wrong, but {oversight}" for oversight in workflow.oversights)
