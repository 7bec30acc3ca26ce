"""What a job would do, found out without doing it.

Components are made, and their `init` is called, on a skeleton of the input that has no rows, in a folder of its own.
So it is seen which datasets and references each of them makes; what it writes besides is only known when it runs.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import msgspec

from h5flow import mpi
from h5flow.core.component import Component
from h5flow.core.h5_flow_manager import H5FlowManager
from h5flow.core.part_of_job import PartOfJob
from h5flow.data import H5FlowDataManager
from h5flow.data.file.output_file import OutputFile
from h5flow.data.inspection.facts import FileFacts, inspected
from h5flow.data.layout import is_reference, normalise
from h5flow.data.storage.choice import compressed_dataset, why_not_parallel
from h5flow.data.storage.opening import open_file
from h5flow.data.storage.skeleton import new_skeleton
from h5flow.errors import NotInFile
from h5flow.modules.dataset_loop_generator import H5FlowDatasetLoopGenerator
from h5flow.runtime.failure import Where
from h5flow.runtime.failure_report import line
from h5flow.runtime.loop_inputs import Depths
from h5flow.workflow import Requirement, StageConfig, WorkflowConfig

#: When a requirement is loaded: ahead of its slice, at the moment of its stage, or never since it isn't there.
EARLY, LATE, MISSING = "early", "late", "missing"


class PlannedRequirement(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement of a stage; `bytes` is what it is estimated to hold for a slice."""

    name: str
    path: tuple[str, ...]
    index_only: bool
    when: str
    why: str
    #: The stage that makes what it is made of, if it is late.
    maker: str | None
    bytes: int | None


class PlannedComponent(msgspec.Struct, frozen=True, kw_only=True):
    """A resource, the generator or a stage: its class, where that is, and what its `init` makes."""

    name: str
    classname: str
    module: str
    source: str
    version: str
    place: str
    makes: tuple[str, ...] = ()
    #: Why its `init` could not be tried.
    problem: str | None = None


class PlannedStage(PlannedComponent, frozen=True, kw_only=True):
    """A stage, what it requires, and for whom it will wait; `depth` is that of the queue that it fills."""

    requires: tuple[PlannedRequirement, ...]
    waits: tuple[str, ...]
    depth: int


class PlannedWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow: its actors in order, and what is known of its slices; unknown numbers are `None`."""

    name: str
    mode: str
    source: str
    rows: int | None
    slices: int | None
    rows_per_slice: int | None
    #: A row of the source.
    bytes_per_row: int | None
    #: The rows of the source and what the stages require, where all of that is known.
    bytes_per_slice: int | None
    max_in_flight: str
    generator: PlannedComponent
    generator_depth: int
    loaders: int
    prefetch_depth: int
    stages: tuple[PlannedStage, ...]
    resources: tuple[PlannedComponent, ...]
    drop: tuple[str, ...]
    #: What the workflow says, or a class defines, and nobody looks at.
    oversights: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A job: workflows in order, and the storage of its output on one rank and on several."""

    input: str | None
    output: str | None
    compression: str | None
    storage_on_ranks: str
    why_storage: str
    workflows: tuple[PlannedWorkflow, ...]


class _Skeleton(OutputFile):
    """An output that begins as a skeleton of its source."""

    def _start_with_copy_of(self, source: Path) -> None:
        with open_file(str(source), "r", role="input", locking=False) as file:
            new_skeleton(self.working, file).close()


def plan(
    configs: Sequence[WorkflowConfig],
    output_filename: str | None,
    input_filename: str | None,
    start: int | None = None,
    end: int | None = None,
    compression: str | None = None,
) -> Plan:
    """Plan what the workflows would do, one after the other. Raises what a run would raise before its first slice."""
    planned = []
    with tempfile.TemporaryDirectory(prefix="h5flow-plan-") as folder:
        # Components look at the name that the output will have.
        output = _Skeleton(str(Path(folder, Path(output_filename or "output.h5").name)))
        facts = _facts(input_filename)
        source = input_filename
        for config in configs:
            manager = H5FlowManager(
                config,
                output.path,
                source,
                start,
                end,
                mpi=False,
                part=PartOfJob(output=output, comm=mpi.alone(), first=config is configs[0], last=config is configs[-1]),
            )
            try:
                planned.append(_planned(manager, config, facts))
            finally:
                manager.abandon()
            source = output.path
    compression = compression or configs[0].run.compression
    against = why_not_parallel(compression)
    if not against and (compressed := compressed_dataset(input_filename)):
        against = f"dataset '{compressed}' of the input is compressed"
    wanted = configs[0].runtime.storage
    kind = ("single-writer" if against else "parallel") if wanted in ("auto", "serial") else wanted
    why = against or "h5py is built with MPI, and nothing is compressed"
    return Plan(
        input=input_filename,
        output=output_filename,
        compression=compression,
        storage_on_ranks=kind,
        why_storage=why if wanted == "auto" else f"runtime.storage is {wanted}",
        workflows=tuple(planned),
    )


def _facts(path: str | None) -> FileFacts | None:
    if path is None or not h5py.is_hdf5(path):
        return None
    with open_file(path, "r", role="input", locking=False) as file:
        return inspected(file, path, hidden="h5flow")


def _planned(manager: H5FlowManager, config: WorkflowConfig, facts: FileFacts | None) -> PlannedWorkflow:
    """Plan one workflow, whose components are tried."""
    file = _Structure(manager.data_manager)
    loops = isinstance(manager.generator, H5FlowDatasetLoopGenerator)
    if loops and not file.exists(manager.generator.dset_name):
        there = "the input" if facts is None else f"'{facts.path}'"
        place = config.source_place or config.name
        raise NotInFile(f"{place}: the source, dataset '{manager.generator.dset_name}', isn't in {there}")
    makers: dict[str, int] = {}
    made: list[PlannedComponent] = []
    first_stage = len(config.resources) + 1
    for number, (component, where, begin) in enumerate(manager.components()):
        before, problem = file.content(), None
        try:
            begin()
        except Exception as error:  # noqa: BLE001 - what users' code makes of a file without rows
            problem = line(error)
        new = sorted(file.content() - before)
        makers |= dict.fromkeys(new, number - first_stage + 1)
        made.append(_component(component, where, new, problem))
    resources, generator, stages = made[: first_stage - 1], made[first_stage - 1], made[first_stage:]
    depths = Depths(
        4 if config.runtime.queue_depth == "auto" else int(config.runtime.queue_depth),
        config.runtime.queues,
        config.runtime.queue_depth == "auto",
    )
    source = normalise(manager.generator.dset_name)
    rows, chunk = _rows(manager)
    if not rows and (facts is None or source not in {dataset.path for dataset in facts.datasets}):
        rows = None  # a workflow before will make them
    if chunk is not None and rows:
        chunk = min(chunk, rows)
    row_bytes = file.row_bytes(source)
    needs = _Needs(file, facts, makers, [stage.name for stage in stages], source, chunk)
    planned = []
    for position, (stage, section) in enumerate(zip(stages, config.stages, strict=True), start=1):
        requires = tuple(needs.planned(requirement, position) for requirement in section.requires)
        planned.append(
            PlannedStage(
                **msgspec.structs.asdict(stage),
                requires=requires,
                waits=tuple(needs.waits(section, position)),
                depth=depths.of(section.key),
            )
        )
    sizes = {need.name: need.bytes for stage in planned for need in stage.requires if need.when != MISSING}
    sizes[source] = None if chunk is None or row_bytes is None else chunk * row_bytes
    known = [size for size in sizes.values() if size is not None]
    of_loop = None if rows is None or chunk is None else math.ceil(rows / chunk)
    return PlannedWorkflow(
        name=config.name,
        mode=config.runtime.mode,
        source=source,
        rows=rows,
        slices=of_loop if loops else manager.slices(),
        rows_per_slice=chunk,
        bytes_per_row=row_bytes,
        bytes_per_slice=sum(known) if len(known) == len(sizes) else None,
        max_in_flight=str(config.runtime.max_in_flight),
        generator=generator,
        generator_depth=depths.of("generator"),
        loaders=config.runtime.loaders,
        prefetch_depth=depths.of("prefetch"),
        stages=tuple(planned),
        resources=tuple(resources),
        drop=config.flow.drop,
        oversights=tuple(each.sentence for each in manager.oversights() if each.level >= logging.WARNING),
    )


def _component(component: Component, where: Where, makes: Sequence[str], problem: str | None) -> PlannedComponent:
    kind = type(component)
    return PlannedComponent(
        name=where.component,
        classname=kind.__name__,
        module=kind.__module__,
        source=_source_of(kind),
        version=str(component.class_version),
        place=where.place,
        makes=tuple(makes),
        problem=problem,
    )


def _source_of(kind: type) -> str:
    try:
        file, first = inspect.getsourcefile(kind), inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return ""
    return "" if file is None else f"{file}:{first}"


def _rows(manager: H5FlowManager) -> tuple[int | None, int | None]:
    """Return how many rows are looped over, and how many make a slice, as far as that is known before."""
    generator = manager.generator
    if not isinstance(generator, H5FlowDatasetLoopGenerator) or generator.end_position is None:
        return None, None
    rows = max(0, generator.end_position - (generator.start_position or 0))
    chunk = generator.chunk_size
    return rows, chunk if isinstance(chunk, int) else None


class _Structure:
    """What there is in the file of a manager: datasets by name, references as `parent → child`."""

    def __init__(self, data_manager: H5FlowDataManager) -> None:
        self._data_manager = data_manager

    def content(self) -> set[str]:
        """Return the names of all datasets and references."""
        found: set[str] = set()
        for path in self._data_manager.paths():
            if path.endswith("/data") and "/ref/" not in path:
                found.add(path[1:].removesuffix("/data"))
            elif is_reference(path):
                parent, _, child = path[1:].removesuffix("/ref").partition("/ref/")
                found.add(arrow(parent, child))
        return found

    def exists(self, name: str) -> bool:
        """Say whether there is a dataset."""
        return self._data_manager.dset_exists(name)

    def reference(self, one: str, other: str) -> str | None:
        """Return the references between two datasets, `None` if there are none."""
        if not self._data_manager.ref_exists(one, other):
            return None
        # What lies in another file isn't listed.
        names = (arrow(one, other), arrow(other, one))
        return next((name for name in names if name in self.content()), names[0])

    def row_bytes(self, name: str) -> int | None:
        """Return the size of a row in bytes, `None` where there is no such dataset."""
        if not self.exists(name):
            return None
        dataset = self._data_manager.get_dset(name)
        return int(dataset.dtype.itemsize * math.prod(dataset.shape[1:]))


def arrow(parent: str, child: str) -> str:
    """Show references as users see them: `parent → child`."""
    return f"{parent} → {child}"


class _Needs:
    """What requirements are made of: who makes that, and how much it is."""

    def __init__(
        self,
        file: _Structure,
        facts: FileFacts | None,
        makers: dict[str, int],
        stages: Sequence[str],
        source: str,
        rows_per_slice: int | None,
    ) -> None:
        self._file = file
        self._makers = makers
        self._stages = stages
        self._source = source
        self._rows_per_slice = rows_per_slice
        self._rows = {} if facts is None else {dataset.path: dataset.rows for dataset in facts.datasets}
        self._counts = {} if facts is None else {arrow(ref.parent, ref.child): ref.count for ref in facts.references}

    def planned(self, requirement: Requirement, position: int) -> PlannedRequirement:
        """Say when a requirement of the stage at a position is loaded, and why then."""
        resources, missing = self._made_of(requirement)
        writers = [(self._makers.get(resource, 0), resource) for resource in resources]
        before = [(maker, resource) for maker, resource in writers if 1 <= maker < position]
        stage = None
        if missing:
            when, why = MISSING, f"{missing}, and no init makes it: the stage gets None"
        elif before:
            maker, resource = max(before)
            stage = self._stages[maker - 1]
            when, why = LATE, f"{stage} makes '{resource}'"
        else:
            when, why = EARLY, "no stage before makes anything of it"
        return PlannedRequirement(
            name=requirement.name,
            path=requirement.path,
            index_only=requirement.index_only,
            when=when,
            why=why,
            maker=stage,
            bytes=None if missing else self._bytes(requirement),
        )

    def waits(self, section: StageConfig, position: int) -> Iterator[str]:
        """Yield a sentence for each stage behind this one that makes what it requires, for which it waits."""
        for requirement in section.requires:
            for resource in self._made_of(requirement)[0]:
                maker = self._makers.get(resource, 0)
                if maker > position:
                    yield f"for {self._stages[maker - 1]} on the slice before, which makes '{resource}'"

    def _chain(self, requirement: Requirement) -> list[str]:
        """Return the datasets from the source on; those that don't refer to it are read at the same rows."""
        path = [normalise(name) for name in requirement.path]
        if self._file.reference(self._source, path[0]) is not None:
            path.insert(0, self._source)
        return path

    def _made_of(self, requirement: Requirement) -> tuple[list[str], str]:
        """Return the datasets and references of a requirement, and what is missing, in words."""
        chain = self._chain(requirement)
        resources: list[str] = []
        for name in chain:
            if not self._file.exists(name):
                return resources, f"dataset '{name}' isn't there"
            resources.append(name)
        for one, other in itertools.pairwise(chain):
            reference = self._file.reference(one, other)
            if reference is None:
                return resources, f"there are no references between '{one}' and '{other}'"
            resources.append(reference)
        return resources, ""

    def _bytes(self, requirement: Requirement) -> int | None:
        """Return what a requirement is estimated to hold for a slice, from how many references the input has."""
        count: float | None = self._rows_per_slice
        chain = self._chain(requirement)
        for one, other in itertools.pairwise(chain):
            references = self._counts.get(arrow(one, other), self._counts.get(arrow(other, one)))
            rows = self._rows.get(one)
            if count is None or references is None or not rows:
                return None
            count *= references / rows
        row: Any = 8 if requirement.index_only else self._file.row_bytes(chain[-1])
        return None if count is None or row is None else round(count * row)
