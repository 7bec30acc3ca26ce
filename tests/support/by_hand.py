"""Logs that are written by hand: slices with known moments, so that what a report must say is known, too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

ZERO = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
RUN = "20260131-120000-abcdef"


def stage(began, *, wait=0.0, prefetch=0.0, load=0.0, run=0.0, write=0.0, held=0.0):
    return {
        "began_s": began,
        "wait_s": wait,
        "prefetch_s": prefetch,
        "load_s": load,
        "run_s": run,
        "write_s": write,
        "held_s": held,
        "bytes": 8,
    }


def totals(**seconds):
    keys = ("wait_s", "prefetch_s", "load_s", "run_s", "write_s", "held_s")
    return {**dict.fromkeys(keys, 0.0), "slices": 10, **seconds}


class ByHand:
    """The log of one rank."""

    def __init__(self, folder, rank=0, size=1, run_id=RUN, zero=ZERO):
        self.path = folder / run_id / f"rank-{rank:04d}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rank, self.size, self.run_id, self.zero = rank, size, run_id, zero
        self.lines = []
        self.workflow = None
        self.spent = None

    def tell(self, event, at, level="info", **fields):
        stamp = (self.zero + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        head = {"timestamp": stamp, "level": level, "event": event, "schema_version": 1, "run_id": self.run_id}
        head |= {"rank": self.rank, "size": self.size, "host": f"node{self.rank}", "pid": 17, "workflow": self.workflow}
        self.lines.append(json.dumps(head | fields))
        return self

    def begin(self, stages=("x",), mode="pipelined", loaders=2, workflow="w.yaml", at=0.0, output="out.h5"):
        if not self.lines:
            start = {"workflows": [workflow], "output": output, "input": None, "versions": {"python": "3.11"}}
            self.tell("run.start", at, **start, arguments=["h5flow-async", workflow])
        self.workflow = workflow
        actors = ["generator", "prefetcher", *stages, "committer"]
        told = {"mode": mode, "source": "rows", "actors": actors, "stages": list(stages), "loaders": loaders}
        return self.tell("workflow.start", at, **told)

    def slice(self, number, began, ended, stages, *, generator=0.0, prefetch_began=None, prefetch=0.0, **more):
        told = {"slice_index": number, "start": 10 * number, "stop": 10 * number + 10, "rows": 10}
        told |= {"began_s": began, "generator_s": generator, "prefetch_began_s": prefetch_began}
        told |= {"prefetch_s": prefetch, "in_flight_s": ended - began, "stages": stages}
        return self.tell("slice.done", ended, **(told | more))

    def done(self, at, slices=10, rows=100, spent=None, ranks_wait=None, reloads=0, ends=None, processor=None):
        self.tell("component.finish", at, component="stage 'x'", seconds=0.0)
        told = {"slices": slices, "rows": rows, "seconds": at, "reloads": reloads, "actors": spent or {}}
        self.tell(
            "workflow.done", at if ends is None else ends, **told, ranks_wait_s=ranks_wait or {}, processor_s=processor
        )
        self.workflow = None
        return self

    def end(self, at, slices=10, rows=100):
        return self.tell("run.done", at, output="out.h5", slices=slices, rows=rows, seconds=at)

    def write(self):
        self.path.write_text("\n".join(self.lines) + "\n")
        return self.path.parent


def steady(folder, *, count=10, period=0.1, stages=("x",), spans, **begins):
    """A log of slices that come one a `period`, on each of which the stages spend `spans`."""
    log = ByHand(folder).begin(stages, **begins)
    for number in range(count):
        at = number * period
        log.slice(number, at, at + period, {name: stage(at, **spans[name]) for name in stages})
    return log
