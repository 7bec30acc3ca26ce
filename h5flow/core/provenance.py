"""What made a file, kept in the file: who ran what with which versions, enough to run it again.

Each job adds a group `/h5flow/run_0001`, `run_0002`, … to its output; an input that was made by a job brings those of
its own along. Its attributes tell of the job, those of its groups `workflow_1`, … of each workflow.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import h5py
import msgspec
import numpy as np
import yaml

from h5flow._version import __version__
from h5flow.core.digest import sha256
from h5flow.telemetry.encoding import encodable
from h5flow.workflow import WorkflowConfig

#: The group of all runs, and how that of each is called.
TOP = "h5flow"
_RUN = "run_{:04d}"
_WORKFLOW = "workflow_{}"

#: What becomes of a run. One that has no end was killed, or has failed.
RUNNING, DONE = "running", "done"

# Attributes that hold JSON.
_STRUCTURED = ("command", "arguments", "inputs", "versions", "components")


class ComponentRecord(msgspec.Struct, frozen=True):
    """A class that was used: as what, where it comes from, its `class_version`, and that of its package."""

    role: str
    key: str
    classname: str
    module: str
    class_version: str
    package_version: str | None = None


class InputRecord(msgspec.Struct, frozen=True):
    """A file as it was when it was read; the size is in bytes."""

    path: str
    size: int | None
    modified: str | None


class WorkflowRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One workflow of a job: the file's name, and what it says with all that it includes, as YAML."""

    name: str
    text: str
    sha256: str
    components: tuple[ComponentRecord, ...]
    storage: str
    status: str = RUNNING
    slices: int = 0
    rows: int = 0


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One job, as far as it is known; times are ISO 8601, UTC."""

    run_id: str
    status: str
    started: str
    ended: str | None = None
    host: str = ""
    ranks: int = 1
    folder: str = ""
    command: tuple[str, ...] = ()
    #: As `run_workflows` got them.
    arguments: dict[str, Any] = {}
    inputs: tuple[InputRecord, ...] = ()
    versions: dict[str, str] = {}
    workflows: tuple[WorkflowRecord, ...] = ()


class Attributes(Protocol):
    """A file whose groups have attributes, such as a data manager."""

    def exists(self, path: str) -> bool:
        """Say whether there is anything at a path."""
        ...

    def set_attrs(self, name: str, /, **attrs: Any) -> None:
        """Set attributes of a group, which is made if needed."""
        ...


class Provenance:
    """Writes down what a job is, as it goes on. All ranks of the job do so alike."""

    def __init__(self, run_id: str, ranks: int, inputs: Iterable[str | None], arguments: Mapping[str, Any]) -> None:
        self._run_id = run_id
        self._ranks = ranks
        self._inputs = records_of(path for path in inputs if path is not None)
        self._arguments = dict(arguments)
        self._path: str | None = None
        self._workflows = 0

    def begin(self, file: Attributes, config: WorkflowConfig, components: Sequence[ComponentRecord], kind: str) -> None:
        """Note that a workflow begins, and with the first one the job. Collective."""
        if self._path is None:
            numbers = iter(range(1, 1_000_000))
            self._path = next(path for path in (f"{TOP}/{_RUN.format(n)}" for n in numbers) if not file.exists(path))
            file.set_attrs(
                self._path,
                run_id=self._run_id,
                status=RUNNING,
                started=_now(),
                host=platform.node(),
                ranks=self._ranks,
                folder=encodable(str(Path.cwd())),
                command=_json(sys.argv),
                arguments=_json(self._arguments),
                inputs=_json(self._inputs),
                versions=_json(versions()),
            )
        self._workflows += 1
        text = resolved(config)
        file.set_attrs(
            self._workflow,
            name=encodable(config.name),
            text=text,
            sha256=sha256(text.encode()).hexdigest(),
            components=_json(components),
            storage=kind,
            status=RUNNING,
        )

    def end(self, file: Attributes, slices: int, rows: int, *, last: bool) -> None:
        """Note that a workflow is done, and with the last one the job. Collective."""
        assert self._path is not None
        file.set_attrs(self._workflow, status=DONE, slices=slices, rows=rows)
        if last:
            file.set_attrs(self._path, status=DONE, ended=_now())

    @property
    def _workflow(self) -> str:
        return f"{self._path}/{_WORKFLOW.format(self._workflows)}"


def versions() -> dict[str, str]:
    """Return the versions of what a result may depend on."""
    found = {
        "h5flow": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "platform": platform.platform(),
    }
    if "mpi4py.MPI" in sys.modules:
        library: str = sys.modules["mpi4py.MPI"].Get_library_version()
        found["mpi4py"] = sys.modules["mpi4py"].__version__
        found["mpi"] = library.strip("\0\n ").splitlines()[0]
    return found


def record_of(role: str, key: str, found: type) -> ComponentRecord:
    """Record what is to be known of a component's class."""
    package = sys.modules.get(found.__module__.partition(".")[0])
    version = getattr(package, "__version__", None)
    return ComponentRecord(
        role=role,
        key=key,
        classname=found.__name__,
        module=found.__module__,
        class_version=str(getattr(found, "class_version", "")),
        package_version=None if version is None else str(version),
    )


def resolved(config: WorkflowConfig) -> str:
    """Return what a workflow file says, with what it includes and what was overridden, as YAML."""
    return yaml.dump(
        config.data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )


_TUPLE = "tag:yaml.org,2002:python/tuple"


class _Dumper(yaml.SafeDumper):
    """Writes what isn't YAML, such as an array in a config made by a script, as it prints."""

    def ignore_aliases(self, data: Any) -> bool:
        """Say that every value is written out wherever it stands."""
        return True


_Dumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(repr(value)))
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence(_TUPLE, value))


def read(file: h5py.File) -> list[RunRecord]:
    """Read the jobs that have made a file, in order. What is missing, or isn't as it should be, is left out."""
    top = _member(file, TOP)
    names = sorted(name for name in top if name.startswith("run_")) if top is not None else []
    groups = [group for name in names if (group := _member(top, name)) is not None and "run_id" in group.attrs]
    return [run for group in groups if (run := _run(group)) is not None]


def _run(group: h5py.Group) -> RunRecord | None:
    # Whoever has a dataset of the same name has it beside them.
    names = sorted((name for name in group if name.startswith("workflow_")), key=_number)
    parts = [part for name in names if (part := _member(group, name)) is not None and "sha256" in part.attrs]
    workflows = [record for part in parts if (record := _record(part, WorkflowRecord)) is not None]
    found: RunRecord | None = _record(group, RunRecord, workflows=workflows)
    return found


def _member(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return a group in a group, `None` where there is something else, or a link that leads nowhere."""
    try:
        found = group.get(name)
    except (KeyError, OSError, RuntimeError):
        return None
    return found if isinstance(found, h5py.Group) else None


def _record(group: h5py.Group, kind: type[Any], **more: Any) -> Any:
    """Read what the attributes of a group say, `None` where that is no such record."""
    values: dict[str, Any] = dict(more)
    try:
        for field in msgspec.structs.fields(kind):
            if field.name in group.attrs:
                value = group.attrs[field.name]
                plain = value.item() if isinstance(value, np.generic) else value
                values[field.name] = _from_json(value) if field.name in _STRUCTURED else plain
        return msgspec.convert(msgspec.to_builtins(values), kind)
    except (OSError, TypeError, ValueError, msgspec.ValidationError):  # of attributes of another kind, or damaged ones
        return None


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else 0, name)


def records_of(paths: Iterable[str]) -> list[InputRecord]:
    """Record files as they are now."""
    return [_record_of_file(path) for path in paths]


def _record_of_file(path: str) -> InputRecord:
    try:
        status = Path(path).stat()
    except OSError:
        return InputRecord(path, None, None)
    modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="microseconds")
    return InputRecord(path, status.st_size, modified)


def _json(value: Any) -> str:
    plain = msgspec.to_builtins(value, enc_hook=str)
    try:
        return msgspec.json.encode(plain).decode()
    except UnicodeEncodeError:
        import json

        return json.dumps(plain)  # the name of a file, say, that is no text, as it is


def _from_json(text: str | bytes) -> Any:
    import json  # which reads what msgspec doesn't write

    return json.loads(text)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
