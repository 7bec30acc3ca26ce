"""What is imported on first use: names that a module offers without having them, and packages of others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import BuiltinMethodType, ModuleType
from typing import Any

#: Whether a package is being imported; what is drawn meanwhile by functions of `random` is nobody's.
importing: ContextVar[bool] = ContextVar("h5flow_importing", default=False)


def on_first_use(module: str, **names: str) -> Callable[[str], Any]:
    """Return a module's `__getattr__`, which finds `names` at a `module` or `module:attribute`, and modules below."""

    def look_up(name: str) -> Any:
        if name not in names:
            below = f"{module}.{name}"
            try:
                if not name.startswith("_"):
                    return importlib.import_module(below)
            except ModuleNotFoundError as error:
                if error.name != below:
                    raise
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        place, _, attribute = names[name].partition(":")
        value = importlib.import_module(place)
        if attribute:
            value = getattr(value, attribute)
        setattr(sys.modules[module], name, value)
        return value

    return look_up


def imported(name: str) -> ModuleType:
    """Import a package in the middle of a run. Raises `ImportError`.

    Some draw random numbers when they are imported (rich does). The program's are the same nevertheless.
    """
    if name in sys.modules:
        return importlib.import_module(name)
    import random

    # Where a loop goes on, who draws is asked for (`runtime.randomness`), and sees that it is nobody.
    state = random.getstate() if isinstance(random.random, BuiltinMethodType) else None
    token = importing.set(True)
    try:
        return importlib.import_module(name)
    finally:
        importing.reset(token)
        if state is not None:
            random.setstate(state)
