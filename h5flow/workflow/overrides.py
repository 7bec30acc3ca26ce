"""Values given on the command line in the place of those in the workflow file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from h5flow.workflow.document import Document, Keys, Mark, fail, subject, value_of


class Override(msgspec.Struct, frozen=True):
    """A value and the way to it, as in `hit_finder.requires.0.index_only=true`."""

    steps: tuple[str, ...]
    value: Any
    place: Mark

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read `KEY=VALUE`, with dots in the key and YAML for the value; raises `ConfigError`."""
        place = Mark(f"--set {text}")
        name, equals, value = text.partition("=")
        steps = tuple(step.strip() for step in name.split("."))
        if not equals or not all(steps):
            fail(place, "", "expected KEY=VALUE, with dots in the key, as in 'runtime.strict=true'")
        try:
            return cls(steps, value_of(value), place)
        except (yaml.YAMLError, ValueError):
            fail(place, "", f"'{value}' is not valid YAML")

    def applied(self, document: Document) -> Document:
        """Return a document with the value; sections on the way to it are made if they are missing."""
        data, keys = self._replaced(document.data, self.steps, ())
        return document.overridden(data, keys, self.place)

    def _replaced(self, data: Any, steps: tuple[str, ...], done: Keys) -> tuple[Any, Keys]:
        # Copies what is on the way and nothing else: with YAML aliases, other sections may share it.
        if not steps:
            return self.value, done
        step, *rest = steps
        key: Any = step
        if isinstance(data, list | tuple):
            if not step.isdecimal() or int(step) >= len(data):
                fail(self.place, subject(done), f"there is no item {step}, the list has {len(data)}, from 0 on")
            key = int(step)
            item, keys = self._replaced(data[key], tuple(rest), (*done, key))
            return [*data[:key], item, *data[key + 1 :]], keys
        if data is not None and not isinstance(data, Mapping):
            fail(self.place, subject(done), f"there can be no '{step}' in the value {data!r}")
        section = data or {}
        item, keys = self._replaced(section.get(key), tuple(rest), (*done, key))
        return {**section, key: item}, keys
