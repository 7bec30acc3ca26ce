"""The vocabulary of events: what a run tells, and with which fields.

Every line of a JSON log is one of these events with the fields of `Envelope` before its own, and with a `message` for
people unless it comes in masses. Times and durations end
in `_s` and are in seconds, sizes are in bytes. `began_s` counts from the beginning of the job on that rank, to which
`run.start` belongs. `events.schema.json` beside this module says the same as JSON Schema.

`SCHEMA_VERSION` grows when a field or an event is removed or gets another meaning; new ones may come without that.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import msgspec

SCHEMA_VERSION = 1


class Envelope(msgspec.Struct, kw_only=True):
    """What every line begins with."""

    #: Coordinated universal time in ISO 8601, to the microsecond.
    timestamp: str
    #: `debug`, `info`, `warning`, `error` or `critical`.
    level: str
    schema_version: int
    #: The same on all ranks of a job; sorts by the time of its start. `None` before the ranks have agreed on one.
    run_id: str | None
    rank: int
    size: int
    host: str
    pid: int
    #: The workflow file, `None` for what concerns all workflows of a job.
    workflow: str | None


class Event(msgspec.Struct, kw_only=True, tag_field="event", forbid_unknown_fields=True):
    """Something that has happened; `str()` of it is a line for people."""

    #: As of standard-library logging.
    LEVEL: ClassVar[int] = logging.INFO
    #: Where people read, it is shown only if that much is.
    SHOWN: ClassVar[int | None] = None
    #: The standard-library logger that tells it, too, to those who listen there; `None` for what comes in masses.
    LOGGER: ClassVar[str | None] = "h5flow"

    @property
    def name(self) -> str:
        """Return the name of the event, as `slice.done`."""
        return str(self.__struct_config__.tag)


class RunStart(Event, tag="run.start"):
    """A job begins: one or more workflows on one output file."""

    workflows: list[str]
    output: str
    input: str | None
    #: Of h5flow-async, Python and the packages that matter.
    versions: dict[str, str]
    arguments: list[str]

    def __str__(self) -> str:
        return f"begins {', '.join(self.workflows)} → {self.output}"


class WorkflowStart(Event, tag="workflow.start"):
    """A workflow of the job begins; its components are going to be made."""

    #: `pipelined` or `sequential`.
    mode: str
    source: str
    #: Names of the actors in the order in which a slice passes them.
    actors: list[str]
    stages: list[str]
    #: Threads that load ahead, 0 in sequential mode.
    loaders: int | None = None

    def __str__(self) -> str:
        return f"workflow begins, {self.mode}: {' → '.join(self.actors)}"


class ActorTotals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an actor has spent on all slices up to now, in seconds; see `StageMeasures`."""

    wait_s: float = 0.0
    prefetch_s: float = 0.0
    load_s: float = 0.0
    run_s: float = 0.0
    write_s: float = 0.0
    held_s: float = 0.0
    slices: int = 0

    @property
    def worked_s(self) -> float:
        """Return the seconds spent working, not waiting; for an actor with several threads, those of all of them."""
        return max(0.0, self.load_s + self.run_s + self.write_s - self.held_s)


class WorkflowDone(Event, tag="workflow.done"):
    """A workflow is complete on this rank."""

    #: Of this rank.
    slices: int
    rows: int
    seconds: float
    #: Prefetched values that had changed at their moment.
    reloads: int = 0
    #: By actor; empty where nobody wanted slices to be measured.
    actors: dict[str, ActorTotals] = {}
    #: By actor: what it has waited for other ranks in the loop, which is part of what it has spent.
    ranks_wait_s: dict[str, float] = {}
    #: Processor time of all threads of the process while the loop was running.
    processor_s: float | None = None

    def __str__(self) -> str:
        return f"{self.slices} slices, {self.rows} rows in {self.seconds:.2f} s"


class ComponentInit(Event, tag="component.init"):
    """A component's `init` has returned."""

    component: str
    classname: str
    module: str
    version: str
    #: Where it is configured, as `workflow.yaml:12`.
    place: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.component}: init of {self.module}.{self.classname} {self.version} took {self.seconds:.3f} s"


class ComponentFinish(Event, tag="component.finish"):
    """A component's `finish` has returned."""

    component: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.component}: finish took {self.seconds:.3f} s"


class StageMeasures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stage has spent on a slice."""

    #: When it took the slice up, in seconds from the beginning of the job.
    began_s: float
    #: From when the actor before it was done with the slice.
    wait_s: float
    #: Loading ahead for this stage, on a loader's thread.
    prefetch_s: float
    #: Loading at the moment of the stage.
    load_s: float
    #: The user's `run`, without what it spent in writing calls of its data manager.
    run_s: float
    #: Writing calls: `reserve_data`, `write_data`, `write_ref` and what creates.
    write_s: float
    #: What it has waited for other components to go first; it is part of `load_s`, `run_s` or `write_s`.
    held_s: float
    #: What the arrays in the cache held afterwards, `None` where that wasn't looked at.
    bytes: int | None


class SliceDone(Event, tag="slice.done", kw_only=True):
    """A slice has passed all stages. With `logging.sample` only some of them are told."""

    SHOWN = logging.DEBUG
    LOGGER = None

    #: Counted from 0 on each rank.
    slice_index: int
    #: Rows of the source; a rank that goes on without slices of its own gets -1 and -1.
    start: int | None
    stop: int | None
    rows: int
    #: When the generator was asked for it, in seconds from the beginning of the job.
    began_s: float
    generator_s: float
    #: When a loader began to load ahead for it, likewise; `None` where none has.
    prefetch_began_s: float | None = None
    prefetch_s: float
    #: From when the generator was asked until it was done.
    in_flight_s: float
    stages: dict[str, StageMeasures]

    def __str__(self) -> str:
        return f"slice {self.slice_index} ({self.start}:{self.stop}) done after {1e3 * self.in_flight_s:.2f} ms"


class RequirementReloaded(Event, tag="requirement.reloaded"):
    """What was loaded ahead had changed when its stage came, and was loaded again."""

    LEVEL = logging.DEBUG
    LOGGER = "h5flow.runtime.prefetching"

    requirement: str
    stage: str
    slice_index: int
    start: int | None
    stop: int | None

    def __str__(self) -> str:
        return f"requirement '{self.requirement}' of stage '{self.stage}' has changed and was loaded again"


class RequirementLate(Event, tag="requirement.late"):
    """A requirement changes each time after it has been loaded ahead, and is left to its moment from now on."""

    LOGGER = "h5flow.runtime.prefetching"

    requirement: str

    def __str__(self) -> str:
        return (
            f"requirement '{self.requirement}' changes after it has been loaded ahead, and is loaded late from now on"
        )


class RequirementMissing(Event, tag="requirement.missing"):
    """A requirement can't be loaded and is `None`; told once of each."""

    LEVEL = logging.WARNING
    LOGGER = "h5flow.runtime.loading"

    requirement: str
    error: str

    def __str__(self) -> str:
        return f"requirement '{self.requirement}' is None: {self.error}"


class SlicesSerialized(Event, tag="slices.serialized"):
    """Slices run one at a time from now on, though the mode is pipelined."""

    LEVEL = logging.WARNING
    LOGGER = "h5flow.runtime.pipeline_state"

    reason: str

    def __str__(self) -> str:
        return self.reason


class SlicesBatched(Event, tag="slices.batched"):
    """Slices go in batches, one batch at a time, or overlap again, whichever is quicker."""

    LEVEL = logging.DEBUG
    LOGGER = "h5flow.runtime.pipeline_state"

    #: Whether one batch at a time is in flight.
    alone: bool
    pace: str

    def __str__(self) -> str:
        return f"slices {'run in turn' if self.alone else 'overlap'}: {self.pace}"


class QueueStats(Event, tag="queue.stats"):
    """What a queue between two actors has seen since the loop began; told every few seconds and at its end."""

    SHOWN = logging.DEBUG
    LOGGER = None

    #: Named for the actor that fills it.
    queue: str
    depth: int
    #: Parcels of slices that are waiting now, and the most that ever were.
    occupancy: int
    highest: int
    puts: int
    gets: int
    #: What its producer has waited for room, and its consumer for something to do.
    put_wait_s: float
    get_wait_s: float

    def __str__(self) -> str:
        return (
            f"queue '{self.queue}': {self.occupancy} of {self.depth}, producer waited {self.put_wait_s:.2f} s,"
            f" consumer {self.get_wait_s:.2f} s"
        )


class QueueDeepened(Event, tag="queue.deepened"):
    """A queue was now full, now empty, and gets room for more (`queue_depth: auto`)."""

    LOGGER = "h5flow.runtime.pipeline"

    queue: str
    depth: int
    #: What has been waited for it in the last quarter of a second.
    put_wait_s: float
    get_wait_s: float

    def __str__(self) -> str:
        return (
            f"queue '{self.queue}' gets a depth of {self.depth}: its consumer has waited {1e3 * self.get_wait_s:.0f} ms"
            f" and its producer {1e3 * self.put_wait_s:.0f} ms"
        )


class CollectiveStalled(Event, tag="collective.stalled"):
    """Ranks wait for others, longer than `runtime.stall_warning`; told by rank 0."""

    LEVEL = logging.WARNING
    LOGGER = "h5flow.data.collective.single_writer"

    seconds: float
    #: Who is waited for, and for what, in words.
    waiting_for: list[str]
    #: Whether all ranks are ended now, after `runtime.stall_abort`.
    ended: bool = False

    def __str__(self) -> str:
        what = "; ".join(self.waiting_for)
        if self.ended:
            return f"ended after {self.seconds:.0f} s of waiting for {what}"
        return f"ranks have been waiting for {self.seconds:.0f} s for {what}"


class FileOpened(Event, tag="file.opened"):
    """The output is open, under the name that it has while it is written."""

    path: str
    working: str
    input: str | None
    #: Who writes, as in `runtime.storage`, and why it is that one.
    storage: str
    why_storage: str

    def __str__(self) -> str:
        return f"output '{self.path}' is written as '{self.working}', storage: {self.storage}, since {self.why_storage}"


class FilePublished(Event, tag="file.published"):
    """The output is complete and has its name."""

    path: str
    bytes: int | None

    def __str__(self) -> str:
        return f"output '{self.path}' is complete"


class Progress(Event, tag="progress"):
    """How far a workflow is on this rank; told now and then."""

    SHOWN = logging.DEBUG
    LOGGER = None

    slices: int
    rows: int
    #: Since the loop began.
    seconds: float
    in_flight: int
    in_flight_bytes: int
    #: How many slices there are, where the generator says so, and how long the others will take at this pace.
    total: int | None = None
    left_s: float | None = None

    def __str__(self) -> str:
        done = (
            f"{self.slices:,}"
            if not self.total
            else f"{self.slices / self.total:.0%}: {self.slices:,} of {self.total:,}"
        )
        left = "" if self.left_s is None else f", {self.left_s:.0f} s left"
        return f"{done} slices, {self.rows:,} rows in {self.seconds:.0f} s{left}, {self.in_flight} in flight"


class RunFailed(Event, tag="run.failed"):
    """The job has failed on this rank."""

    LEVEL = logging.ERROR
    LOGGER = None

    #: What went wrong and where, in one line.
    error: str
    #: The class of the error.
    kind: str
    #: In which component, where that is configured, and on which slice, as far as it is known.
    component: str | None
    place: str | None
    slice_index: int | None
    start: int | None
    stop: int | None
    #: What was being loaded.
    requirement: str | None
    traceback: str

    def __str__(self) -> str:
        return f"failed: {self.error}"


class RunStopped(Event, tag="run.stopped"):
    """A signal has ended the job."""

    LEVEL = logging.WARNING
    LOGGER = None

    signal: str
    at_once: bool
    #: How far it got, in words.
    progress: str

    def __str__(self) -> str:
        return f"stopped by {self.signal} {self.progress}".rstrip()


class RunDone(Event, tag="run.done"):
    """The job is complete."""

    LOGGER = None

    output: str
    #: Of all ranks on rank 0, elsewhere of that rank.
    slices: int
    rows: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.output}: {self.slices:,} slices, {self.rows:,} rows in {self.seconds:.1f} s"


class Log(Event, tag="log"):
    """A line of standard-library logging or, with `logger` set to `print`, of a component's printing."""

    LOGGER = None

    logger: str
    message: str
    #: The component at work, where it is known: its name as in the workflow.
    stage: str | None = None
    slice_index: int | None = None
    start: int | None = None
    stop: int | None = None
    #: A traceback.
    exception: str | None = None

    def __str__(self) -> str:
        return self.message


#: What the command says by itself, in plain words, where people read.
VERDICTS = (RunStart, RunDone, RunFailed, RunStopped)

#: All events by name.
EVENTS: dict[str, type[Event]] = {
    str(event.__struct_config__.tag): event
    for event in sorted(Event.__subclasses__(), key=lambda event: event.__name__)
}


def worded(event: Event) -> dict[str, str]:
    """Return the message for people, for events that don't come in masses."""
    return {} if event.SHOWN is not None or isinstance(event, Log) else {"message": str(event)}


def fields_of(event: Event) -> dict[str, Any]:
    """Return the fields of an event, as they are written; structs in them are the encoder's affair."""
    return {field: getattr(event, field) for field in event.__struct_fields__}
