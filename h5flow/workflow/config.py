"""Checking a workflow as written, all of it before anything is opened, into typed objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from h5flow.errors import ConfigError, Problem
from h5flow.workflow.document import Document, Key
from h5flow.workflow.requirements import Requirement, kind, problems_of, requirement, unknown_key

Position = Annotated[int, msgspec.Meta(ge=0)]


class Flow(msgspec.Struct, frozen=True):
    """Section `flow`: where slices come from, and what happens to them."""

    source: str
    stages: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class ComponentConfig(msgspec.Struct, frozen=True):
    """The section of a generator or resource. `place` is where it stands (`workflow.yaml:12`)."""

    key: str
    classname: str
    path: str | None
    params: Mapping[str, Any]
    place: str
    dset_name: str | None = None


class StageConfig(ComponentConfig, frozen=True):
    """The section of a stage."""

    requires: tuple[Requirement, ...] = ()


class RunConfig(msgspec.Struct, frozen=True):
    """Section `run`: defaults for the command line."""

    input: str | None = None
    output: str | None = None
    start: Position | None = None
    end: Position | None = None
    compression: Literal["gzip", "lzf"] | None = None
    drop: tuple[str, ...] = ()


class RuntimeConfig(msgspec.Struct, frozen=True):
    """Section `runtime`: how the workflow is run.

    `strict`: a requirement that can't be loaded, or a reference that leads nowhere, is an error.
    """

    strict: bool = False
    mode: Literal["sequential"] = "sequential"
    queue_depth: Annotated[int, msgspec.Meta(ge=1)] = 4


class WorkflowConfig(msgspec.Struct, frozen=True):
    """A workflow that is right as written. `generator` is `None` where the source is a dataset to loop over."""

    name: str
    flow: Flow
    generator: ComponentConfig | None
    stages: tuple[StageConfig, ...]
    resources: tuple[ComponentConfig, ...]
    run: RunConfig
    runtime: RuntimeConfig


def check(document: Document, overrides: Iterable[str] = ()) -> WorkflowConfig:
    """The workflow that a document describes. Raises `ConfigError` with all that is wrong with it.

    `overrides` are assignments like `runtime.strict=true`.
    """
    for assignment in overrides:
        document.override(assignment)
    return _Check(document).workflow()


class _Check:
    """Goes through a document and collects what is wrong."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._data = document.data
        self._problems: list[Problem] = []

    def workflow(self) -> WorkflowConfig:
        flow = self._flow()
        resources = self._resources()
        generator = self._generator(flow.source)
        stages = tuple(
            stage
            for number, key in enumerate(flow.stages)
            if (stage := self._stage(key, number, flow.stages)) is not None
        )
        run = self._settings("run", RunConfig)
        runtime = self._settings("runtime", RuntimeConfig)
        if self._problems:
            raise ConfigError(self._problems)
        return WorkflowConfig(self._document.name, flow, generator, stages, resources, run, runtime)

    def _flow(self) -> Flow:
        if "flow" not in self._data:
            self._add((), "", "section 'flow' is missing")
            return Flow("")
        flow = self._mapping(("flow",), self._data["flow"])
        self._known(("flow",), flow, ("source", "stages", "drop"))
        if "source" not in flow and "flow" in self._data and isinstance(self._data["flow"], dict):
            self._add(("flow",), "flow", "key 'source' is missing: a generator's section, or a dataset")
        return Flow(
            source=self._value(("flow", "source"), flow, str, ""),
            stages=self._names(("flow", "stages"), flow),
            drop=self._names(("flow", "drop"), flow),
        )

    def _generator(self, source: str) -> ComponentConfig | None:
        section = self._data.get(source)
        if not source or section is None:
            return None
        component = self._component((source,), source, section, ("dset_name", "requires"))
        if component is None:
            return None
        named = component.params.get("dset_name") if component.dset_name is None else component.dset_name
        if not isinstance(named, str):
            self._add((source,), source, "key 'dset_name' is missing: the dataset that the generator fills")
        return msgspec.structs.replace(component, dset_name=named)

    def _stage(self, key: str, number: int, stages: tuple[str, ...]) -> StageConfig | None:
        at = ("flow", "stages", number)
        if key in stages[:number]:
            self._add(at, "flow.stages", f"stage '{key}' stands here twice")
            return None
        if key not in self._data:
            sections = [name for name, value in self._data.items() if isinstance(value, dict) and name != "flow"]
            hint = unknown_key(key, map(str, sections)).partition(" (")[2]
            self._add(at, "flow.stages", f"there is no section '{key}'" + (f" ({hint}" if hint else ""))
            return None
        section = self._data[key]
        component = self._component((key,), key, section, ("requires", "dset_name"))
        if component is None:
            return None
        requires = self._requires((key, "requires"), section.get("requires"))
        return StageConfig(**msgspec.structs.asdict(component), requires=requires)

    def _resources(self) -> tuple[ComponentConfig, ...]:
        sections = self._data.get("resources")
        if sections is None:
            return ()
        if isinstance(sections, dict) and "classname" in sections:
            return ()  # a stage or generator that is called so
        if not isinstance(sections, list):
            self._add(("resources",), "resources", f"expected a list of sections, got {kind(sections)}")
            return ()
        found: list[ComponentConfig] = []
        for number, section in enumerate(sections):
            keys = ("resources", number)
            component = self._component(keys, f"resources[{number}]", section, ())
            if component is None:
                continue
            if any(other.classname == component.classname for other in found):
                self._add(keys, f"resources[{number}]", f"'{component.classname}' is there already")
            found.append(component)
        return tuple(found)

    def _component(
        self, keys: tuple[Key, ...], subject: str, section: Any, more: tuple[str, ...]
    ) -> ComponentConfig | None:
        if not isinstance(section, dict):
            self._add(keys, subject, f"expected a section with 'classname', got {kind(section)}")
            return None
        self._known(keys, section, ("classname", "path", "params", *more))
        if "classname" not in section:
            self._add(keys, subject, "key 'classname' is missing")
        params = section.get("params") or {}
        if not isinstance(params, dict):
            self._add((*keys, "params"), f"{subject}.params", f"expected a mapping, got {kind(params)}")
            params = {}
        return ComponentConfig(
            key=str(keys[-1]),
            classname=self._value((*keys, "classname"), section, str, ""),
            path=self._value((*keys, "path"), section, str | None, None),
            params=params,
            place=self._document.line(*keys),
            dset_name=self._value((*keys, "dset_name"), section, str | None, None),
        )

    def _requires(self, keys: tuple[Key, ...], entries: Any) -> tuple[Requirement, ...]:
        subject = _subject(keys)
        if entries is None:
            return ()
        if not isinstance(entries, list):
            cure = f", write [{entries}]" if isinstance(entries, str) else ""
            self._add(keys, subject, f"expected a list, got {kind(entries)}{cure}")
            return ()
        found = []
        for number, entry in enumerate(entries):
            problems = list(problems_of(entry))
            for key, message in problems:
                at = (*keys, number) if key is None else (*keys, number, key)
                place = self._document.place(*at) if key is None else self._document.key_place(*at)
                self._problems.append(Problem(place, f"{subject}[{number}]", message))
            if not problems:
                found.append(requirement(entry))
        return tuple(found)

    def _settings(self, name: str, cls: type[Any]) -> Any:
        section = self._data.get(name)
        if section is None or (isinstance(section, dict) and "classname" in section):
            return cls()  # the second: a component that is called so
        settings = self._mapping((name,), section)
        fields = {field.name: field for field in msgspec.structs.fields(cls)}
        self._known((name,), settings, fields)
        values = {
            key: self._value((name, key), settings, field.type, field.default)
            for key, field in fields.items()
            if key in settings
        }
        return cls(**values)

    def _names(self, keys: tuple[Key, ...], section: Mapping[str, Any]) -> tuple[str, ...]:
        names = section.get(str(keys[-1]))
        if names is not None and not isinstance(names, list):
            cure = f", write [{names}]" if isinstance(names, str) else ""
            self._add(keys, _subject(keys), f"expected a list, got {kind(names)}{cure}")
            return ()
        return tuple(self._value((*keys, n), dict(enumerate(names)), str, "") for n in range(len(names))) if names else ()

    def _value(self, keys: tuple[Key, ...], section: Mapping[Any, Any], expected: Any, default: Any) -> Any:
        """The last of `keys` in its section, which must be of the expected type; `default` where it is left empty."""
        value = section.get(keys[-1])
        if value is None and (default is None or keys[-1] not in section or default == ()):
            return default
        try:
            return msgspec.convert(value, expected)
        except msgspec.ValidationError as error:
            message = str(error).partition(" - at ")[0].replace("`", "'")
            self._add(keys, _subject(keys), f"{message[0].lower()}{message[1:]}, here it is {kind(value)}")
            return default

    def _mapping(self, keys: tuple[Key, ...], value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        if value is not None or keys == ("flow",):
            self._add(keys, _subject(keys), f"expected a mapping, got {kind(value)}")
        return {}

    def _known(self, keys: tuple[Key, ...], section: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in section:
            if key not in known:
                place = self._document.key_place(*keys, key)
                self._problems.append(Problem(place, _subject(keys), unknown_key(key, known)))

    def _add(self, keys: tuple[Key, ...], subject: str, message: str) -> None:
        self._problems.append(Problem(self._document.place(*keys), subject, message))


def _subject(keys: tuple[Key, ...]) -> str:
    """`('a', 'b', 0)` as `a.b[0]`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text
