"""The built-in stage for trying out a workflow: says what it is given, and does nothing else."""

from __future__ import annotations

import logging
from typing import Any

from h5flow.core.h5_flow_stage import H5FlowStage

_log = logging.getLogger(__name__)


class H5FlowTestStage(H5FlowStage):
    """Logs the slice and the contents of the cache at info level."""

    class_version = "1.0.0"

    def init(self, source_name: str) -> None:
        """Log that the stage is there."""
        super().init(source_name)
        _log.info("stage '%s' on '%s', requires %s", self.name, source_name, self.requires)

    def run(self, source_name: str, source_slice: slice, cache: dict[str, Any]) -> None:
        """Log the slice, and names and shapes in the cache."""
        super().run(source_name, source_slice, cache)
        held = ", ".join(f"{name}: {getattr(value, 'shape', None)}" for name, value in cache.items())
        _log.info("stage '%s' on '%s' %s: %s", self.name, source_name, source_slice, held)

    def finish(self, source_name: str) -> None:
        """Log that the loop is over."""
        super().finish(source_name)
        _log.info("stage '%s' on '%s' finished", self.name, source_name)
