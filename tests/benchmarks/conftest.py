"""Workflows in this process, with components that are made here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from h5flow.core import H5FlowManager


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., H5FlowManager]:
    """Makes and initialises a manager; classes are given as keyword arguments, sections in `config`."""
    monkeypatch.chdir(tmp_path)

    def make(config: dict[str, Any], input_filename: str | None = None, **classes: type) -> H5FlowManager:
        module = ModuleType("benchmarked")
        vars(module).update(classes)
        monkeypatch.setitem(sys.modules, "benchmarked", module)
        for section in config.values():
            if section.get("classname") in classes:
                section["path"] = "benchmarked"
        (tmp_path / "out.h5").unlink(missing_ok=True)
        manager = H5FlowManager(config, "out.h5", input_filename)
        manager.init()
        return manager

    return make
