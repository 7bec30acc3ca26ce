"""Where in a workflow something went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec


class Where(msgspec.Struct, frozen=True):
    """A component at work: which one, where it is configured, on which rank and slice."""

    component: str
    place: str = ""
    rank: int = 0
    rows: slice | None = None
    #: The number of the slice on its rank.
    number: int | None = None

    def on(self, rows: slice, number: int) -> Where:
        """Return the place of the same component on a slice."""
        return msgspec.structs.replace(self, rows=rows, number=number)

    def __str__(self) -> str:
        parts = [f"{self.component} ({self.place})" if self.place else self.component, f"rank {self.rank}"]
        if self.rows is not None:
            parts.append(f"slice {self.rows.start}:{self.rows.stop}")
        return ", ".join(parts)


def locate(error: BaseException, where: Where) -> None:
    """Note with an error where it happened; the innermost place counts."""
    if located(error) is None:
        error.__dict__["h5flow_where"] = where
        error.add_note(f"in {where}")


def located(error: BaseException) -> Where | None:
    """Say where an error happened, `None` where that isn't known."""
    found: Any = error.__dict__.get("h5flow_where")
    return found if isinstance(found, Where) else None


def entries_of(error: BaseException) -> Iterator[TracebackType]:
    """Yield the entries of an error's traceback, outermost first."""
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def place_of(entry: TracebackType) -> str:
    """Return the line of a traceback's entry, as in `weather.py:106`."""
    return f"{Path(entry.tb_frame.f_code.co_filename).name}:{entry.tb_lineno}"
