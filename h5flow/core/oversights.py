"""What a workflow says, or a class defines, and nobody looks at: misspelled names, mostly.

Found without running anything. Source texts are searched for names first, which costs microseconds; only of one that
stands nowhere is the source parsed. Whatever isn't sure, as where parameters are taken as a whole, isn't told.
"""

from __future__ import annotations

import inspect
import linecache
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from h5flow.core.classes import ROLES, sections
from h5flow.core.h5_flow_generator import H5FlowGenerator
from h5flow.core.h5_flow_resource import H5FlowResource
from h5flow.core.h5_flow_stage import H5FlowStage
from h5flow.workflow.spelling import did_you_mean

if TYPE_CHECKING:
    import ast

    from h5flow.core.component import Component
    from h5flow.workflow import ComponentConfig, WorkflowConfig

#: What each kind of component is called for, with how many arguments.
_METHODS: dict[type[Component], dict[str, int]] = {
    H5FlowStage: {"init": 1, "run": 3, "finish": 1},
    H5FlowGenerator: {"init": 0, "next": 0, "finish": 0},
    H5FlowResource: {"init": 1, "finish": 1},
}
#: Parameters that the base classes read.
_PASSED = {"classname", "dset_name", "data_manager", "name", "requires"}
_GIVEN = {"input_filename": "the input", "start_position": "the start", "end_position": "the end"}
_RANKS = r"\.(?:rank|comm)\b|\b(?:self|data_manager|dm)\.size\b|\bMPI\b|\bmpi4py\b|\bH5FLOW_MPI\b"


class Oversight(NamedTuple):
    """What is told, and of which level of logging it is."""

    sentence: str
    level: int = logging.WARNING


def oversights(
    config: WorkflowConfig, classes: Iterable[type[Component]], given: Iterable[str] = ()
) -> list[Oversight]:
    """List what a workflow has overlooked, whose `classes` are those of its `sections`.

    `given` are those of `input_filename`, `start_position` and `end_position` that somebody has to look at.
    """
    found = [*_unused_sections(config)]
    components = [(section, base, kind) for (section, base), kind in zip(sections(config), classes, strict=True)]
    for section, base, kind in components:
        label = f"{section.place}: {ROLES[base]} '{section.key}'" if section.place else f"{ROLES[base]} '{section.key}'"
        found += _misnamed_methods(kind, base, label)
        found += _unread_parameters(kind, section, label)
    if config.generator is not None:
        place = f"{config.generator.place}: " if config.generator.place else ""
        label = f"{place}generator '{config.generator.key}'"
        (generator,) = [kind for _, base, kind in components if base is H5FlowGenerator]
        resources = [kind for _, base, kind in components if base is H5FlowResource]
        found += _ignored(generator, resources, label, given)
    return found


def knows_ranks(kind: type[Component]) -> bool:
    """Say whether the source of a class, or of its bases, has to do with ranks, or can't be had."""
    texts = _texts(kind)
    return texts is None or any(re.search(_RANKS, text) for text in texts)


# sections


def _unused_sections(config: WorkflowConfig) -> Iterator[Oversight]:
    for section in config.unused:
        if section.is_component:
            yield Oversight(f"{section.place}: section '{section.key}' isn't used by this flow", logging.INFO)
        else:
            yield Oversight(f"{section.place}: nothing uses section '{section.key}'{section.hint}")


# parameters


def _unread_parameters(kind: type[Component], section: ComponentConfig, label: str) -> Iterator[Oversight]:
    wanted = [name for name in section.params if isinstance(name, str) and name not in _PASSED | _GIVEN.keys()]
    texts = _texts(kind) if wanted else None
    if texts is None:
        return
    unread = [name for name in wanted if not _mentioned(name, texts)]
    read = _names_read(kind, texts) if unread else None
    if read is None:
        return
    for name in unread:
        known = did_you_mean(name, read) or (f" (it reads {', '.join(sorted(read)[:8])})" if read else "")
        yield Oversight(f"{label}: nobody reads its parameter '{name}'{known}")


def _mentioned(name: str, texts: Iterable[str]) -> bool:
    return any(_stands_in(name, text) for text in texts)


def _stands_in(name: str, text: str) -> bool:
    """Say whether a name stands in a text, and not as a part of another one. (To compile a pattern takes longer.)"""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        around = text[max(0, at - 1) : at] + text[end : end + 1]
        if not any(sign.isalnum() or sign == "_" for sign in around):
            return True
        at = text.find(name, end)
    return False


def _names_read(kind: type[Component], texts: Iterable[str]) -> set[str] | None:
    """Return the parameters that a class reads by name; `None` if it may read others, too."""
    import ast

    classes = {base.__name__ for base in kind.__mro__ if not _is_base(base)}
    read: set[str] = set()
    for text in texts:
        try:
            tree = ast.parse(text)
        except SyntaxError:
            return None
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in classes:
                classes.discard(node.name)
                names = _read_in(node)
                if names is None:
                    return None
                read |= names
    return None if classes else read


def _read_in(definition: ast.ClassDef) -> set[str] | None:
    """Return the parameters that the methods of a class read by name; `None` if it may read others, too."""
    import ast

    if definition.decorator_list or definition.keywords:
        return None
    read: set[str] = set()
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and node.id in ("vars", "locals", "setattr"):
            return None
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            return None
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name == "__init__":
            read |= {each.arg for each in (*node.args.args[1:], *node.args.kwonlyargs)} - _PASSED - _GIVEN.keys()
        if node.args.kwarg is not None:
            names = _read_from(node.args.kwarg.arg, node)
            if names is None:
                return None
            read |= names
    return read


def _read_from(mapping: str, function: ast.AST) -> set[str] | None:
    """Return the keys that a function looks up in a mapping.

    `None` if it uses the mapping in any other way than to hand it to a base.
    """
    import ast

    parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    read: set[str] = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Name) or node.id != mapping:
            continue
        parent = parents[node]
        key: ast.AST | None = None
        if isinstance(parent, ast.Attribute) and parent.attr in ("get", "pop", "setdefault"):
            call = parents[parent]
            key = call.args[0] if isinstance(call, ast.Call) and call.args else None
        elif isinstance(parent, ast.Subscript):
            key = parent.slice
        elif isinstance(parent, ast.Compare) and isinstance(parent.ops[0], ast.In | ast.NotIn):
            key = parent.left
        elif isinstance(parent, ast.keyword) and parent.arg is None:
            call = parents[parent]
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__":
                continue
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        read.add(key.value)
    return read


# methods


def _misnamed_methods(kind: type[Component], base: type[Component], label: str) -> Iterator[Oversight]:
    own = [each for each in kind.__mro__ if not each.__module__.startswith("h5flow.") and each is not object]
    if not own:
        return
    for method, arguments in _METHODS[base].items():
        if next(each for each in kind.__mro__ if method in vars(each)) is not base:
            continue
        close = [
            name
            for each in own
            for name, value in vars(each).items()
            if _is_close(name, method) and _takes(value, arguments)
        ]
        if not close and method != "run":
            continue
        texts = _texts(kind) or []
        close = [name for name in close if not _is_called(name, texts)]
        if any(re.search(rf"\.{method}\s*=[^=]", text) for text in texts):
            continue
        if close:
            yield Oversight(
                f"{label}: class {kind.__name__} has no {method}(), and nobody calls its '{close[0]}'"
                f" (did you mean '{method}'?)"
            )
        elif method == "run":
            yield Oversight(f"{label}: class {kind.__name__} has no run(), so nothing is done with its slices")


def _is_close(name: str, wanted: str) -> bool:
    """Say whether a name is a wanted one but for case, underscores, one letter, or two letters the wrong way round."""
    if name.startswith("__"):
        return False
    bare = name.strip("_").lower()
    if bare == wanted:
        return True
    if len(bare) == len(wanted):
        apart = [place for place, (one, other) in enumerate(zip(bare, wanted, strict=True)) if one != other]
        if len(apart) == 2:
            first, second = apart
            return second == first + 1 and bare[first] == wanted[second] and bare[second] == wanted[first]
        return len(apart) == 1
    short, long = sorted((bare, wanted), key=len)
    return len(long) == len(short) + 1 and any(long[:at] + long[at + 1 :] == short for at in range(len(long)))


def _takes(value: object, arguments: int) -> bool:
    """Say whether something is a method that can be called with so many arguments."""
    if not inspect.isfunction(value):
        return False
    try:
        inspect.signature(value).bind(*[None] * (1 + arguments))
    except TypeError:
        return False
    return True


def _is_called(name: str, texts: Iterable[str]) -> bool:
    return any(re.search(rf"\.{re.escape(name)}\b", text) for text in texts)


# what the run is given


def _ignored(
    kind: type[Component], resources: Sequence[type[Component]], label: str, given: Iterable[str]
) -> Iterator[Oversight]:
    for name in given:
        if name == "input_filename" and getattr(kind, "copies_input", False):
            continue
        readers = [kind, *(resources if name == "input_filename" else ())]
        if all(_ignores(each, name) for each in readers):
            yield Oversight(
                f"{label} doesn't look at {_GIVEN[name]} that is given ({name}):"
                f" class {kind.__name__} never reads self.{name}"
            )


def _ignores(kind: type[Component], name: str) -> bool:
    texts = _texts(kind)
    return texts is not None and not _mentioned(name, texts) and _names_read(kind, texts) is not None


# sources


def _is_base(kind: type) -> bool:
    """Say whether a class is one of those that all components have, or Python's."""
    module = kind.__module__
    return module.startswith("h5flow.core.") or module.partition(".")[0] in sys.stdlib_module_names


def _texts(kind: type) -> list[str] | None:
    """Return the sources of a class and its bases; `None` if any can't be had."""
    texts = []
    for name in dict.fromkeys(each.__module__ for each in kind.__mro__ if not _is_base(each)):
        # Python keeps the lines that it has read.
        file = getattr(sys.modules.get(name), "__file__", None)
        lines = linecache.getlines(file) if file else []
        if not lines:
            return None
        texts.append("".join(lines))
    return texts


def given_positions(positions: Mapping[str, object]) -> list[str]:
    """List those of a run's positions, and its input, that are given."""
    return [name for name in _GIVEN if positions.get(name) is not None]
