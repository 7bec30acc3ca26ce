"""The same work by h5flow and by hand, with mpi4py and h5py: `on_ranks.py WHO STORAGE SLICES SECONDS OUT`.

Each rank takes every so manyth slice of a source, computes for a while, and writes as many rows as the slice has, and
a reference from each source row to its row. Prints a line of JSON on rank 0.
"""

from __future__ import annotations

import json
import sys
import time

import h5py
import numpy as np
from mpi4py import MPI

from h5flow.core import H5FlowManager, H5FlowStage

ROWS = 256
RAW = np.dtype([("id", "i8"), ("samples", "f4", 64)])
HIT = np.dtype([("id", "i8"), ("sum", "f8")])
comm = MPI.COMM_WORLD


def make_source(path, slices):
    rows = np.zeros(ROWS, RAW)
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        raw = file.create_dataset("raw/data", (ROWS * slices,), RAW, maxshape=(None,), chunks=(ROWS,))
        for start in range(0, ROWS * slices, ROWS):
            rows["id"], rows["samples"] = np.arange(start, start + ROWS), start
            raw[start : start + ROWS] = rows


def hits(rows, seconds):
    """What is computed of some rows."""
    time.sleep(seconds)
    found = np.empty(len(rows), HIT)
    found["id"], found["sum"] = rows["id"], rows["samples"].sum(1)
    return found


class Summing(H5FlowStage):
    """Writes the sums of waveforms."""

    def __init__(self, seconds, **params):
        super().__init__(**params)
        self.seconds = seconds

    def init(self, source_name):
        self.data_manager.create_dset("hits", HIT)
        self.data_manager.create_ref(source_name, "hits")

    def run(self, source_name, source_slice, cache):
        found = hits(cache[source_name], self.seconds)
        rows = self.data_manager.reserve_data("hits", len(found))
        self.data_manager.write_data("hits", rows, found)
        pairs = np.stack([np.arange(source_slice.start, source_slice.stop)[: len(found)], np.r_[rows]], axis=1)
        self.data_manager.write_ref(source_name, "hits", pairs)


def by_h5flow(source, out, storage, slices, seconds):
    """Seconds of the loop, and those of them in which the stage waited for other ranks."""
    config = {
        "flow": {"source": "raw", "stages": ["summing"]},
        "summing": {"classname": "Summing", "path": "on_ranks", "params": {"seconds": seconds}, "requires": []},
        "runtime": {"storage": storage},
    }
    manager = H5FlowManager(config, out, source)
    manager.generator.chunk_size = ROWS
    manager.init()
    comm.Barrier()
    started, worked = time.perf_counter(), time.process_time()
    manager.run()
    elapsed, worked = time.perf_counter() - started, time.process_time() - worked
    waited = manager.data_manager.data_file.ranks.waited.get(1, 0.0)
    manager.finish()
    return elapsed, worked, waited


def by_hand(source, out, storage, slices, seconds):
    """A loop that does the same I/O; rank 0 writes what it gathers, or all do."""
    alone = storage != "parallel"
    options = {} if alone else {"driver": "mpio", "comm": comm}
    raw = h5py.File(source, "r", locking=False)["raw/data"]
    file = h5py.File(out, "w", libver=("v110", "v110"), **options) if comm.rank == 0 or not alone else None
    if file is not None:
        total = ROWS * slices
        chunks = (1 << 12,)
        made = [
            file.create_dataset(name, (length,), kind, maxshape=(None, *length[1:]), chunks=(*chunks, *length[1:]))
            if isinstance(length, tuple)
            else file.create_dataset(name, (length,), kind, maxshape=(None,), chunks=chunks)
            for name, length, kind in (
                ("hits/data", 0, HIT),
                ("raw/ref/hits/ref_region", total, "i8"),
                ("hits/ref/raw/ref_region", 0, "i8"),
            )
        ]
        pairs = file.create_dataset("raw/ref/hits/ref", (0, 2), "u4", maxshape=(None, 2), chunks=(1 << 12, 2))
    comm.Barrier()
    started, worked, waited, length = time.perf_counter(), time.process_time(), 0.0, 0
    for number in range(comm.rank, slices + (-slices) % comm.size, comm.size):
        there = number < slices
        rows = raw[number * ROWS : (number + 1) * ROWS] if there else raw[:0]
        found = hits(rows, seconds if there else 0)
        before = time.perf_counter()
        counts = comm.allgather(len(found))
        waited += time.perf_counter() - before
        first = length + sum(counts[: comm.rank])
        length += sum(counts)
        refs = np.stack([np.arange(number * ROWS, number * ROWS + len(found)), np.arange(first, first + len(found))], 1)
        given = comm.gather((number, first, found, refs)) if alone else [(number, first, found, refs)]
        if file is None:
            continue
        for dataset in (made[0], made[2]):
            dataset.resize(length, axis=0)
        pairs.resize(length, axis=0)
        for number_, at, values, links in given:
            if len(values):
                rows_there = slice(at, at + len(values))
                made[0][rows_there] = values
                pairs[rows_there] = links
                made[1][number_ * ROWS : number_ * ROWS + len(values)] = links[:, 1]
                made[2][rows_there] = links[:, 0]
    elapsed, worked = time.perf_counter() - started, time.process_time() - worked
    if file is not None:
        file.close()
    return elapsed, worked, waited


def main(who, storage, slices, seconds, out):
    slices, seconds, source = int(slices), float(seconds), f"{out}.source"
    if comm.rank == 0:
        make_source(source, slices)
    comm.Barrier()
    run = {"h5flow": by_h5flow, "by-hand": by_hand}[who]
    measured = comm.gather(run(source, out, storage, slices, seconds))
    if comm.rank == 0:
        per_rank = slices / comm.size
        elapsed, worked, waited = (max(values) for values in zip(*measured, strict=True))
        line = {
            "who": who,
            "storage": storage,
            "ranks": comm.size,
            "slices": slices,
            "ms_per_slice": round(1e3 * elapsed / per_rank, 2),
            "cpu_ms_per_slice": round(1e3 * worked / per_rank, 2),
            "share_in_collectives": round(waited / elapsed, 4),
        }
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.modules["on_ranks"] = sys.modules["__main__"]
    main(*sys.argv[1:])
