"""The manager of a workflow: makes its components and runs them in order."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from h5flow.core.classes import ROLES, class_of, sections
from h5flow.core.component import Component
from h5flow.core.component_calls import ComponentCalls
from h5flow.core.h5_flow_generator import H5FlowGenerator
from h5flow.core.h5_flow_resource import H5FlowResource
from h5flow.core.h5_flow_stage import H5FlowStage
from h5flow.core.part_of_job import PartOfJob
from h5flow.core.provenance import record_of
from h5flow.core.registry import resources
from h5flow.core.workflow_loop import WorkflowLoop, looping
from h5flow.core.workflow_reporter import WorkflowReporter
from h5flow.data import H5FlowDataManager, layout
from h5flow.data.file.output_file import OutputFile
from h5flow.data.resource import Resource
from h5flow.data.storage.choice import Writers
from h5flow.errors import InvalidReference
from h5flow.lazy import on_first_use
from h5flow.ranks.moments import AFTER, BEFORE
from h5flow.runtime.component_threads import ComponentThreads
from h5flow.runtime.failure import Where
from h5flow.runtime.hazards import Hazards
from h5flow.runtime.loading import RequirementLoader
from h5flow.runtime.loop_inputs import Depths, LoopInputs, RunOptions
from h5flow.runtime.randomness import Randomness
from h5flow.runtime.steps import Done, steps
from h5flow.runtime.stopping import Stopped, StopRequest, stopped_by_others, stopped_by_signals
from h5flow.runtime.tracing import Tracer
from h5flow.telemetry import emit
from h5flow.telemetry.events import FileOpened
from h5flow.workflow import Document, Requirement, WorkflowConfig, check, format_requirements, get_class
from h5flow.workflow.spelling import did_you_mean

if TYPE_CHECKING:
    from h5flow.core.oversights import Oversight

_log = logging.getLogger(__name__)

__getattr__ = on_first_use(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")

#: The generator of workflows whose source is a dataset.
_LOOP = ("H5FlowDatasetLoopGenerator", "h5flow.modules.dataset_loop_generator")


_BY_ITSELF = PartOfJob()


class H5FlowManager:
    """One workflow on one output file.

    `config` is a workflow file's content as a dict, or a checked `WorkflowConfig`; `ConfigError` and `DiscoveryError`
    say what is wrong with it before a file is touched. The order is `manager.init()`, `manager.run()`,
    `manager.finish()`, each on all ranks; after a failure call `abandon()`. Components are made by the constructor. The
    output is written under `<output_filename>.partial` and gets its name at the end of `finish()`, unless the caller
    publishes it when all workflows of the job are done, of which this is a `part`.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | WorkflowConfig,
        output_filename: str,
        input_filename: str | None = None,
        start_position: int | None = None,
        end_position: int | None = None,
        compression: str | None = None,
        *,
        mpi: bool | None = None,
        part: PartOfJob = _BY_ITSELF,
    ) -> None:
        self.config = _checked(config)
        self._part = part
        # Later workflows have the output as their input, and positions may be meant for any of them.
        self._given: dict[str, Any] = {"input_filename": input_filename if part.first else None}
        if part.first and part.last:
            self._given |= {"start_position": start_position, "end_position": end_position}
        self.done = Done()
        self._compression = compression
        self._mpi = mpi
        self._output = part.output or OutputFile(output_filename)
        self._stop_at_once = False
        self._reporter = WorkflowReporter(self.config)
        self._reporter.begin()
        labels = [_generator_label(self.config), *(f"stage '{section.key}'" for section in self.config.stages)]
        self._hazards = Hazards(labels, Resource("rows", layout.data_path(layout.normalise(_source(self.config)))))
        pipelined = self.config.runtime.mode == "pipelined"
        self._threads = ComponentThreads(labels, threads=pipelined)
        resources.clear()
        try:
            # All classes are found before a file is touched, so that a misspelled one costs nothing.
            for component, base in sections(self.config):
                class_of(component, base)
            self._source = input_filename if self._copies_input else None
            self.configure_data_manager(output_filename, self.config)
            if self._copies_input and input_filename:
                self.data_manager.start_with_copy_of(input_filename)
            else:
                self.data_manager.data_file.begin(self._output, None, opens=not self._copies_by_itself)
            emit(
                FileOpened(
                    path=output_filename,
                    working=self._output.working,
                    input=input_filename,
                    storage=self.data_manager.storage,
                    why_storage=self.data_manager.why_storage,
                )
            )
            self.configure_resources(self.config, input_filename, start_position, end_position)
            self.configure_generator(input_filename, self.config, start_position, end_position)
            self.configure_flow(self.config)
            if self._copies_by_itself:
                self.data_manager.data_file.begin(self._output, None)
        except BaseException:
            self.abandon()
            raise

    @property
    def comm(self) -> Any:
        """Return the communicator of the ranks that run the workflow, `None` without MPI."""
        return self.data_manager.comm

    @property
    def rank(self) -> int:
        """Return the number of this rank."""
        return self.data_manager.rank

    @property
    def size(self) -> int:
        """Return the number of ranks."""
        return self.data_manager.size

    @property
    def drop_list(self) -> list[str]:
        """Return the names of the datasets that the output is not to have."""
        return self.data_manager.drop_list

    def configure_data_manager(self, output_filename: str, config: Mapping[str, Any] | WorkflowConfig) -> None:
        """Create `data_manager`, through which all components use the output file."""
        drop = [*_checked(config).flow.drop, *self._part.drop]
        self.data_manager = H5FlowDataManager(
            output_filename,
            mpi=self._mpi,
            drop_list=drop,
            compression=self._compression,
            output=self._output,
            writers=Writers(self._part.comm, _checked(config).runtime.storage, self._source),
        )
        file, runtime = self.data_manager.data_file, _checked(config).runtime
        self._tracer = Tracer(self._hazards, file.context.file_changed, file.ranks)
        if self._threads.workers:
            file.watch(self._tracer)
            file.use_raw_chunks(runtime.raw_chunks)
            file.ranks.work_for(self._tracer)
        names = [_generator_label(self.config), *(f"stage '{section.key}'" for section in self.config.stages)]
        file.ranks.watch(names, runtime.stall_warning, runtime.stall_abort, strict=runtime.strict)
        self._calls = ComponentCalls(self._threads, self._reporter, self.data_manager)
        self._loader = RequirementLoader(self.data_manager, runtime.strict)

    def configure_resources(
        self,
        config: Mapping[str, Any] | WorkflowConfig,
        input_filename: str | None,
        start_position: int | None,
        end_position: int | None,
    ) -> None:
        """Create the resources, found by class name in `h5flow.resources`."""
        self._resources: list[tuple[H5FlowResource, Where]] = []
        for section in _checked(config).resources:
            resource, where = self._calls.made(
                section,
                H5FlowResource,
                f"resource '{section.classname}'",
                None,
                input_filename=input_filename,
                start_position=start_position,
                end_position=end_position,
            )
            resources[section.classname] = resource
            self._resources.append((resource, where))

    def configure_generator(
        self,
        input_filename: str | None,
        config: Mapping[str, Any] | WorkflowConfig,
        start_position: int | None,
        end_position: int | None,
    ) -> None:
        """Create `generator`; where the source is a dataset, one that loops over it."""
        checked = _checked(config)
        positions: dict[str, Any] = {
            "input_filename": input_filename,
            "start_position": start_position,
            "end_position": end_position,
        }
        section = checked.generator
        if section is not None:
            self.generator, self._generator_where = self._calls.made(
                section,
                H5FlowGenerator,
                _generator_label(checked),
                0,
                dset_name=section.dset_name,
                **positions,
            )
            return
        label = _generator_label(checked)
        self._generator_where = Where(label, checked.name, self.data_manager.rank)
        loop = get_class(*_LOOP)
        self.generator = self._calls.located(
            0,
            self._generator_where,
            loop,
            classname=loop.__name__,
            dset_name=checked.flow.source,
            data_manager=self._calls.view(),
            **positions,
        )

    def configure_flow(self, config: Mapping[str, Any] | WorkflowConfig) -> None:
        """Create `stages`, in the order of the flow."""
        self._stages: list[tuple[H5FlowStage, Where, tuple[Requirement, ...]]] = []
        for position, section in enumerate(_checked(config).stages, start=1):
            requires = [requirement.as_dict() for requirement in section.requires]
            stage, where = self._calls.made(
                section, H5FlowStage, f"stage '{section.key}'", position, name=section.key, requires=requires
            )
            self._stages.append((stage, where, section.requires))
        self.stages = [stage for stage, _, _ in self._stages]

    def init(self) -> None:
        """Call `init` of resources, generator and stages, in this order; first log what nobody looks at. Collective."""
        if self.data_manager.rank == 0:
            for oversight in self.oversights():
                _log.log(oversight.level, "%s", oversight.sentence)
        if self._part.provenance is not None:
            found = [
                record_of(ROLES[base], section.key, class_of(section, base)) for section, base in sections(self.config)
            ]
            self._part.provenance.begin(self.data_manager, self.config, found, self.data_manager.storage)
        for _, _, begin in self.components():
            begin()
        self._tell_of_ranks()
        self.data_manager.data_file.settle()

    def _tell_of_ranks(self) -> None:
        """Tell a generator on several ranks that has asked for none of them: each of them makes the same slices."""
        dm, kind = self.data_manager, type(self.generator)
        if dm.rank or dm.size == 1 or self.generator.asked_for_ranks:
            return
        from h5flow.core.oversights import knows_ranks

        if not knows_ranks(kind):
            _log.warning(
                "%s on %d ranks doesn't look at self.rank, self.size or self.comm: each rank makes all slices, and"
                " everything is there %d times; have each rank take every self.size-th from self.rank on",
                self._generator_where,
                dm.size,
                dm.size,
            )

    def oversights(self) -> list[Oversight]:
        """List what the workflow file says, the run is given or a class defines, and nobody looks at."""
        from h5flow.core.oversights import given_positions, oversights

        resources = [resource for resource, _ in self._resources]
        generators = [] if self.config.generator is None else [self.generator]
        components: list[Component] = [*resources, *generators, *self.stages]
        return oversights(self.config, map(type, components), given_positions(self._given))

    def components(self) -> Iterator[tuple[Component, Where, Callable[[], None]]]:
        """Yield resources, generator and stages: each with where it is from, and what calls its `init`."""
        source = self.generator.dset_name
        for resource, where in self._resources:
            yield (
                resource,
                where,
                functools.partial(self._calls.together, BEFORE, None, where, resource, resource.init, source),
            )
        where, generator = self._generator_where, self.generator
        yield generator, where, functools.partial(self._calls.together, BEFORE, 0, where, generator, generator.init)
        for position, (stage, where, _) in enumerate(self._stages, start=1):
            yield (
                stage,
                where,
                functools.partial(self._calls.together, BEFORE, position, where, stage, stage.init, source),
            )

    def run(self) -> None:
        """Run all stages on each slice, until all ranks have no more. Collective.

        Works in a script, in a thread, and in a notebook, where an event loop is running already. On a first
        SIGINT or SIGTERM (in the main thread) the slices in flight are finished, on a second it stops at once; both
        raise `Stopped`. Raises what a component raises.
        """
        with self._looping(stopped_by_signals()) as stop:
            self._loop().run(stop)

    async def run_async(self) -> None:
        """Run all stages on each slice, on the event loop of the caller, whose signals they are. Collective.

        Raises `Stopped` where another rank was asked to stop.
        """
        with self._looping(stopped_by_others()) as stop:
            await self._loop().run_async(stop)

    @contextmanager
    def _looping(self, stopping: AbstractContextManager[StopRequest]) -> Iterator[StopRequest]:
        ranks, done = self.data_manager.data_file.ranks, self.done

        def close() -> None:
            nonlocal done
            done = self.data_manager.comm.allreduce(done)
            self.data_manager.close_file()

        try:
            with looping(stopping, ranks, close) as stop:
                yield stop
        except Stopped as stopped:
            self._stop_at_once = stopped.at_once
            if stopped.at_once or ranks.stopping or not ranks.several:
                stopped.progress = (
                    f"after {done.slices:,} slices, {done.rows:,} rows; what they gave is in '{self._output.working}'"
                )
            raise

    def slices(self) -> int | None:
        """Return how many slices this rank has, `None` if its generator doesn't say."""
        if not hasattr(type(self.generator), "__len__"):
            return None
        try:
            return len(self.generator)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - users' code, for the sake of a figure that is only shown
            _log.warning(
                "%s: how much there is isn't known, its `__len__` raises %s: %s",
                _generator_label(self.config),
                type(error).__name__,
                error,
            )
            return None

    def _loop(self) -> WorkflowLoop:
        runtime = self.config.runtime
        automatic = runtime.queue_depth == "auto"
        inputs = LoopInputs(
            self.generator,
            self._generator_where,
            steps(self._stages, self.generator.dset_name),
            self._loader,
            self.data_manager.data_file,
            self.done,
            _per_stage(self.config.name) if runtime.random == "per-stage" else Randomness(),
            self._reporter.measures,
        )
        options = RunOptions(
            Depths(4 if automatic else int(runtime.queue_depth), runtime.queues, automatic),
            runtime.loaders,
            runtime.max_in_flight,
            runtime.loop,
        )
        return WorkflowLoop(inputs, options, self._threads.workers, self._tracer, self._reporter, self.slices())

    def finish(self) -> None:
        """Call `finish` of generator, stages and resources; drop what is not wanted; close and publish. Collective.

        References that lead nowhere are logged, or with `runtime.strict` raise `InvalidReference`.
        """
        source = self.generator.dset_name
        self._calls.fence(AFTER)
        self._calls.together(AFTER, 0, self._generator_where, self.generator, self.generator.finish)
        for position, (stage, where, _) in enumerate(self._stages, start=1):
            self._calls.together(AFTER, position, where, stage, stage.finish, source)
        for resource, where in self._resources:
            self._calls.together(AFTER, None, where, resource, resource.finish, source)
        first = self.data_manager.rank == 0
        if first:
            self._tell_of_drops()
        if self.config.runtime.strict and first and (dangling := self.data_manager.dangling_references()):
            raise InvalidReference(f"output '{self.data_manager.filepath}': {'; '.join(dangling)}")
        if self._part.provenance is not None:
            done = self.done if self._part.comm is None else self._part.comm.allreduce(self.done)
            self._part.provenance.end(self.data_manager, done.slices, done.rows, last=self._part.last)
        self._threads.dismiss()
        self.data_manager.finish()
        self._reporter.end(self.done, self.data_manager.data_file.ranks.waited)
        if self._part.output is None and first:
            self._output.publish()

    def _tell_of_drops(self) -> None:
        """Tell of what is to be dropped and never was."""
        for name in self.data_manager.data_file.never_there():
            paths = [path.strip("/") for path in self.data_manager.paths()]
            known = [path.removesuffix("/data") for path in paths if path.endswith("/data")]
            _log.warning("'%s' is to be dropped, but there is no such dataset%s", name, did_you_mean(name, known))

    def abandon(self) -> None:
        """Close the files after a failure; the output keeps the name `<output_filename>.partial`."""
        file = self.data_manager.data_file if hasattr(self, "data_manager") else None
        self._output.give_up()
        # Threads that wait for other ranks may do so forever.
        self._threads.dismiss(wait=not (self._stop_at_once or (file is not None and file.ranks.several)))
        if file is not None:
            file.abandon()

    def format_requirements(self, requirements: list[str | dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the `requires` of a stage, each as a dict with `name`, `path` and `index_only`."""
        return [requirement.as_dict() for requirement in format_requirements(requirements)]

    def load_requirement(self, req: dict[str, Any], source_name: str, source_slice: slice) -> Any:
        """Load a requirement (a dict as of `format_requirements`) for some rows; `None` if the file lacks it."""
        (requirement,) = format_requirements([req])
        return self._loader.load(requirement, source_name, source_slice)

    def update_cache(
        self,
        cache: dict[str, Any],
        source_name: str,
        source_slice: slice,
        requirements: list[dict[str, Any]],
    ) -> None:
        """Add the source rows to `cache`, and those requirements that it doesn't have yet, for rows `source_slice`."""
        self._loader.update(cache, source_name, source_slice, format_requirements(list(requirements)))

    @property
    def _copies_input(self) -> bool:
        """Say whether the generator loops over the input, which the output then starts as a copy of."""
        section = self.config.generator
        return section is None or class_of(section, H5FlowGenerator).copies_input

    @property
    def _copies_by_itself(self) -> bool:
        """Say whether the generator may replace the file when it is made, so that nobody can have it open before."""
        section = self.config.generator
        return not self._copies_input and section is not None and hasattr(class_of(section, H5FlowGenerator), "copy")


def _checked(config: Mapping[str, Any] | WorkflowConfig) -> WorkflowConfig:
    return config if isinstance(config, WorkflowConfig) else check(Document.from_mapping(config))


def _per_stage(workflow: str) -> Randomness:
    from h5flow.runtime.randomness.per_stage import RandomnessPerStage

    return RandomnessPerStage(workflow)


def _source(config: WorkflowConfig) -> str:
    """Return the dataset that slices are of."""
    generator = config.generator
    return generator.dset_name if generator is not None and generator.dset_name else config.flow.source


def _generator_label(config: WorkflowConfig) -> str:
    return f"loop over '{config.flow.source}'" if config.generator is None else f"generator '{config.generator.key}'"
