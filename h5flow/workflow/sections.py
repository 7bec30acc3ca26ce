"""Reading sections of a workflow into typed structs, with all that is wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from h5flow.errors import ConfigError, Problem
from h5flow.workflow.document import Document, Keys, Mark, subject
from h5flow.workflow.spelling import did_you_mean

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")


class SectionReader:
    """Reads sections of a document, and collects the problems instead of stopping at the first.

    A field's type is `Annotated[…, Meta(description=…)]`; the description completes "expected …".
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems: list[tuple[Mark, Problem]] = []

    @property
    def problems(self) -> list[Problem]:
        """Return what is wrong, in the order of the file; included files come after it."""
        ordered = sorted(self._problems, key=lambda found: (found[0].file != self.document.path, *found[0]))
        return [problem for _, problem in ordered]

    def raise_problems(self) -> None:
        """Raise `ConfigError` if there are problems."""
        if self._problems:
            raise ConfigError(self.problems)

    def report(self, keys: Keys, message: str, mark: Mark | None = None) -> None:
        """Add a problem; it is at the value of `keys` if `mark` doesn't say otherwise."""
        mark = mark or self.document.mark(*keys)
        self._problems.append((mark, Problem(str(mark), subject(keys), message)))

    def section(self, struct: type[S], data: Any, keys: Keys) -> S | None:
        """Make a struct from `data`, which is at `keys`; `None` after reporting what is wrong."""
        if data is None:
            data = {}
        fields = {field.name: field for field in msgspec.structs.fields(struct)}
        if not isinstance(data, Mapping):
            self.report(keys, f"expected a mapping with {_listed(fields)}, not {shown(data)}")
            return None
        before = len(self._problems)
        for key in data:
            if key not in fields:
                hint = did_you_mean(key, fields) or f" (known: {', '.join(fields)})"
                self.report(keys, f"unknown key '{key}'{hint}", self.document.key_mark(*keys, key))
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if data.get(name) is not None:
                values[name] = self._value(data[name], field.type, (*keys, name))
            elif field.required:
                self.report(keys, f"missing key '{name}'", self.document.key_mark(*keys))
        return struct(**values) if len(self._problems) == before else None

    def items(self, data: Any, keys: Keys, read: Callable[[Any, Keys], T | None], example: str) -> tuple[T, ...]:
        """Read the items of a list, each as `read` makes it of its data and keys; none where there is nothing."""
        if data is None:
            return ()
        if not isinstance(data, list | tuple):
            self.report(keys, f"expected a list, as in '{example}', not {shown(data)}")
            return ()
        made = [read(item, (*keys, number)) for number, item in enumerate(data)]
        return tuple(item for item in made if item is not None)

    def _value(self, data: Any, annotated: Any, keys: Keys) -> Any:
        kind, *metas = get_args(annotated)
        meta = metas[-1]
        if get_origin(kind) is tuple:
            item_type = get_args(kind)[0]
            return self.items(
                data,
                keys,
                lambda item, at: self._value(item, item_type, at),
                f"{keys[-1]}: {meta.examples[0]}",
            )
        try:
            return msgspec.convert(data, annotated)
        except msgspec.ValidationError:
            self.report(keys, f"expected {meta.description}, not {shown(data)}")
            return None


def shown(data: Any) -> str:
    """Return a value as it is shown in an error message."""
    if data is None:
        return "nothing"
    text = str(data).lower() if isinstance(data, bool) else repr(data)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names)
