"""Rows of the source between which a workflow runs."""

from __future__ import annotations

from collections.abc import Sequence

from h5flow.errors import UsageError
from h5flow.workflow.config import WorkflowConfig


def check_positions(start: int | None, end: int | None) -> None:
    """Raise `UsageError` for positions that are no row numbers."""
    for name, position in (("start", start), ("end", end)):
        if position is not None and position < 0:
            raise UsageError(f"the {name} position is {position}, rows are counted from 0")


def check_rows(configs: Sequence[WorkflowConfig], start: int | None, end: int | None) -> None:
    """Raise `UsageError` for positions that are no row numbers, if a workflow loops over those of the input."""
    if any(config.loops_over_input for config in configs):
        check_positions(start, end)
