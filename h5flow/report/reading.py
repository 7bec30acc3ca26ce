"""Reading the logs of a run.

Logs of a run that was killed end in the middle of a line, those of one that is at work lack their end, ranks may be
missing, and later versions say more: all of that is read as far as it goes. What isn't a log at all is an error.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from h5flow.errors import UsageError
from h5flow.report.run import (
    Queue,
    Rank,
    Run,
    Slices,
    StageColumns,
    Stall,
    Trouble,
    WorkflowOnRank,
)
from h5flow.telemetry import events
from h5flow.telemetry.events import EVENTS, SCHEMA_VERSION

#: More kinds of warnings and errors than this are only counted.
MOST_TROUBLES = 300

_LONGEST_MESSAGE = 4000
_STAGE_FIELDS = ("began_s", "wait_s", "prefetch_s", "load_s", "run_s", "write_s", "held_s")
_NAN = float("nan")
# So many slices are looked at to tell the moments of lines from those of slices.
_SET_BY = 64


class _Head(msgspec.Struct):
    """What is looked at in every line."""

    event: str
    schema_version: int
    run_id: str | None
    rank: int
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    level: str = "info"
    size: int = 1
    host: str = ""
    pid: int = 0
    workflow: str | None = None
    message: str = ""


# Later versions may say more in a line, which is no mistake.
_Totals = msgspec.defstruct("_Totals", [], bases=(events.ActorTotals,), frozen=True, forbid_unknown_fields=False)
_Stage = msgspec.defstruct("_Stage", [], bases=(events.StageMeasures,), frozen=True, forbid_unknown_fields=False)
_WITH_PARTS = {
    "workflow.done": [("actors", dict[str, _Totals], msgspec.field(default_factory=dict))],  # type: ignore[valid-type]
    "slice.done": [("stages", dict[str, _Stage])],  # type: ignore[valid-type]
}
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(
        msgspec.defstruct(
            "Told",
            _WITH_PARTS.get(name, []),  # type: ignore[arg-type]
            bases=(event,),
            kw_only=True,
            forbid_unknown_fields=False,
        )
    )
    for name, event in EVENTS.items()
}
_HEAD = msgspec.json.Decoder(_Head)


def read_run(path: str) -> Run:
    """Read the run whose logs are in a folder, in the newest folder of a folder of runs, or in a file.

    Raises `UsageError` where there is none.
    """
    found = _files(Path(path))
    reader = _Reader()
    for file in found:
        reader.read(file)
    if not reader.ranks:
        raise UsageError(f"'{path}' tells of no run yet: {'; '.join(reader.notices) or 'there is nothing in it'}")
    run = reader.newest()
    run.files = found
    return run


def _files(path: Path) -> list[Path]:
    """Return the log files that a path stands for."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"no logs at '{path}': give the folder of a run, such as logs/20260131-235959-1f2e3d")
    if own := sorted(path.glob("*.jsonl")):
        return own
    # Run ids sort by time.
    for folder in sorted((each for each in path.iterdir() if each.is_dir()), reverse=True):
        if within := sorted(folder.glob("*.jsonl")):
            return within
    raise UsageError(f"no logs in '{path}': there is no file *.jsonl in it, or in a folder in it")


@dataclass(eq=False)
class _Columns:
    """Columns that grow."""

    slices: tuple[array[float], ...] = field(default_factory=lambda: tuple(array("d") for _ in range(9)))
    stages: dict[str, tuple[array[float], ...]] = field(default_factory=dict)
    count: int = 0

    def add(self, told: events.SliceDone) -> None:
        values = (
            told.slice_index,
            _NAN if told.start is None else told.start,
            _NAN if told.stop is None else told.stop,
            told.rows,
            told.began_s,
            told.generator_s,
            _NAN if told.prefetch_began_s is None else told.prefetch_began_s,
            told.prefetch_s,
            told.in_flight_s,
        )
        for column, value in zip(self.slices, values, strict=True):
            column.append(value)
        for name, stage in told.stages.items():
            columns = self.stages.get(name)
            if columns is None:
                columns = tuple(array("d", [_NAN] * self.count) for _ in _STAGE_FIELDS)
                self.stages[name] = columns
            for column, key in zip(columns, _STAGE_FIELDS, strict=True):
                column.append(getattr(stage, key))
        self.count += 1
        if len(told.stages) < len(self.stages):
            for name in self.stages.keys() - told.stages.keys():
                for column in self.stages[name]:
                    column.append(_NAN)

    def made(self, stages: Sequence[str]) -> Slices:
        """Return the columns as they are now, of stages in their order."""
        names = [
            *(name for name in stages if name in self.stages),
            *(name for name in self.stages if name not in stages),
        ]
        columns = [np.array(column) for column in self.slices]
        by_stage = {name: StageColumns(*(np.array(column) for column in self.stages[name])) for name in names}
        return Slices(*columns, by_stage)  # type: ignore[call-arg, arg-type]


@dataclass(eq=False)
class _Reading:
    """A rank that is being read."""

    rank: Rank
    size: int
    last: datetime
    #: How much later than the beginning of the job, from which slices count, its first line was written.
    late: float = 0.0
    columns: list[_Columns] = field(default_factory=list)
    #: For each workflow, when the first `finish` began.
    finishing: list[float | None] = field(default_factory=list)

    def moment(self, timestamp: datetime) -> float:
        """Return a moment in seconds from the beginning of the job."""
        return timestamp.timestamp() - self.rank.began_at

    def workflow(self, name: str | None) -> WorkflowOnRank:
        """Return the workflow that is running."""
        workflows = self.rank.workflows
        if not workflows or (name is not None and workflows[-1].name != name):
            # Its beginning isn't in the log, which was begun later, or has lost lines.
            self.begin(WorkflowOnRank(name or ""))
        return workflows[-1]

    def begin(self, workflow: WorkflowOnRank) -> None:
        self.rank.workflows.append(workflow)
        self.columns.append(_Columns())
        self.finishing.append(None)


class _Reader:
    """Takes lines, and sorts them by run and rank."""

    def __init__(self) -> None:
        self.ranks: dict[tuple[str, int], _Reading] = {}
        self.notices: list[str] = []
        self._runs: dict[str, Run] = {}
        self._troubles: dict[str, dict[tuple[object, ...], Trouble]] = {}

    def read(self, path: Path) -> None:
        """Read a file."""
        bad: list[int] = []
        number, understood, line = 0, 0, b""
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    try:
                        self._take(line, f"'{path}', line {number}")
                        understood += 1
                    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
                        if not understood and line.endswith(b"\n"):
                            shown = line[:80].decode(errors="replace").strip()
                            raise UsageError(
                                f"'{path}', line {number}: not a line of a JSON log of h5flow-async: '{shown}'"
                            ) from None
                        bad.append(number)
        except OSError as error:
            raise UsageError(f"log '{path}' can't be read: {error.strerror}") from error
        if bad and bad[-1] == number and not line.endswith(b"\n"):
            bad.pop()
            self.notices.append(f"'{path.name}' ends in the middle of line {number}")
        if bad:
            self.notices.append(f"'{path.name}' has {len(bad)} lines that can't be read, the first is line {bad[0]}")
        if not number:
            self.notices.append(f"'{path.name}' is empty")

    def newest(self) -> Run:
        """Return the run that began last."""
        began: dict[str, float] = {}
        for (run_id, _), reading in self.ranks.items():
            began[run_id] = min(began.get(run_id, reading.rank.began_at), reading.rank.began_at)
        run_id = max(began, key=lambda each: began[each])
        run = self._runs[run_id]
        for (owner, number), reading in sorted(self.ranks.items()):
            if owner == run_id:
                run.size = max(run.size, reading.size, number + 1)
                run.ranks[number] = _completed(reading)
        run.notices += self.notices
        if len(began) > 1:
            others = len(began) - 1
            run.notices.append(f"the logs tell of {others} other run{'s' if others > 1 else ''}, which began before")
        if run.size > len(run.ranks):
            run.notices.append(f"there is no log of {_listed(run)}")
        for rank in run.ranks.values():
            for workflow in rank.workflows:
                if workflow.is_sampled:
                    run.notices.append(
                        f"rank {rank.rank} tells of {len(workflow.slices):,} slices of '{workflow.name}', a sample of"
                        " all (logging.sample); sums are those of all where the run came to its end"
                    )
        troubles = list(self._troubles[run_id].values())
        run.troubles, run.more_troubles = troubles[:MOST_TROUBLES], max(0, len(troubles) - MOST_TROUBLES)
        return run

    def _take(self, line: bytes, place: str) -> None:
        head = _HEAD.decode(line)
        if head.schema_version != SCHEMA_VERSION:
            raise UsageError(
                f"{place}: written in version {head.schema_version} of the vocabulary, and this h5flow-async knows"
                f" version {SCHEMA_VERSION}: make the report with the h5flow-async that has made the run"
            )
        if head.run_id is None:
            return
        decoder = _DECODERS.get(head.event)
        told: events.Event | None = None if decoder is None else decoder.decode(line)
        reading = self._reading(head)
        reading.last = head.timestamp
        if isinstance(told, events.SliceDone):
            reading.workflow(head.workflow)
            reading.columns[-1].add(told)
            if told.slice_index < _SET_BY:
                reading.late = min(reading.late, reading.moment(head.timestamp) - told.began_s - told.in_flight_s)
        elif told is not None:
            self._add(head, told, reading)
        if head.level in ("warning", "error", "critical") and not isinstance(told, events.RunFailed):
            self._note(head, told, reading)

    def _reading(self, head: _Head) -> _Reading:
        assert head.run_id is not None
        key = (head.run_id, head.rank)
        reading = self.ranks.get(key)
        if reading is None:
            began = head.timestamp.timestamp()
            rank = Rank(head.rank, head.host, head.pid, began_at=began, heard_at=began)
            reading = self.ranks[key] = _Reading(rank, head.size, head.timestamp)
            self._runs.setdefault(head.run_id, Run(head.run_id, head.size, {}))
            self._troubles.setdefault(head.run_id, {})
        return reading

    def _add(self, head: _Head, told: events.Event, reading: _Reading) -> None:
        assert head.run_id is not None
        rank, run = reading.rank, self._runs[head.run_id]
        if isinstance(told, events.RunStart):
            rank.start = told
        elif isinstance(told, events.RunDone | events.RunFailed | events.RunStopped):
            rank.end = told
        elif isinstance(told, events.FilePublished):
            run.bytes = told.bytes
        elif isinstance(told, events.CollectiveStalled):
            run.stalls.append(Stall(told.seconds, tuple(told.waiting_for)))
        elif isinstance(told, events.WorkflowStart):
            reading.begin(
                WorkflowOnRank(
                    head.workflow or "",
                    began=reading.moment(head.timestamp),
                    mode=told.mode,
                    source=told.source,
                    stages=told.stages,
                    loaders=told.loaders,
                )
            )
        elif head.workflow is not None:
            self._add_to_workflow(head, told, reading)

    def _add_to_workflow(self, head: _Head, told: events.Event, reading: _Reading) -> None:
        workflow = reading.workflow(head.workflow)
        workflow.ended = reading.moment(head.timestamp)
        if isinstance(told, events.FileOpened):
            workflow.opened = told
        elif isinstance(told, events.ComponentInit):
            workflow.inits.append(told)
        elif isinstance(told, events.ComponentFinish):
            if reading.finishing[-1] is None:
                reading.finishing[-1] = workflow.ended - told.seconds
            workflow.finishes.append(told)
        elif isinstance(told, events.WorkflowDone):
            workflow.done = told
        elif isinstance(told, events.QueueStats):
            workflow.queues.append(Queue(workflow.ended, told))
        elif isinstance(told, events.SlicesSerialized):
            workflow.serialized.append(told.reason)
        elif isinstance(told, events.RequirementLate):
            workflow.left_late.append(told.requirement)

    def _note(self, head: _Head, told: events.Event | None, reading: _Reading) -> None:
        assert head.run_id is not None
        log = told if isinstance(told, events.Log) else None
        what = head.event if log is None else log.logger
        message = (str(told) if told is not None else head.message or head.event)[:_LONGEST_MESSAGE]
        stage = None if log is None else log.stage
        # Messages that differ only in numbers are one kind.
        key = (head.level, what, head.workflow, stage, re.sub(r"\d+", "#", message))
        troubles = self._troubles[head.run_id]
        trouble = troubles.get(key)
        if trouble is None:
            trouble = troubles[key] = Trouble(
                level=head.level,
                what=what,
                message=message,
                workflow=head.workflow,
                stage=stage,
                start=None if log is None else log.start,
                stop=None if log is None else log.stop,
                at=head.timestamp.timestamp(),
                exception=None if log is None else log.exception,
                count=0,
            )
        trouble.count += 1
        trouble.ranks.add(head.rank)


def _completed(reading: _Reading) -> Rank:
    """Complete a rank with what can be said only when all of its lines are read."""
    rank = reading.rank
    rank.heard_at = max(rank.began_at, reading.last.timestamp())
    rank.began_at += reading.late
    for number, workflow in enumerate(rank.workflows):
        workflow.began -= reading.late
        workflow.ended -= reading.late
        workflow.queues = [queue._replace(moment=queue.moment - reading.late) for queue in workflow.queues]
        slices = workflow.slices = reading.columns[number].made(workflow.stages)
        workflow.stages = workflow.stages or list(slices.stages)
        is_last = number + 1 == len(rank.workflows)
        if is_last and workflow.done is None:
            workflow.ended = rank.elapsed
        last = float(slices.ended.max()) if len(slices) else 0.0
        workflow.ended = max(workflow.ended, last)
        finishing = reading.finishing[number]
        # In the end ranks wait for each other, and finish; a run without an end may have been at work to the last.
        workflow.loop_ended = max(last, workflow.ended if finishing is None else finishing - reading.late)
        workflow.loop_began = float(slices.began.min()) if len(slices) else workflow.loop_ended
    return rank


def _listed(run: Run) -> str:
    """Return the ranks without a log, the first of them if they are many."""
    count = run.size - len(run.ranks)
    shown = [str(rank) for rank in itertools.islice((rank for rank in range(run.size) if rank not in run.ranks), 8)]
    if count > len(shown):
        shown.append(f"{count - len(shown)} more")
    return f"rank{'s' if count > 1 else ''} {', '.join(shown)}"
