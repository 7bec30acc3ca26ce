"""Python's shared generator while a loop goes on: functions of `random` ask whenever they are going to draw."""

from __future__ import annotations

import ctypes
import functools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from h5flow.lazy import importing
from h5flow.runtime.randomness.draws import Draws


class SharedPython:
    """Python's shared generator, which calls `ask` whenever a function of `random` is going to draw from it.

    Draws for the one that `ask` returns, if it does, are made from its own generator.
    """

    #: The last one whose loop has begun.
    current: ClassVar[SharedPython | None] = None

    def __init__(self, ask: Callable[[], Draws | None]) -> None:
        self._ask = ask
        self._lock = threading.RLock()
        self._position = _position()
        self._strayed = False

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Put itself in place of the functions of `random` for the duration of the loop."""
        before, SharedPython.current = SharedPython.current, self
        self._position = _position()
        places = _places()
        for variables, name, function in places:
            variables[name] = _ASKING[id(function)]
        try:
            yield
        finally:
            for variables, name, function in places:
                if variables.get(name) is _ASKING[id(function)]:
                    variables[name] = function
            SharedPython.current = before

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of `random`."""
        if importing.get():
            return getattr(_NOBODYS, function.__name__)(*args, **kwargs)
        own = self._ask()
        if own is not None:
            return getattr(own.python, function.__name__)(*args, **kwargs)
        with self._lock:
            self._look()
            try:
                return function(*args, **kwargs)
            finally:
                self._position = _position()

    def strayed(self) -> bool:
        """Say whether something has been drawn without asking since the last time."""
        # While somebody draws there is nothing to see; they have looked before.
        if _position() != self._position and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        strayed, self._strayed = self._strayed, False
        return strayed

    def _look(self) -> None:
        now = _position()
        if now != self._position:
            self._position = now
            self._strayed = True


def _asking(function: Any) -> Any:
    @functools.wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:
        current = SharedPython.current
        return function(*args, **kwargs) if current is None else current.call(function, args, kwargs)

    return asking


_PYTHON: Any = random._inst
# For what packages draw that are imported meanwhile.
_NOBODYS = random.Random()
_FUNCTIONS = [function for function in vars(random).values() if getattr(function, "__self__", None) is _PYTHON]
# One for each for good, since a module that is imported during a loop keeps it.
_ASKING = {id(function): _asking(function) for function in _FUNCTIONS}


def _places() -> list[tuple[dict[str, Any], str, Any]]:
    """Find where modules have functions of `random`: in which variables, by what name, and which."""
    found = []
    for module in tuple(sys.modules.values()):
        variables = getattr(module, "__dict__", None)
        # Most have none, and that is seen ten times as fast without looking at each variable.
        if type(variables) is dict and not _ASKING.keys().isdisjoint(map(id, variables.values())):
            found += [(variables, name, value) for name, value in variables.items() if id(value) in _ASKING]
    return found


def _reading_position() -> Callable[[], object]:
    """Return a function that returns what changes whenever something is drawn from Python's shared generator."""
    # As in `_randommodule.c`: `int index; uint32_t state[624]`. To copy it all takes a hundred times as long.
    words = (ctypes.c_uint32 * 4).from_address(id(_PYTHON) + object.__basicsize__)
    state = _PYTHON.getstate()[1]
    if tuple(words) == (state[-1], *state[:3]):
        memory = memoryview(words).cast("B")
        return lambda: (memory.tobytes(), _PYTHON.gauss_next)
    return lambda: _PYTHON.getstate()


_position = _reading_position()


def is_as_imported() -> bool:
    """Say whether nothing has been drawn from Python's shared generator since it was imported, or seeded."""
    # The last number of the state says how many of 624 words are used up; a new state has all of them used.
    return bool(_PYTHON.getstate()[1][-1] == 624 and _PYTHON.gauss_next is None)
