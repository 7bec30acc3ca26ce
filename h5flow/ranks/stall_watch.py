"""Telling of ranks that others wait for, and ending all of them where that takes too long."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from h5flow import mpi
from h5flow.ranks.member import Late
from h5flow.telemetry import emit
from h5flow.telemetry.events import CollectiveStalled


class StallWatch:
    """Tells what the same ranks have been waited for `warning` seconds, and ends all of them after `abort`.

    `names` are those of the components. As it is made without arguments nobody is told.
    """

    def __init__(self, names: Sequence[str] = (), warning: float = math.inf, abort: float | None = None) -> None:
        self._names = names
        self._warning = warning
        self._abort = abort
        self._warned = 0.0

    def note(self, seconds: float, late: Late) -> None:
        """Take note that it has been so long up to now."""
        if seconds < self._warned:
            self._warned = 0.0
        if self._abort is not None and seconds > self._abort:
            emit(CollectiveStalled(seconds=seconds, waiting_for=late(self._names), ended=True), logging.ERROR)
            mpi.end_all(1)
        if seconds > self._warned + self._warning:
            self._warned = seconds
            emit(CollectiveStalled(seconds=seconds, waiting_for=late(self._names)))
