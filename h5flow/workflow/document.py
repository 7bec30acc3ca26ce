"""Workflow files: YAML with `!include`, and where in the files each value stands."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import msgspec
import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.reader import Reader, ReaderError

from h5flow.errors import ConfigError, Problem

#: The way to a value: keys of mappings and numbers of list items.
Keys = tuple[Any, ...]

#: The loader, in C where PyYAML has been built with it.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"
_INCLUDE = "!include"


class Mark(NamedTuple):
    """A place in a file, lines and columns counted from 1; both are 0 where there is no such thing."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Document(msgspec.Struct, frozen=True):
    """The data of a workflow file, and where each of its values stands."""

    path: str
    data: dict[Any, Any]
    _root: yaml.Node | None = None
    _overrides: tuple[tuple[Keys, Mark], ...] = ()

    @classmethod
    def from_mapping(cls, mapping: Mapping[Any, Any], name: str = "<config>") -> Document:
        """Make a document that was never a file; `name` is the place of all its values."""
        return cls(name, dict(mapping))

    def mark(self, *keys: Any) -> Mark:
        """Say where a value starts; of one that doesn't exist, where the innermost section around it starts."""
        return self._override_of(keys) or self._mark_of(self._find(keys)[1])

    def key_mark(self, *keys: Any) -> Mark:
        """Say where the key of a value in a mapping starts, otherwise the same as `mark`."""
        return self._override_of(keys) or self._mark_of(self._find(keys)[0])

    def place(self, *keys: Any) -> str:
        """Return `mark` as it is shown to users: `workflow.yaml:12:5`."""
        return str(self.mark(*keys))

    def key_place(self, *keys: Any) -> str:
        """Return `key_mark` as it is shown to users."""
        return str(self.key_mark(*keys))

    def is_referred_to(self, key: str) -> bool:
        """Say whether a part of the section at a key stands in another section as well, by an alias of YAML."""
        if not isinstance(self._root, yaml.MappingNode):
            return False
        inside: set[int] = set()
        outside: set[int] = set()
        for key_node, value in self._root.value:
            is_it = isinstance(key_node, yaml.ScalarNode) and key_node.value == key
            _note_nodes(value, inside if is_it else outside)
        return bool(inside & outside)

    def overridden(self, data: dict[Any, Any], keys: Keys, place: Mark) -> Document:
        """Return the document with other data, of which the value at `keys` now is from `place`."""
        return msgspec.structs.replace(self, data=data, _overrides=(*self._overrides, (keys, place)))

    def _override_of(self, keys: Keys) -> Mark | None:
        for overridden, place in reversed(self._overrides):
            if keys[: len(overridden)] == overridden:
                return place
        return None

    def _find(self, keys: Keys) -> tuple[yaml.Node | None, yaml.Node | None]:
        """Return the nodes of the key and the value; of what doesn't exist, the innermost section twice."""
        key_node = node = self._root
        for key in keys:
            child = None if node is None else _child(node, key)
            if child is None:
                return node, node
            key_node, node = child
        return key_node, node

    def _mark_of(self, node: yaml.Node | None) -> Mark:
        return Mark(self.path) if node is None else _mark(node.start_mark)


def load(path: str | Path) -> Document:
    """Read a workflow file with all that it includes; raises `ConfigError`."""
    return load_text(_text(str(path), Mark(str(path))), str(path))


def load_text(text: str, name: str) -> Document:
    """Load the document of a workflow that is there as text, under the name of its file; raises `ConfigError`."""
    problems: list[Problem] = []
    root = _composed(text, name, (), problems)
    if problems:
        raise ConfigError(problems)
    try:
        data = _Constructor().construct_document(root)
    except ConstructorError as error:
        fail(_mark(error.problem_mark), "", str(error.problem))
    if not isinstance(data, dict):
        fail(_mark(root.start_mark), "", "a workflow is a mapping with a section 'flow'")
    return Document(name, data, root)


class _NamedText(io.StringIO):
    """Text whose marks say which file it is from."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


_TUPLE = "tag:yaml.org,2002:python/tuple"


class _Constructor(SafeConstructor):
    """Constructs data from nodes; says where a scalar is that has no value, such as the date 2024-13-01.

    Besides what is safe anyway there are tuples, as Python's own YAML has them; no other objects of Python.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        """Return the items of a sequence; others are mistakes."""
        if not isinstance(node, yaml.SequenceNode):
            raise ConstructorError(None, None, "a tuple is written as a list, !!python/tuple [1, 2]", node.start_mark)
        return tuple(self.construct_sequence(node, deep=True))

    def construct_undefined(self, node: yaml.Node) -> Any:
        """Refuse what would make objects of Python, or nobody knows."""
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        holds = "workflow files hold plain values, !!python/tuple and !include"
        message = f"could not determine a constructor for the tag '{tag}': {holds}"
        raise ConstructorError(None, None, message, node.start_mark)


_Constructor.add_constructor(_TUPLE, _Constructor.construct_tuple)  # type: ignore[type-var]
_Constructor.add_constructor(None, _Constructor.construct_undefined)  # type: ignore[type-var]


def value_of(text: str) -> Any:
    """Return the value of a text in YAML. Raises `yaml.YAMLError` and `ValueError`."""
    node = Loader(text).get_single_node()
    return None if node is None else _Constructor().construct_document(node)


def _composed(text: str, file: str, chain: tuple[str, ...], problems: list[Problem]) -> yaml.Node:
    """Compose the nodes of a file's text, with what it includes in its place."""
    try:
        root = cast("yaml.Node | None", Loader(_NamedText(text, file)).get_single_node())
    except ReaderError:
        found = Reader.NON_PRINTABLE.search(text)
        place = _mark_in(text[: found.start()], file) if found else Mark(file)
        fail(place, "", "not valid YAML: a control character")
    except yaml.MarkedYAMLError as error:
        context = f" {error.context}" if error.context else ""
        fail(_mark(error.problem_mark), "", f"not valid YAML: {error.problem}{context}")
    if root is None:
        fail(Mark(file), "", "the file is empty")
    return _Expansion(file, chain, problems).expanded(root, ())


class _Expansion:
    """Puts included files in the place of `!include` nodes, and finds keys that appear twice."""

    def __init__(self, file: str, chain: tuple[str, ...], problems: list[Problem]) -> None:
        self._file = file
        self._chain = (*chain, file)
        self._problems = problems
        self._seen: set[int] = set()

    def expanded(self, node: yaml.Node, keys: Keys) -> yaml.Node:
        """Return the node, or what it includes."""
        if node.tag == _INCLUDE:
            try:
                return self._included(node, keys)
            except ConfigError as error:
                self._problems.extend(error.problems)
                return node
        # Aliases make one node appear in several places, even within itself.
        if id(node) not in self._seen:
            self._seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                self._check_duplicates(node, keys)
                node.value = [(key, self.expanded(value, (*keys, key.value))) for key, value in node.value]
            elif isinstance(node, yaml.SequenceNode):
                node.value = [self.expanded(item, (*keys, i)) for i, item in enumerate(node.value)]
        return node

    def _included(self, node: yaml.Node, keys: Keys) -> yaml.Node:
        place = _mark(node.start_mark)
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            fail(place, subject(keys), "!include takes the name of a file")
        file = node.value
        beside = str(Path(self._file).parent / file)
        if not Path(file).exists() and Path(beside).exists():
            file = beside
        if Path(file).resolve() in {Path(name).resolve() for name in self._chain}:
            fail(place, subject(keys), f"includes itself: {' → '.join([*self._chain, file])}")
        return _composed(_text(file, place), file, self._chain, self._problems)

    def _check_duplicates(self, node: yaml.MappingNode, keys: Keys) -> None:
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            before = first.setdefault((key.tag, key.value), key)
            if before is not key:
                message = f"key '{key.value}' appears twice, first at {_mark(before.start_mark)}"
                self._problems.append(Problem(str(_mark(key.start_mark)), subject(keys), message))


def subject(keys: Iterable[Any]) -> str:
    """Return keys as they are shown to users: `hit_finder.requires[1]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _text(file: str, asked: Mark) -> str:
    try:
        content = Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        included = f"included file '{file}' " if asked.line else ""
        fail(asked, "", f"{included}can't be read: {reason}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(_mark_in(content[: error.start].decode("utf-8"), file), "", "the file is not UTF-8 text")


def _child(node: yaml.Node, key: Any) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the nodes of a key and its value in a node that has been constructed, so that it is flat."""
    if isinstance(node, yaml.MappingNode):
        # Of a key that appears twice, as merged and as the mapping's own, the last one counts.
        for key_node, value in reversed(node.value):
            if _Constructor().construct_document(key_node) == key:
                return key_node, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and 0 <= key < len(node.value):
        return node.value[key], node.value[key]
    return None


def _note_nodes(node: yaml.Node, seen: set[int]) -> None:
    """Note a node and all that are in it."""
    if id(node) not in seen:
        seen.add(id(node))
        for item in node.value if isinstance(node, yaml.CollectionNode) else ():
            for part in item if isinstance(item, tuple) else (item,):
                _note_nodes(part, seen)


def _mark(mark: yaml.Mark | None) -> Mark:
    return Mark(mark.name, mark.line + 1, mark.column + 1) if mark else Mark("")


def _mark_in(before: str, file: str) -> Mark:
    """Return the place after the text `before` of a file."""
    return Mark(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def fail(place: Mark, what: str, message: str) -> NoReturn:
    """Raise `ConfigError` with one problem."""
    raise ConfigError([Problem(str(place), what, message)]) from None
