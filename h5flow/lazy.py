"""Names that a module offers without having them: they are imported from where they are, on first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def on_first_use(module: str, **names: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module: for each name where it is, as `module` or `module:attribute`; or modules below."""

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
