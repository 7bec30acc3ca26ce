"""Runs workflows made up at random on all ranks in both modes, and compares: `equivalence.py FIRST COUNT`."""

from __future__ import annotations

import faulthandler
import random
import sys
import time
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

from h5flow.core import H5FlowGenerator, H5FlowManager, H5FlowStage
from h5flow.data.file import checkpoints
from support.comparing import content, digest

# A workflow takes a second or two on four ranks with two busy cores; what takes so many never ends.
HANGS_AFTER = 60

ROW = np.dtype([("id", "i8"), ("digest", "u4"), ("value", "f8")])


def pause(sleeper):
    time.sleep(sleeper.choice([0, 0, 0.0005, 0.003]))


class Source(H5FlowGenerator):
    """Appends slices, on each rank as many and as large ones as `sizes` says; or one rank does for all of them."""

    def __init__(self, sizes, early, hands_over, meets, **params):
        super().__init__(**params)
        self.meets = meets
        self.sizes, self.early, self.hands_over, self.of_all = sizes[self.rank], early, hands_over, sizes
        self.number, self.sleeper = 0, random.Random()

    def init(self):
        self.data_manager.create_dset(self.dset_name, ROW)
        if self.early:
            self.slices = [self.append(size) for size in self.sizes]

    def append(self, size):
        rows = self.data_manager.reserve_data(self.dset_name, size)
        made = np.zeros(size, ROW)
        made["id"], made["value"] = np.arange(rows.start, rows.stop), self.rank + np.arange(size) / 8
        self.data_manager.write_data(self.dset_name, rows, made)
        return rows

    def part(self, number):
        sizes = [sizes[number] for sizes in self.of_all]
        maker = number % self.size
        rows = self.comm.bcast(self.append(sum(sizes) if self.rank == maker else 0), root=maker)
        first = rows.start + sum(sizes[: self.rank])
        return slice(first, first + sizes[self.rank])

    def next(self):
        pause(self.sleeper)
        if self.meets:
            self.comm.barrier()
        if self.number == len(self.sizes):
            return self.EMPTY
        self.number += 1
        if self.hands_over:
            return self.part(self.number - 1)
        return self.slices[self.number - 1] if self.early else self.append(self.sizes[self.number - 1])


class Stage(H5FlowStage):
    """Does its actions, each on those slices that `when` says, another pattern on each rank."""

    def __init__(self, actions, meets, **params):
        super().__init__(**params)
        self.actions, self.meets = actions, meets
        self.seen, self.number, self.sleeper = self.rank, 0, random.Random()

    def init(self, source_name):
        self.data_manager.create_dset(self.name, ROW)
        self.data_manager.create_dset("shared", ROW)
        self.data_manager.create_ref(source_name, self.name)
        self.data_manager.create_ref("shared", self.name)

    def run(self, source_name, source_slice, cache):
        pause(self.sleeper)
        if self.meets:
            assert self.comm.allgather(self.number) == self.size * [self.number]
        # Of what other ranks write, a rank may see anything.
        self.seen = digest({key: value for key, value in cache.items() if len(value)}, self.seen)
        for action in self.actions:
            if (self.number * (self.rank + 1) + action["offset"]) % action["every"] == 0:
                getattr(self, action["do"])(action, source_name, source_slice, cache)
        self.number += 1

    def made(self, count):
        made = np.zeros(count, ROW)
        made["id"], made["digest"], made["value"] = np.arange(count), self.seen, self.seen / 7 + np.arange(count)
        return made

    def append(self, action, source_name, source_slice, cache):
        dm = self.data_manager
        rows = dm.reserve_data(self.name, (self.seen + action["count"]) % 4)
        dm.write_data(self.name, rows, self.made(rows.stop - rows.start))
        parents = np.arange(source_slice.start, source_slice.stop)
        refs = [(parent, row) for row in range(rows.start, rows.stop) for parent in parents if (parent + row) % 3]
        dm.write_ref(source_name, self.name, np.array(refs, "i8").reshape(-1, 2))

    def link_first(self, action, source_name, source_slice, cache):
        """Link a row that other ranks link as well; what it leads to is looked at by nobody before the end."""
        if len(cache.get(source_name, ())):
            dm = self.data_manager
            rows = dm.reserve_data(self.name, 1)
            dm.write_data(self.name, rows, self.made(1))
            dm.write_ref("shared", self.name, [(0, rows.start)])

    def append_shared(self, action, source_name, source_slice, cache):
        rows = self.data_manager.reserve_data("shared", 1 + action["count"] % 2)
        self.seen = digest(np.array([rows.start]), self.seen)
        self.data_manager.write_data("shared", rows, self.made(rows.stop - rows.start))
        self.seen = digest(self.data_manager["shared", rows], self.seen)

    def update_source(self, action, source_name, source_slice, cache):
        rows = self.data_manager[source_name, source_slice]
        rows["digest"] += np.uint32(self.seen)
        self.data_manager.write_data(source_name, source_slice, rows)

    def follow(self, action, source_name, source_slice, cache):
        self.seen = digest(self.data_manager[source_name, self.name, source_slice], self.seen)

    def attributes(self, action, source_name, source_slice, cache):
        self.data_manager.set_attrs(self.name, kind=action["count"])

    def replace(self, action, source_name, source_slice, cache):
        for key in sorted(cache):
            cache[key] = np.ma.getdata(cache[key]).copy()

    def discard(self, action, source_name, source_slice, cache):
        for key in sorted(cache)[: action["count"]]:
            del cache[key]

    def finish(self, source_name):
        everything = [digest(self.data_manager[name, :]) for name in (source_name, self.name, "shared")]
        # All ranks see what all of them have written.
        assert self.comm.allgather(everything) == self.size * [everything]
        seen = self.comm.gather(self.seen)
        self.data_manager.set_attrs(self.name, everything=everything, seen=seen if self.rank == 0 else [])


def made_up(seed, size):
    """A workflow's config."""
    draw = random.Random(seed)
    names = [f"s{number}" for number in range(1, draw.randint(1, 4) + 1)]
    config = {
        "flow": {"source": "gen", "stages": names, "drop": draw.sample(names, draw.choice([0, 0, 1]))},
        "gen": {
            "classname": "Source",
            "path": "equivalence",
            "dset_name": "raw",
            "params": {
                "sizes": [[draw.randint(0, 4) for _ in range(draw.randint(0, 10))] for _ in range(size)],
                "early": draw.random() < 0.3,
                "hands_over": draw.random() < 0.3,
                "meets": draw.random() < 0.3,
            },
        },
        "runtime": {"queue_depth": draw.randint(1, 5), "loaders": draw.randint(1, 3)},
    }
    if config["gen"]["params"]["early"] or config["gen"]["params"]["hands_over"]:
        longest = max(map(len, config["gen"]["params"]["sizes"]))
        for sizes in config["gen"]["params"]["sizes"]:  # all ranks take part
            sizes.extend([0] * (longest - len(sizes)))
    do = [
        "append",
        "append",
        "append_shared",
        "link_first",
        "update_source",
        "follow",
        "attributes",
        "replace",
        "discard",
    ]
    for position, name in enumerate(names):
        config[name] = {
            "classname": "Stage",
            "path": "equivalence",
            "requires": draw.sample(names[: position + 1], draw.randint(0, min(2, position + 1))),
            "params": {
                "meets": draw.random() < 0.2,
                "actions": [
                    {
                        "do": draw.choice(do),
                        "count": draw.randint(0, 3),
                        "every": draw.choice([1, 1, 2, 3]),
                        "offset": draw.randint(0, 2),
                    }
                    for _ in range(draw.randint(0, 4))
                ],
            },
        }
    return config


def run(config, path, mode, storage):
    """Run a workflow on all ranks."""
    manager = H5FlowManager({**config, "runtime": {**config["runtime"], "mode": mode, "storage": storage}}, path)
    manager.init()
    manager.run()
    manager.finish()


def main(first, count):
    comm = MPI.COMM_WORLD
    storages = ["single-writer", "parallel"] if h5py.get_config().mpi and comm.size > 1 else ["auto"]
    for seed in range(first, first + count):
        config = made_up(seed, comm.size)
        paths = []
        checkpoints.PERIOD = checkpoints.PATIENCE = 0.0 if seed % 2 else 2.0
        try:
            for storage in storages:
                for mode in ("sequential", "pipelined"):
                    paths.append(Path(f"{storage}-{mode}-{seed}.h5"))
                    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
                    run(config, str(paths[-1]), mode, storage)
        except BaseException:
            print(f"seed {seed}, rank {comm.rank}: {config}", file=sys.stderr, flush=True)  # noqa: T201
            raise
        faulthandler.cancel_dump_traceback_later()
        comm.Barrier()
        if comm.rank == 0:
            one = content(paths[0])
            for path in paths[1:]:
                other = content(path)
                different = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
                if different:
                    print(f"{path}: {sorted(different)} differ: {config}", flush=True)  # noqa: T201
                    comm.Abort(1)
            for path in paths:
                path.unlink()
    if comm.rank == 0:
        print(f"{count} workflows are the same ({', '.join(storages)})")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
