"""The checked workflow: what a workflow file says, typed, with all mistakes reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from h5flow.errors import ConfigError, Problem
from h5flow.telemetry.naming import mistake_in
from h5flow.workflow.document import Document, Keys, Mark, fail
from h5flow.workflow.overrides import Override
from h5flow.workflow.requirements import Requirement, read_requirements
from h5flow.workflow.sections import SectionReader
from h5flow.workflow.sizes import PATTERN
from h5flow.workflow.spelling import did_you_mean

S = TypeVar("S", bound=msgspec.Struct)
C = TypeVar("C", bound="ComponentConfig")

_Text = Annotated[str, Meta(min_length=1)]
_DatasetName = Annotated[_Text, Meta(description="a dataset name")]
_DatasetNames = Annotated[tuple[_DatasetName, ...], Meta(examples=["[raw/noise]"])]
_StageKey = Annotated[_Text, Meta(description="the key of a stage's section")]
_FileName = Annotated[_Text | None, Meta(description="a file name")]
_Row = Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="a row number, counted from 0")]
_ClassName = Annotated[_Text, Meta(description="the name of a class")]
_Module = Annotated[_Text | None, Meta(description="a python module, such as h5flow_modules.reco")]
_Params = Annotated[dict[str, Any], Meta(description="a mapping from parameter names to values")]


#: The class of the built-in generator.
LOOP_GENERATOR = "H5FlowDatasetLoopGenerator"


class Flow(msgspec.Struct, frozen=True):
    """Section `flow`: the source of the slices, the stages in order, the datasets to drop at the end."""

    source: Annotated[_Text, Meta(description="the key of a generator's section, or a dataset name")]
    stages: Annotated[tuple[_StageKey, ...], Meta(examples=["[hit_finder]"])] = ()
    drop: _DatasetNames = ()


class RunConfig(msgspec.Struct, frozen=True):
    """Section `run`: defaults for what the command line gives."""

    input: _FileName = None
    output: _FileName = None
    start: _Row = None
    end: _Row = None
    compression: Annotated[Literal["gzip", "lzf"] | None, Meta(description="'gzip' or 'lzf'")] = None
    drop: _DatasetNames = ()
    overwrite: Annotated[bool, Meta(description="true or false")] = False
    in_place: Annotated[bool, Meta(description="true or false")] = False


class RuntimeConfig(msgspec.Struct, frozen=True):
    """Section `runtime`: how the workflow is run."""

    strict: Annotated[bool, Meta(description="true or false")] = False
    mode: Annotated[Literal["pipelined", "sequential"], Meta(description="'pipelined' or 'sequential'")] = "pipelined"
    queue_depth: Annotated[
        Annotated[int, Meta(ge=1)] | Literal["auto"],
        Meta(description="a number of slices, at least 1, or 'auto'"),
    ] = 4
    queues: Annotated[
        dict[str, Annotated[int, Meta(ge=1)]],
        Meta(description="a mapping from 'generator', 'prefetch' or the key of a stage to a number of slices"),
    ] = {}
    loaders: Annotated[Annotated[int, Meta(ge=1)], Meta(description="a number of threads, at least 1")] = 2
    max_in_flight: Annotated[
        Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=f"^auto$|{PATTERN}")],
        Meta(description="a size such as 512MiB, a number of slices, at least 1, or 'auto'"),
    ] = "auto"
    raw_chunks: Annotated[bool, Meta(description="true or false")] = True
    loop: Annotated[Literal["auto", "uvloop", "asyncio"], Meta(description="'auto', 'uvloop' or 'asyncio'")] = "auto"
    storage: Annotated[
        Literal["auto", "serial", "single-writer", "parallel"],
        Meta(description="'auto', 'serial', 'single-writer' or 'parallel'"),
    ] = "auto"
    random: Annotated[Literal["shared", "per-stage"], Meta(description="'shared' or 'per-stage'")] = "shared"
    stall_warning: Annotated[Annotated[float, Meta(gt=0)], Meta(description="a number of seconds")] = 60.0
    stall_abort: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="a number of seconds")] = None


class LoggingConfig(msgspec.Struct, frozen=True):
    """Section `logging`: which events are written, where and how."""

    file: Annotated[_Text | None, Meta(description="a file name, such as 'logs/{run_id}/rank-{rank:04d}.jsonl'")] = None
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="'debug', 'info', 'warning' or 'error'")
    ] = "info"
    format: Annotated[Literal["json", "console", "auto"], Meta(description="'json', 'console' or 'auto'")] = "auto"
    sample: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="a share of the slices such as 0.01, or a number N to tell every Nth one"),
    ] = 1.0


class MetricsConfig(msgspec.Struct, frozen=True):
    """Section `metrics`: where the metrics of a run are."""

    textfile: Annotated[_Text | None, Meta(description="a file name, such as 'metrics/h5flow-{rank}.prom'")] = None
    port: Annotated[Annotated[int, Meta(ge=0, le=65535)] | None, Meta(description="a port number")] = None
    address: Annotated[_Text, Meta(description="an address")] = "127.0.0.1"

    @property
    def wanted(self) -> bool:
        """Say whether there are to be any metrics."""
        return self.textfile is not None or self.port is not None


class ComponentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A section that is made into an object: a generator, a resource, or (see `StageConfig`) a stage."""

    #: The section's key; of a resource, its class name.
    key: str
    classname: str
    #: The python module of the class; without one it is searched for.
    path: str | None = None
    #: The dataset that a generator yields slices of.
    dset_name: str | None = None
    params: dict[str, Any]
    #: Where the section starts, `workflow.yaml:12`.
    place: str = ""


class StageConfig(ComponentConfig, frozen=True, kw_only=True):
    """The section of a stage."""

    requires: tuple[Requirement, ...] = ()


class UnusedSection(msgspec.Struct, frozen=True, kw_only=True):
    """A section at the top of a workflow file that its flow doesn't use; `hint` says what it may have meant."""

    key: str
    place: str
    is_component: bool
    hint: str = ""


class WorkflowConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that is right as written; whether classes and datasets exist is another matter."""

    #: The file, as it was named by the user.
    name: str
    flow: Flow
    #: `None` where the source is a dataset.
    generator: ComponentConfig | None
    stages: tuple[StageConfig, ...]
    resources: tuple[ComponentConfig, ...]
    run: RunConfig
    runtime: RuntimeConfig
    logging: LoggingConfig = LoggingConfig()
    metrics: MetricsConfig = MetricsConfig()
    #: What the file says, with what it includes and what was overridden.
    data: dict[Any, Any] = {}
    #: Where the source is named, `workflow.yaml:3`.
    source_place: str = ""
    unused: tuple[UnusedSection, ...] = ()

    @property
    def loops_over_input(self) -> bool:
        """Say whether the slices are of a dataset of the input, taken by the built-in generator."""
        return self.generator is None or self.generator.classname == LOOP_GENERATOR


class _ResourceSection(msgspec.Struct):
    classname: _ClassName
    path: _Module = None
    params: _Params = {}


class _StageSection(_ResourceSection):
    requires: Annotated[Any, Meta()] = None
    dset_name: Annotated[_DatasetName | None, Meta(description="a dataset name")] = None


class _GeneratorSection(_StageSection):
    pass


_SETTINGS: dict[str, type[msgspec.Struct]] = {
    "run": RunConfig,
    "runtime": RuntimeConfig,
    "logging": LoggingConfig,
    "metrics": MetricsConfig,
}
_OTHER_THAN_COMPONENTS = ("flow", "resources", *_SETTINGS)


def check(document: Document, overrides: Iterable[str] = ()) -> WorkflowConfig:
    """Return the workflow of a document; raises `ConfigError` with all that is wrong.

    An override such as `runtime.queue_depth=4` replaces a value before the check.
    """
    return check_all([document], overrides)[0]


def check_all(documents: Sequence[Document], overrides: Iterable[str] = ()) -> list[WorkflowConfig]:
    """Return the workflows of several documents, as `check`.

    Overrides of a component are for those workflows whose flow names it, which at least one must.
    """
    documents, problems = _overridden(documents, overrides)
    configs = []
    for document in documents:
        reader = SectionReader(document)
        config = _WorkflowReader(reader).read()
        problems += reader.problems
        if config is not None:
            configs.append(config)
    if problems:
        raise ConfigError(problems)
    return configs


class _WorkflowReader:
    """Reads a document part by part; what is wrong is reported to the section reader."""

    def __init__(self, reader: SectionReader) -> None:
        self._reader = reader
        self._data = reader.document.data
        self._component_keys = [key for key in self._data if _is_component_key(key, self._data)]

    def read(self) -> WorkflowConfig | None:
        """Read the workflow, unless something is wrong."""
        flow = self._flow()
        generator = self._generator()
        stages = self._stages()
        resources = self._resources()
        run = self._settings("run", RunConfig)
        runtime = self._settings("runtime", RuntimeConfig)
        self._check_queues(runtime)
        logging = self._settings("logging", LoggingConfig)
        self._check_file_name("logging", "file", None if logging is None else logging.file)
        metrics = self._settings("metrics", MetricsConfig)
        self._check_file_name("metrics", "textfile", None if metrics is None else metrics.textfile)
        if self._reader.problems or not (flow and run and runtime and logging and metrics):
            return None
        return WorkflowConfig(
            name=self._reader.document.path,
            flow=flow,
            generator=generator,
            stages=stages,
            resources=resources,
            run=run,
            runtime=runtime,
            logging=logging,
            metrics=metrics,
            data=self._data,
            source_place=_line_of(self._reader.document.mark("flow", "source")),
            unused=tuple(self._unused()),
        )

    def _unused(self) -> Iterator[UnusedSection]:
        """Yield the sections that nothing uses; those for YAML to refer to, and notes, are no such sections."""
        document, known = self._reader.document, _names_in_use(self._data)
        for key, value in self._data.items():
            if key in known or not isinstance(key, str) or key.startswith(("x-", ".")):
                continue
            hint = did_you_mean(key, _OTHER_THAN_COMPONENTS)
            if (isinstance(value, Mapping | list) or hint) and not document.is_referred_to(key):
                yield UnusedSection(
                    key=key,
                    place=_line_of(document.key_mark(key)),
                    is_component=isinstance(value, Mapping) and "classname" in value,
                    hint=hint or did_you_mean(key, known),
                )

    def _flow(self) -> Flow | None:
        if "flow" not in self._data:
            self._reader.report((), f"no section 'flow'{did_you_mean('flow', self._data)}")
            return None
        return self._reader.section(Flow, self._data["flow"], ("flow",))

    def _generator(self) -> ComponentConfig | None:
        key = _flow_value(self._data, "source")
        if key not in self._component_keys:
            return None
        section = self._reader.section(_GeneratorSection, self._data[key], (key,))
        if section is None:
            return None
        if section.requires:
            self._reader.report((key, "requires"), "only stages can require data, a generator can't")
        dset_name = section.dset_name or section.params.get("dset_name")
        if dset_name is None:
            message = "missing key 'dset_name', the dataset whose slices are generated"
            self._reader.report((key,), message, self._reader.document.key_mark(key))
        return self._component(ComponentConfig, section, (key,), key=key, dset_name=dset_name)

    def _stages(self) -> tuple[StageConfig, ...]:
        made: dict[str, StageConfig | None] = {}
        for number, key in enumerate(_stage_keys(self._data)):
            keys = ("flow", "stages", number)
            if not isinstance(key, str):
                continue  # reported with the section
            if key in made:
                self._reader.report(keys, f"stage '{key}' is listed twice")
            elif key not in self._component_keys:
                self._reader.report(keys, f"no section '{key}'{did_you_mean(key, self._component_keys)}")
            else:
                made[key] = self._stage(key)
        return tuple(stage for stage in made.values() if stage is not None)

    def _stage(self, key: str) -> StageConfig | None:
        data = self._data[key]
        section = self._reader.section(_StageSection, data, (key,))
        requires = data.get("requires") if isinstance(data, Mapping) else None
        requirements = read_requirements(self._reader, requires, (key, "requires"))
        if section is None:
            return None
        return self._component(
            StageConfig, section, (key,), key=key, dset_name=section.dset_name, requires=requirements
        )

    def _resources(self) -> tuple[ComponentConfig, ...]:
        found: set[str] = set()

        def read(data: Any, keys: Keys) -> ComponentConfig | None:
            section = self._reader.section(_ResourceSection, data, keys)
            if section is None:
                return None
            if section.classname in found:
                message = f"resource '{section.classname}' is listed twice, there can be one of each class"
                self._reader.report((*keys, "classname"), message)
            found.add(section.classname)
            return self._component(ComponentConfig, section, keys, key=section.classname)

        example = "resources: [{classname: Geometry}]"
        return self._reader.items(self._data.get("resources"), ("resources",), read, example)

    def _settings(self, key: str, struct: type[S]) -> S | None:
        data = None if key in self._component_keys else self._data.get(key)
        # What all values are by default needs no look at their types, which takes longer than all else here.
        return struct() if data is None else self._reader.section(struct, data, (key,))

    def _check_queues(self, runtime: RuntimeConfig | None) -> None:
        names = ["generator", "prefetch", *_stage_keys(self._data)]
        for name in () if runtime is None else runtime.queues:
            if name not in names:
                mark = self._reader.document.key_mark("runtime", "queues", name)
                hint = did_you_mean(name, names) or f" (known: {', '.join(map(str, names))})"
                self._reader.report(("runtime", "queues"), f"no queue or stage '{name}'{hint}", mark)

    def _check_file_name(self, section: str, key: str, name: str | None) -> None:
        mistake = None if name is None else mistake_in(name)
        if mistake is not None:
            self._reader.report((section, key), mistake)

    def _component(self, struct: type[C], section: _ResourceSection, keys: Keys, **more: Any) -> C:
        place = _line_of(self._reader.document.key_mark(*keys))
        return struct(classname=section.classname, path=section.path, params=section.params, place=place, **more)


def _line_of(mark: Mark) -> str:
    return f"{mark.file}:{mark.line}" if mark.line else mark.file


def _is_component_key(key: object, data: Mapping[Any, Any]) -> bool:
    if key in _SETTINGS:
        return isinstance(data[key], Mapping) and "classname" in data[key]
    return key not in _OTHER_THAN_COMPONENTS


def _flow_value(data: Mapping[Any, Any], key: str) -> Any:
    flow = data.get("flow")
    return flow.get(key) if isinstance(flow, Mapping) else None


def _stage_keys(data: Mapping[Any, Any]) -> Sequence[Any]:
    stages = _flow_value(data, "stages")
    return stages if isinstance(stages, list | tuple) else ()


def _overridden(documents: Sequence[Document], overrides: Iterable[str]) -> tuple[list[Document], list[Problem]]:
    documents, problems = list(documents), []
    for text in overrides:
        try:
            override = Override.parse(text)
            used = [override.steps[0] in _names_in_use(document.data) for document in documents]
            if not any(used):
                names = [name for document in documents for name in _names_in_use(document.data)]
                hint = did_you_mean(override.steps[0], names)
                fail(override.place, "", f"no flow uses a section '{override.steps[0]}'{hint}")
            documents = [
                override.applied(document) if uses else document for document, uses in zip(documents, used, strict=True)
            ]
        except ConfigError as error:
            problems += error.problems
    return documents, problems


def _names_in_use(data: Mapping[Any, Any]) -> list[Any]:
    return [*_OTHER_THAN_COMPONENTS, _flow_value(data, "source"), *_stage_keys(data)]
