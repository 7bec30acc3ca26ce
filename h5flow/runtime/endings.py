"""Whether a `StopIteration` is the end of a generator's slices, or has got away from code below its `next`.

Generators may write `return next(self.slices)` and let the iterator that they hold end them. Any other `StopIteration`,
as of `next(iter(found))` where nothing was found, would end a run in the middle, without a word.
"""

from __future__ import annotations

import ast
import linecache
import operator
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from h5flow.errors import H5FlowError
from h5flow.runtime.failure import entries_of, place_of


def check_end(error: StopIteration | StopAsyncIteration, generator: object) -> None:
    """Return if an error is the end of a generator's slices. Raise `H5FlowError`, which says where it is from, if not.

    The end is where a method of the generator raises `StopIteration` by a statement of its own, or takes from an
    iterator that the generator holds: `next(self.slices)`. Where the source can't be had, nothing is the end.
    """
    entries = list(entries_of(error))
    own = 0
    while own < len(entries) and _first_argument(entries[own].tb_frame) is generator:
        own += 1
    if own and _ends(entries[own - 1], entries[own:], generator):
        return
    kind = type(error).__name__
    place = place_of(entries[-1]) if entries else "?"
    raise H5FlowError(
        f"{kind} has left next() from {place}, which isn't the end of its slices: end them with `return self.EMPTY`;"
        " where nothing may be left to take, give next() a default, as in next(iterator, self.EMPTY)"
    ) from error


def _first_argument(frame: FrameType) -> object:
    code = frame.f_code
    if code.co_argcount:
        return frame.f_locals.get(code.co_varnames[0])
    rest = frame.f_locals.get(code.co_varnames[code.co_kwonlyargcount]) if code.co_flags & 0x04 else None
    return rest[0] if isinstance(rest, tuple) and rest else None


def _ends(entry: TracebackType, deeper: list[TracebackType], generator: object) -> bool:
    """Say whether the generator's method at an entry ends it there; `deeper` are calls below."""
    self_name = _name_of_self(entry.tb_frame)
    for node in _nodes(entry):
        if isinstance(node, ast.Await):
            node = node.value
        if isinstance(node, ast.Raise) and not deeper and _is_stop(node.exc):
            return True
        held = _taken_from(node, self_name)
        if held is not None and (not deeper or _is_iterating(deeper[0], generator, held)):
            return True
    return False


def _name_of_self(frame: FrameType) -> str:
    return frame.f_code.co_varnames[0] if frame.f_code.co_argcount else ""


def _is_iterating(entry: TracebackType, generator: object, held: str) -> bool:
    """Say whether a call is that of `__next__` of what the generator holds under a name."""
    code = entry.tb_frame.f_code
    iterator = operator.attrgetter(held)(generator)
    return code.co_name in ("__next__", "__anext__") and _first_argument(entry.tb_frame) is iterator


def _is_stop(raised: ast.expr | None) -> bool:
    if isinstance(raised, ast.Call):
        raised = raised.func
    return isinstance(raised, ast.Name) and raised.id in ("StopIteration", "StopAsyncIteration")


def _taken_from(node: ast.AST, self_name: str) -> str | None:
    """Return the attribute (`slices`, `reader.blocks`) from whose iterator a call takes the next item, if it does."""
    if not isinstance(node, ast.Call) or node.keywords:
        return None
    taken: ast.expr
    if isinstance(node.func, ast.Name) and node.func.id in ("next", "anext") and len(node.args) == 1:
        taken = node.args[0]
    elif isinstance(node.func, ast.Attribute) and node.func.attr in ("__next__", "__anext__") and not node.args:
        taken = node.func.value
    else:
        return None
    names: list[str] = []
    while isinstance(taken, ast.Attribute):
        names.append(taken.attr)
        taken = taken.value
    if not names or not isinstance(taken, ast.Name) or taken.id != self_name:
        return None
    return ".".join(reversed(names))


def _nodes(entry: TracebackType) -> Iterator[ast.AST]:
    """Yield what is executed at an entry: one node, or where Python keeps no columns, all those in its line."""
    frame = entry.tb_frame
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    line, last, column, end = list(frame.f_code.co_positions())[entry.tb_lasti // 2]
    for node in ast.walk(tree):
        there: Any = node
        if not isinstance(node, ast.expr | ast.stmt):
            continue
        if column is None:
            if there.lineno <= entry.tb_lineno <= there.end_lineno:
                yield node
        elif (there.lineno, there.end_lineno, there.col_offset, there.end_col_offset) == (line, last, column, end):
            yield node
