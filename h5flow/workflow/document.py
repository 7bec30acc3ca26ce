"""Workflow files: YAML with `!include`, and for each value the place where it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from h5flow.errors import ConfigError, Problem

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Key = str | int


class Document:
    """The content of a workflow file as plain Python values, and where each of them stands."""

    def __init__(self, name: str, data: dict[str, Any], root: yaml.Node | None = None) -> None:
        self.name = name
        self.data = data
        self._root = root
        self._overridden: dict[tuple[Key, ...], str] = {}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], name: str = "<config>") -> Document:
        """A document made by a program; its values have no places."""
        return cls(name, dict(mapping))

    def place(self, *keys: Key) -> str:
        """Where a value stands, as `file:line:column`; of one that doesn't exist, where it would belong."""
        return self._place(keys, of_key=False)

    def key_place(self, *keys: Key) -> str:
        """Where the last of `keys` stands."""
        return self._place(keys, of_key=True)

    def line(self, *keys: Key) -> str:
        """Where the last of `keys` stands, as `file:line`."""
        place = self.key_place(*keys)
        return place if place.startswith("--set") else place.rpartition(":")[0] or place

    def override(self, assignment: str) -> None:
        """Set a value: `section.key=value`, where the value is YAML and a number is an index into a list.

        Missing sections are made. Raises `ConfigError`.
        """
        where = f"--set {assignment}"
        path, equals, text = assignment.partition("=")
        keys: tuple[Key, ...] = tuple(path.strip().split("."))
        if not equals or "" in keys:
            raise ConfigError([Problem(where, "", "expected KEY=VALUE, e.g. runtime.strict=true")])
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise ConfigError([Problem(where, "", f"the value isn't YAML: {_short(error)}")]) from error
        container: Any = self.data
        for depth, key in enumerate(keys):
            last = depth == len(keys) - 1
            if isinstance(container, list):
                if not (str(key).isdigit() and int(key) < len(container)):
                    raise ConfigError([Problem(where, "", f"'{key}' is no index into {len(container)} items")])
                key = int(key)
                keys = (*keys[:depth], key, *keys[depth + 1 :])
            elif not isinstance(container, dict):
                parent = ".".join(map(str, keys[:depth]))
                raise ConfigError([Problem(where, "", f"'{parent}' is a single value, it has no '{key}'")])
            if last:
                container[key] = value
            else:
                if isinstance(container, dict) and container.get(key) is None:
                    container[key] = {}
                container = container[key]
        self._overridden[keys] = where

    def _place(self, keys: tuple[Key, ...], of_key: bool) -> str:
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self._overridden:
                return self._overridden[keys[:depth]]
        node = found = self._root
        if node is None:
            return self.name
        for depth, key in enumerate(keys):
            pair = _child(node, key)
            if pair is None:
                break
            key_node, node = pair
            found = key_node if of_key and depth == len(keys) - 1 else node
        assert found is not None
        return _mark(found.start_mark)


def load(path: str) -> Document:
    """Read a workflow file. Raises `ConfigError` for all that is wrong with it as YAML."""
    reader = _Reader()
    root = reader.compose(path, included=())
    if reader.problems or root is None:
        raise ConfigError(reader.problems or [Problem(path, "", "the file is empty")])
    data = yaml.constructor.SafeConstructor().construct_document(root)
    if not isinstance(data, dict):
        raise ConfigError([Problem(_mark(root.start_mark), "", "a workflow is a mapping, with a key 'flow'")])
    return Document(path, data, root)


class _Reader:
    """Composes files, with what they include in the place of the `!include`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def compose(self, path: str, included: tuple[tuple[Path, str], ...]) -> yaml.Node | None:
        try:
            with open(path, "rb") as stream:  # noqa: PTH123 - marks name the file as it is spelled here
                root = yaml.compose(stream, Loader=_Loader)
        except OSError as error:
            self.problems.append(Problem(path, "", f"can't be read: {error.strerror}"))
            return None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            self.problems.append(Problem(_mark(mark) if mark else path, "", _short(error)))
            return None
        here = (*included, (Path(path).resolve(), path))
        return None if root is None else self._expand(root, here, set())

    def _expand(self, node: yaml.Node, included: tuple[tuple[Path, str], ...], seen: set[int]) -> yaml.Node:
        if node.tag == "!include":
            return self._include(node, included)
        if id(node) in seen:
            return node
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._find_repeated(node)
            node.value = [(key, self._expand(value, included, seen)) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            node.value = [self._expand(value, included, seen) for value in node.value]
        elif node.tag.startswith("!"):
            self.problems.append(Problem(_mark(node.start_mark), "", f"unknown tag '{node.tag}'"))
            node.tag = "tag:yaml.org,2002:str"
        return node

    def _include(self, node: yaml.Node, included: tuple[tuple[Path, str], ...]) -> yaml.Node:
        place = _mark(node.start_mark)
        nothing = yaml.ScalarNode("tag:yaml.org,2002:null", "null", node.start_mark, node.end_mark)
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.problems.append(Problem(place, "", "!include takes the name of a file"))
            return nothing
        # As existing workflows have it, relative to the working directory; else to the including file.
        beside = Path(included[-1][1]).parent / node.value
        path = node.value if Path(node.value).exists() or not beside.exists() else str(beside)
        if Path(path).resolve() in {file for file, _ in included}:
            chain = " → ".join([*(name for _, name in included), path])
            self.problems.append(Problem(place, "", f"files include each other: {chain}"))
            return nothing
        if not Path(path).exists():
            self.problems.append(Problem(place, "", f"included file '{node.value}' doesn't exist"))
            return nothing
        return self.compose(path, included) or nothing

    def _find_repeated(self, node: yaml.MappingNode) -> None:
        seen: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                where = _mark(first.start_mark)
                message = f"key '{key.value}' stands here again, first at {where}"
                self.problems.append(Problem(_mark(key.start_mark), "", message))


def _child(node: yaml.Node, key: Key) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    if isinstance(node, yaml.MappingNode):
        # Merged keys come first, a mapping's own ones count.
        for key_node, value_node in reversed(node.value):
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == str(key):
                return key_node, value_node
    return None


def _mark(mark: Any) -> str:
    return f"{mark.name}:{mark.line + 1}:{mark.column + 1}"


def _short(error: yaml.YAMLError) -> str:
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    return ", ".join(part for part in parts if part) or str(error).splitlines()[0]
