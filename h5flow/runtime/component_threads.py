"""The threads of a workflow's components.

All of them are made, initialised and finished on one thread, and run there as long as slices go in turn; where slices
overlap, each stage runs on a thread of its own. No component is ever at work on two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from h5flow.runtime.process_memory import share_heap
from h5flow.runtime.task_context import TaskContext, entered
from h5flow.runtime.worker import Worker

T = TypeVar("T")


class ComponentThreads:
    """The threads of the generator (number 0), which is that of all components in turn, and of each stage.

    Without `threads` all is done by the caller.
    """

    def __init__(self, names: Sequence[str], threads: bool) -> None:
        if threads:
            share_heap()
        self._contexts = [TaskContext(position) for position in range(len(names))]
        self.workers = [Worker(f"h5flow {name}") for name in ("components", *names[1:])] if threads else []

    def call(self, position: int, function: Callable[[], T]) -> T:
        """Make a call of a component outside the loop; returns or raises what it does."""

        def call() -> T:
            with entered(self._contexts[position]):
                return function()

        return self.workers[0].call(call) if self.workers else call()

    def dismiss(self, wait: bool = True) -> None:
        """End all threads, at once or when they have done what they are at."""
        for worker in self.workers:
            worker.close(wait)
        self.workers = []
