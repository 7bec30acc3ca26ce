"""What stages require to have been loaded for each slice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from h5flow.workflow.document import Document, Keys
from h5flow.workflow.sections import SectionReader, shown

_Dataset = Annotated[str, Meta(min_length=1)]
_EXAMPLE = "requires: [A]"


class Requirement(msgspec.Struct, frozen=True):
    """Data that is loaded under `name`, by walking the datasets of `path`; row numbers with `index_only`."""

    name: str
    path: tuple[str, ...]
    index_only: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the requirement as stages find it in `requires`."""
        return {"name": self.name, "path": list(self.path), "index_only": self.index_only}


class _Entry(msgspec.Struct):
    name: Annotated[_Dataset, Meta(description="a name")]
    path: Annotated[
        _Dataset | Annotated[tuple[_Dataset, ...], Meta(min_length=1)] | None,
        Meta(description="a dataset name or a list of them"),
    ] = None
    index_only: Annotated[bool, Meta(description="true or false")] = False


def format_requirements(requires: Iterable[str | Mapping[str, Any]]) -> list[Requirement]:
    """Read requirements from a list as it stands in a workflow; raises `ConfigError`."""
    data = requires if isinstance(requires, str | Mapping) or requires is None else list(requires)
    reader = SectionReader(Document.from_mapping({}, name=""))
    found = read_requirements(reader, data, ("requires",))
    reader.raise_problems()
    return list(found)


def read_requirements(reader: SectionReader, data: Any, keys: Keys) -> tuple[Requirement, ...]:
    """Read requirements from `data`, which is at `keys` of the reader's document."""

    def read(item: Any, at: Keys) -> Requirement | None:
        if isinstance(item, str) and item:
            return Requirement(item, (item,))
        if not isinstance(item, Mapping):
            reader.report(at, f"expected a dataset name, or a mapping with 'name' and 'path', not {shown(item)}")
            return None
        entry = reader.section(_Entry, item, at)
        if entry is None:
            return None
        path = entry.path or entry.name
        return Requirement(entry.name, (path,) if isinstance(path, str) else path, entry.index_only)

    example = f"requires: [{data}]" if isinstance(data, str) else _EXAMPLE
    return reader.items(data, keys, read, example)
