"""Who has worked for how long in a loop, and what went on at once. Numbers only; `verdict` finds words for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h5flow.report.run import PREFETCHER, Column, WorkflowOnRank
from h5flow.telemetry.events import ActorTotals

#: What is assumed where a log doesn't say how many threads load ahead: it is from before there was such a field.
LOADERS = 2


@dataclass(frozen=True)
class ActorWork:
    """What an actor has done in a loop; times are in seconds."""

    name: str
    totals: ActorTotals
    #: The loop's.
    elapsed: float
    #: Waiting for other ranks, which is part of the others.
    ranks_wait: float = 0.0
    #: How many threads work for it.
    threads: int = 1

    @property
    def worked(self) -> float:
        """Return the seconds in which it has worked, and not waited."""
        return max(0.0, self.totals.worked_s - self.ranks_wait)

    @property
    def busy(self) -> float:
        """Return the share of the loop in which it was at work, from 0 to 1."""
        return min(1.0, self.worked / (self.elapsed * self.threads)) if self.elapsed > 0 else 0.0

    @property
    def write(self) -> float:
        """Return the seconds of writing.

        Waiting for other ranks, nearly all of which happens within writing, is taken off.
        """
        return max(0.0, self.totals.write_s - self.ranks_wait)

    @property
    def part(self) -> str:
        """Return what most of its work is: `load`, `run` or `write`."""
        parts = {"load": self.totals.load_s, "run": self.totals.run_s, "write": self.write}
        return max(parts, key=lambda part: parts[part])


@dataclass(frozen=True)
class LoopWork:
    """What has been done in a loop on one rank."""

    elapsed: float
    #: In the order in which a slice passes them.
    actors: tuple[ActorWork, ...]
    #: How much of the loading went on while a component was at work, from 0 to 1; `None` where that isn't known.
    hidden: float | None

    @property
    def loading(self) -> float:
        """Return L: seconds of loading, ahead and at the moment of stages."""
        return sum(actor.totals.load_s for actor in self.actors)

    @property
    def computing(self) -> float:
        """Return C: seconds of all other work: making slices, running, writing."""
        return max(0.0, sum(actor.worked for actor in self.actors) - self.loading)

    @property
    def overlap(self) -> float | None:
        """Return (L + C) / elapsed, how many times as fast it was as the same work, one piece after the other.

        The seconds are those of a clock, which go on for threads that share a core or the interpreter, so this is the
        most that overlapping has won.
        """
        return (self.loading + self.computing) / self.elapsed if self.elapsed > 0 else None

    @property
    def busiest(self) -> ActorWork:
        """Return the actor that was at work for most of the time."""
        return max(self.actors, key=lambda actor: actor.busy)

    @property
    def ranks_wait(self) -> float:
        """Return the longest time, in seconds, that an actor has waited for other ranks."""
        return max((actor.ranks_wait for actor in self.actors), default=0.0)


def work_of(workflow: WorkflowOnRank) -> LoopWork | None:
    """Add up what has been done; `None` if no slice is told and nobody has said what was spent."""
    totals = workflow.totals
    if not totals or workflow.elapsed <= 0:
        return None
    waits = {} if workflow.done is None else workflow.done.ranks_wait_s
    threads = {PREFETCHER: LOADERS if workflow.loaders is None else max(1, workflow.loaders)}
    actors = tuple(
        ActorWork(name, each, workflow.elapsed, waits.get(name, 0.0), threads.get(name, 1))
        for name, each in totals.items()
        if workflow.mode != "sequential" or name != PREFETCHER
    )
    return LoopWork(workflow.elapsed, actors, hidden_share(workflow))


def loading_spans(workflow: WorkflowOnRank) -> tuple[Column, Column]:
    """Return when something was loaded, ahead or at its moment: beginnings and ends."""
    slices = workflow.slices
    spans = [(slices.prefetch_began, slices.prefetch_began + slices.prefetch)]
    spans += [(stage.began, stage.began + stage.load) for stage in slices.stages.values()]
    return _joined(spans)


def computing_spans(workflow: WorkflowOnRank) -> tuple[Column, Column]:
    """Return when a component was at work, making a slice, running or writing: beginnings and ends."""
    slices = workflow.slices
    spans = [(slices.began, slices.made)]
    spans += [(stage.began + stage.load, stage.ended) for stage in slices.stages.values()]
    return _joined(spans)


def hidden_share(workflow: WorkflowOnRank) -> float | None:
    """Return the share of the loading that went on while a component was at work."""
    if not len(workflow.slices) or workflow.is_sampled:
        return None
    if np.isnan(workflow.slices.prefetch_began).all() and workflow.slices.prefetch.any():
        return None  # the log doesn't say when
    both, total = seconds_of_both(loading_spans(workflow), computing_spans(workflow))
    return both / total if total > 0 else None


def seconds_of_both(first: tuple[Column, Column], second: tuple[Column, Column]) -> tuple[float, float]:
    """Return for how long, in seconds, there is a span of both, and for how long one of the first."""
    began, ended = overlaps(first, second)
    one_began, one_ended = merged(first)
    return float((ended - began).sum()), float((one_ended - one_began).sum())


def overlaps(first: tuple[Column, Column], second: tuple[Column, Column]) -> tuple[Column, Column]:
    """Find where a span of the first and one of the second go on at once."""
    parts = [merged(first), merged(second)]
    moments = np.concatenate([edge for spans in parts for edge in spans])
    steps = np.concatenate(
        [np.full(len(edges), step) for spans in parts for edges, step in zip(spans, (1, -1), strict=True)]
    )
    order = np.argsort(moments, kind="stable")
    moments, depth = moments[order], np.cumsum(steps[order])
    # Each is merged by itself, so that two at once are one of each.
    inside = np.flatnonzero(depth[:-1] == 2) if len(depth) else np.empty(0, int)
    began, ended = moments[inside], moments[inside + 1]
    real = ended > began
    return merged((began[real], ended[real]))


def merged(spans: tuple[Column, Column]) -> tuple[Column, Column]:
    """Merge spans: in order, those that touch as one."""
    began, ended = spans
    real = ended > began  # and not where one isn't a number
    began, ended = began[real], ended[real]
    if not len(began):
        return began, ended
    order = np.argsort(began, kind="stable")
    began, ended = began[order], np.maximum.accumulate(ended[order])
    first = np.concatenate([[True], began[1:] > ended[:-1]])
    return began[first], ended[np.concatenate([first[1:], [True]])]


def filled(spans: tuple[Column, Column], edges: Column) -> Column:
    """Count the spans between each two edges, on average over that time."""
    began, ended = spans
    real = ended > began
    began, ended = np.sort(began[real]), np.sort(ended[real])

    def area(moments: Column, edge: Column) -> Column:
        # Seconds since each of the moments before an edge, added up.
        sums = np.concatenate([[0.0], np.cumsum(moments)])
        before = np.searchsorted(moments, edge)
        result: Column = before * edge - sums[before]
        return result

    seconds = np.diff(area(began, edges) - area(ended, edges))
    result: Column = np.maximum(0.0, seconds) / np.maximum(1e-12, np.diff(edges))
    return result


def _joined(spans: list[tuple[Column, Column]]) -> tuple[Column, Column]:
    return np.concatenate([began for began, _ in spans]), np.concatenate([ended for _, ended in spans])
