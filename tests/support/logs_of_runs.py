"""A workflow whose logs are looked at, and reading them."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import jsonschema
import numpy as np

import h5flow.telemetry

SCHEMA = json.loads((Path(h5flow.telemetry.__file__).parent / "events.schema.json").read_text())
BY_EVENT = {
    part["properties"]["event"]["enum"][0]: part for part in SCHEMA["$defs"].values() if "event" in part["properties"]
}
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@functools.cache
def validator_of(event: str) -> jsonschema.Draft202012Validator:
    """What holds a line against the schema of its event."""
    return jsonschema.Draft202012Validator({**BY_EVENT[event], "$defs": SCHEMA["$defs"]})


PARTS = '''
import asyncio, logging, os, signal, sys, threading, time
import numpy as np
from h5flow.core import H5FlowGenerator, H5FlowStage

log = logging.getLogger("user.module")

class Source(H5FlowGenerator):
    """Writes rows, slice by slice, of lengths that differ."""

    class_version = "1.2.3"

    def __init__(self, slices=12, sleep=0.0, **params):
        super().__init__(**params)
        self.slices, self.sleep, self.made = slices, sleep, 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, "i8")

    def next(self):
        if self.made == self.slices:
            return self.EMPTY
        time.sleep(self.sleep)
        self.made += 1
        rows = self.data_manager.reserve_data(self.dset_name, 3 + self.made)
        self.data_manager.write_data(self.dset_name, rows, np.arange(rows.start, rows.stop))
        return rows

class Work(H5FlowStage):
    """Copies rows, sleeps, logs, prints, fails, as wanted."""

    class_version = "4.5.6"

    def __init__(self, sleep=0.0, write_sleep=0.0, fails=None, says=(), **params):
        super().__init__(**params)
        self.sleep, self.fails, self.says = sleep, fails, says
        self.write_sleep = write_sleep

    def init(self, source_name):
        self.data_manager.create_dset(self.name, "i8")
        self.data_manager.create_ref(source_name, self.name)
        log.info("init of %s", self.name)

    def run(self, source_name, source_slice, cache):
        self.work(source_name, source_slice, cache)
        time.sleep(self.sleep)
        if self.fails == source_slice.start:
            raise ValueError("a mistake")

    def work(self, source_name, source_slice, cache):
        if "log" in self.says:
            log.info("at %d", source_slice.start)
        if "warn" in self.says:
            log.warning("careful at %d", source_slice.start)
        if "print" in self.says:
            print("printed at", source_slice.start)
        if "error" in self.says:
            try:
                1 / 0
            except ZeroDivisionError:
                log.exception("handled at %d", source_slice.start)
        if "thread" in self.says:
            thread = threading.Thread(target=lambda: log.info("from a thread at %d", source_slice.start))
            thread.start()
            thread.join()
        rows = self.data_manager.reserve_data(self.name, len(cache[source_name]))
        self.data_manager.write_data(self.name, rows, 2 * cache[source_name])
        self.data_manager.write_ref(source_name, self.name, np.c_[source_slice, rows])

    def finish(self, source_name):
        log.info("finish of %s", self.name)

class AsyncWork(Work):
    async def run(self, source_name, source_slice, cache):
        await asyncio.sleep(self.sleep)
        if "log" in self.says:
            log.info("at %d", source_slice.start)
        dm = self.data_manager.awaitable
        rows = await dm.reserve_data(self.name, len(cache[source_name]))
        await dm.write_data(self.name, rows, 2 * cache[source_name])
        if self.fails == source_slice.start:
            raise ValueError("a mistake")

class Killed(Work):
    def run(self, source_name, source_slice, cache):
        if source_slice.start > 20:
            time.sleep(1.5)
            os.kill(os.getpid(), signal.SIGKILL)
'''

WORKFLOW = """
flow: {source: rows, stages: [first, second]}
rows: {classname: Source, path: parts, dset_name: raw}
first: {classname: Work, path: parts}
second: {classname: Work, path: parts, requires: [first]}
"""

#: Rows of twelve slices of `Source`.
ROWS = sum(3 + number for number in range(1, 13))


@dataclass
class Told:
    """What a command has told."""

    code: int
    out: str
    err: str
    #: The lines of each rank's log.
    ranks: list[list[dict]] = field(default_factory=list)

    @property
    def lines(self):
        (lines,) = self.ranks
        return lines

    def of(self, *events, rank=0):
        """The lines of some events."""
        return [line for line in self.ranks[rank] if line["event"] in events]

    def __str__(self):
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def parsed(path):
    """The lines of a log, each of which fits the schema."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    kinds = set()
    for line in lines:
        # The schema of its event alone gives better messages than one of all.
        validator_of(line["event"]).validate(line)
        kind = (line["event"], *((name, type(value)) for name, value in line.items()))
        if kind not in kinds:  # that a line is of no other event as well takes a hundred times as long to find out
            kinds.add(kind)
            VALIDATOR.validate(line)
    return lines


def made(folder, name="out.h5"):
    """The rows of each dataset of an output."""
    with h5py.File(folder / name) as file:
        return {key: np.asarray(file[key]["data"]) for key in ("raw", "first", "second") if key in file}
