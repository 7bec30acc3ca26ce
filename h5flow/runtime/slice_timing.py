"""What one slice has taken from actor to actor; actors note moments in it, if anybody wants to know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from h5flow.runtime.task_context import TaskContext


class StageSpan:
    """The span in which a stage was at work on a slice; moments are those of `time.perf_counter`, in seconds."""

    __slots__ = ("began", "ended", "failed", "held", "loaded", "position", "size", "wait", "write")

    def __init__(self, position: int, began: float, loaded: float, ended: float, wait: float) -> None:
        self.position = position
        self.began, self.loaded, self.ended = began, loaded, ended
        self.wait = wait
        self.write = self.held = 0.0
        self.size: int | None = None
        self.failed = False


class SliceTiming:
    """The timing of a slice on its way through the actors; belongs to whoever has the slice."""

    __slots__ = ("ahead", "available", "began", "loader", "loading", "made", "spans", "wrote")

    def __init__(self, began: float, made: float, maker: TaskContext) -> None:
        self.began, self.made = began, made
        #: What the generator has spent in writing calls.
        self.wrote, maker.writing = maker.writing, 0.0
        #: Since when the next actor could have it.
        self.available = made
        #: When it was loaded ahead, by which loader, and for how long for each stage.
        self.loading: tuple[float, float] | None = None
        self.loader = ""
        self.ahead: dict[int, float] = {}
        self.spans: list[StageSpan] = []

    def note_loading(self, began: float, ended: float, loader: str) -> None:
        """Note that what is early has been loaded."""
        self.loading, self.loader = (began, ended), loader
        self.available = ended

    def note(self, context: TaskContext, began: float, loaded: float, ended: float, size: int | None) -> None:
        """Note that a stage is done with the slice; `size` is what the cache holds now, in bytes, if that is known."""
        span = StageSpan(context.position, began, loaded, ended, max(0.0, began - self.available))
        span.write, span.held, span.size = context.writing, context.held, size
        context.writing = context.held = 0.0
        self.available = ended
        self.spans.append(span)

    def note_failure(self, context: TaskContext, began: float, loaded: float) -> None:
        """Note that a stage has failed on the slice."""
        ended = time.perf_counter()
        self.note(context, began, max(began, loaded), ended, None)
        self.spans[-1].failed = True
