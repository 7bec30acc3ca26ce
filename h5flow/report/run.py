"""A run as its logs tell it: ranks, each with its workflows, each with its slices as columns.

All moments are in seconds from the beginning of the job on that rank.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from h5flow.telemetry.events import (
    ActorTotals,
    ComponentFinish,
    ComponentInit,
    FileOpened,
    QueueStats,
    RunDone,
    RunFailed,
    RunStart,
    RunStopped,
    WorkflowDone,
)

Column: TypeAlias = npt.NDArray[np.float64]

#: The actors that aren't stages.
GENERATOR, PREFETCHER, COMMITTER = "generator", "prefetcher", "committer"


@dataclass(frozen=True, eq=False)
class StageColumns:
    """What a stage has spent on each slice; not a number where it hasn't had the slice."""

    began: Column
    wait: Column
    prefetch: Column
    load: Column
    run: Column
    write: Column
    held: Column

    @property
    def ended(self) -> Column:
        """Return when the stage was done with each slice."""
        return self.began + self.load + self.run + self.write


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices that are told, in the order in which they were done."""

    number: Column
    #: Rows of the source; not a number where they aren't known.
    start: Column
    stop: Column
    rows: Column
    began: Column
    generator: Column
    #: When loading ahead began, not a number where there was none.
    prefetch_began: Column
    prefetch: Column
    in_flight: Column
    stages: dict[str, StageColumns]

    def __len__(self) -> int:
        return len(self.number)

    @property
    def made(self) -> Column:
        """Return when the generator had made each slice."""
        return self.began + self.generator

    @property
    def ended(self) -> Column:
        """Return when each slice was done."""
        return self.began + self.in_flight

    @property
    def share(self) -> float:
        """Return the share of the slices that is told, from 0 to 1: less than 1 with `logging.sample`."""
        return len(self) / (float(self.number.max()) + 1) if len(self) else 1.0


_NONE: Column = np.empty(0)

#: For workflows without any.
NO_SLICES = Slices(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, {})


class Queue(NamedTuple):
    """A queue at a moment."""

    moment: float
    stats: QueueStats


@dataclass(eq=False)
class WorkflowOnRank:
    """A workflow of the job, as one rank tells it."""

    name: str
    #: When it began: its components were about to be made.
    began: float = 0.0
    mode: str = "pipelined"
    source: str = ""
    stages: list[str] = field(default_factory=list)
    #: Threads that load ahead; logs of before there was such a field don't say.
    loaders: int | None = None
    opened: FileOpened | None = None
    inits: list[ComponentInit] = field(default_factory=list)
    finishes: list[ComponentFinish] = field(default_factory=list)
    done: WorkflowDone | None = None
    slices: Slices = NO_SLICES
    queues: list[Queue] = field(default_factory=list)
    #: Why slices ran one at a time, if something made them.
    serialized: list[str] = field(default_factory=list)
    #: Requirements that were left to their moment, as they change each time after being loaded ahead.
    left_late: list[str] = field(default_factory=list)
    #: The slices passed between these moments.
    loop_began: float = 0.0
    loop_ended: float = 0.0
    #: When it was complete, or was last heard of.
    ended: float = 0.0

    @property
    def elapsed(self) -> float:
        """Say how long the loop took."""
        return max(0.0, self.loop_ended - self.loop_began)

    @property
    def is_sampled(self) -> bool:
        """Say whether only some slices are told."""
        told = self.done.slices if self.done is not None else None
        return (told is not None and told > len(self.slices)) or self.slices.share < 1.0

    @property
    def totals(self) -> dict[str, ActorTotals]:
        """Return what each actor has spent on all slices; where the run hasn't said so, as far as slices tell."""
        return dict(self.done.actors) if self.done is not None and self.done.actors else _summed(self)


@dataclass(eq=False)
class Rank:
    """What one rank tells."""

    rank: int
    host: str
    pid: int
    #: By the rank's clock, in seconds since 1970: when the job began on it, and when it was last heard of.
    began_at: float
    heard_at: float
    start: RunStart | None = None
    end: RunDone | RunFailed | RunStopped | None = None
    workflows: list[WorkflowOnRank] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Say how long the job took on this rank, or how long it was heard of."""
        return max(0.0, self.heard_at - self.began_at)


@dataclass(eq=False)
class Trouble:
    """A warning or an error, and those that are the same but for numbers in them."""

    level: str
    #: The logger, or the event.
    what: str
    message: str
    workflow: str | None
    stage: str | None
    #: Of the first one.
    start: int | None
    stop: int | None
    #: In seconds since 1970.
    at: float
    exception: str | None
    count: int = 1
    ranks: set[int] = field(default_factory=set)


class Stall(NamedTuple):
    """Ranks waited for others for so long (seconds)."""

    seconds: float
    waiting_for: tuple[str, ...]


@dataclass(eq=False)
class Run:
    """A job."""

    run_id: str
    size: int
    #: By number, those that are told.
    ranks: dict[int, Rank]
    troubles: list[Trouble] = field(default_factory=list)
    #: How many more kinds of warnings and errors there were.
    more_troubles: int = 0
    stalls: list[Stall] = field(default_factory=list)
    #: The output's size in the end.
    bytes: int | None = None
    #: What is to be known of the logs themselves.
    notices: list[str] = field(default_factory=list)
    #: What it was read from.
    files: list[Path] = field(default_factory=list)

    @property
    def first(self) -> Rank:
        """Return the lowest of the ranks that are told."""
        return self.ranks[min(self.ranks)]

    @property
    def failures(self) -> dict[int, RunFailed]:
        """Say what has failed, by rank."""
        return {rank: each.end for rank, each in sorted(self.ranks.items()) if isinstance(each.end, RunFailed)}

    @property
    def status(self) -> str:
        """Return `done`, `failed`, `stopped`, or `incomplete` where no end is told."""
        ends = [rank.end for rank in self.ranks.values()]
        for kind, status in ((RunFailed, "failed"), (RunStopped, "stopped")):
            if any(isinstance(end, kind) for end in ends):
                return status
        return "done" if all(isinstance(end, RunDone) for end in ends) else "incomplete"

    @property
    def workflows(self) -> list[list[WorkflowOnRank]]:
        """Return each workflow of the job, on all ranks that tell of it."""
        most = max(len(rank.workflows) for rank in self.ranks.values())
        return [
            [rank.workflows[place] for _, rank in sorted(self.ranks.items()) if place < len(rank.workflows)]
            for place in range(most)
        ]

    def rank_of(self, workflow: WorkflowOnRank) -> int:
        """Return the rank that tells of a workflow."""
        return next(number for number, rank in self.ranks.items() if workflow in rank.workflows)


def _summed(workflow: WorkflowOnRank) -> dict[str, ActorTotals]:
    """Add up the slices that are told, in proportion where not all are."""
    slices = workflow.slices
    if not len(slices):
        return {}
    scale = 1 / slices.share
    count = round(len(slices) * scale)

    def total(column: Column) -> float:
        return scale * float(np.nansum(column))

    result = {GENERATOR: ActorTotals(run_s=total(slices.generator), slices=count)}
    if workflow.mode != "sequential":
        result[PREFETCHER] = ActorTotals(load_s=total(slices.prefetch), slices=count)
    for name, stage in slices.stages.items():
        result[name] = ActorTotals(
            wait_s=total(stage.wait),
            prefetch_s=total(stage.prefetch),
            load_s=total(stage.load),
            run_s=total(stage.run),
            write_s=total(stage.write),
            held_s=total(stage.held),
            slices=count,
        )
    return result
