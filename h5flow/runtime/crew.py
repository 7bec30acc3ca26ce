"""The threads of a workflow's components: each has one for life, from its construction to its `finish`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from h5flow.runtime.process_memory import share_heap
from h5flow.runtime.tracing import Scene, entered
from h5flow.runtime.worker import Worker

T = TypeVar("T")


class Crew:
    """The threads of the generator (number 0) and the stages; without `threads` all is done by the caller."""

    def __init__(self, names: Sequence[str], threads: bool) -> None:
        if threads:
            share_heap()
        self._scenes = [Scene(position) for position in range(len(names))]
        self.workers = [Worker(f"h5flow {name}") for name in names] if threads else []

    def call(self, position: int, function: Callable[[], T]) -> T:
        """Make a call of a component outside the loop; returns or raises what it does."""

        def call() -> T:
            with entered(self._scenes[position]):
                return function()

        return self.workers[position].call(call) if self.workers else call()

    def dismiss(self, wait: bool = True) -> None:
        """End all threads, at once or when they have done what they are at."""
        for worker in self.workers:
            worker.close(wait)
        self.workers = []
