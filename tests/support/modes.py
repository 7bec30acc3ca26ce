"""Running a workflow in both modes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from h5flow.core import H5FlowManager
from support.comparing import content


class Modes:
    """Runs workflows whose components are given as classes, and compares what the modes give."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.runs = 0

    def manager(
        self,
        mode: str,
        config: dict,
        classes: list[type],
        input_filename: str | None = None,
        compression: str | None = None,
        **runtime,
    ) -> H5FlowManager:
        """A manager of one mode."""
        module = ModuleType("components")
        for made in classes:
            setattr(module, made.__name__, made)
        self.monkeypatch.setitem(sys.modules, "components", module)
        sections = {
            key: {**section, "path": "components"} if isinstance(section, dict) and "classname" in section else section
            for key, section in config.items()
        }
        if "resources" in config:
            sections["resources"] = [{**section, "path": "components"} for section in config["resources"]]
        sections["runtime"] = {**config.get("runtime", {}), **runtime, "mode": mode}
        self.runs += 1
        path = self.folder / f"{mode}-{self.runs}.h5"
        manager = H5FlowManager(sections, str(path), input_filename, compression=compression, mpi=False)
        manager.path = path
        return manager

    def run(self, mode: str, config: dict, classes: list[type], input_filename: str | None = None, **options):
        """Run in one mode; returns the manager, whose output is in `path`, and whose instances are still there."""
        manager = self.manager(mode, config, classes, input_filename, **options)
        try:
            manager.init()
            manager.run()
            manager.finish()
        except BaseException:
            manager.abandon()
            raise
        return manager

    def same(self, config: dict, classes: list[type], input_filename: str | None = None, **runtime):
        """Run in both modes and compare the files; returns the content of one, and the pipelined manager."""
        expected = content(self.run("sequential", config, classes, input_filename, **runtime).path)
        manager = self.run("pipelined", config, classes, input_filename, **runtime)
        found = content(manager.path)
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
        return found, manager
