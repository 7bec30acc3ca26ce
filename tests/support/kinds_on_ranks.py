"""Runs workflows on inputs of every kind on all ranks, and compares what each rank sees with what h5py reads."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py

import h5flow
from h5flow.core import H5FlowStage
from support.kinds_of_files import FILES, OTHER, READABLE, make, same

SOURCES = ["raw", *(f"kinds/{kind}" for kind in ("compact", "external", "virtual", "scaleoffset", "padded", "text"))]


class Look(H5FlowStage):
    """Compares all rows and attributes in `init`, the rows of each slice in `run`, and writes how many they are."""

    def __init__(self, **params):
        super().__init__(**params)
        self.kinds = params["kinds"]

    def init(self, source_name):
        data_manager = self.data_manager
        with h5py.File("in.h5", "r", locking=False) as file:
            for kind in self.kinds:
                name = f"kinds/{kind}"
                assert data_manager.exists(f"{name}/data") == (f"{name}/data" in file), kind
                if kind in READABLE:
                    rows = file[f"{name}/data"]
                    found = data_manager[name, slice(None)]
                    files = (file, data_manager.fh)
                    assert found.dtype == rows.dtype.base, kind
                    assert same(rows[:], found, files), (kind, found)
                    assert data_manager.get_dset(name).shape == rows.shape, kind
                    assert same(rows[5:7], data_manager.get_dset(name)[5:7], files), kind
            if "attributes" in self.kinds:
                found = data_manager.get_attrs("kinds/attributes")
                assert found["text"] == "naïve"
                assert found["record"]["b"].tolist() == [2, 3]
                assert data_manager.fh[found["leads to"]].name == "/kinds/attributes"
        self.data_manager.create_dset("seen", dtype="i8")

    def run(self, source_name, source_slice, cache):
        with h5py.File("in.h5", "r", locking=False) as file:
            assert same(file[f"{source_name}/data"][source_slice], cache[source_name], (file, file))
        rows = self.data_manager.reserve_data("seen", len(cache[source_name]))
        self.data_manager.write_data("seen", rows, 1)


def workflow(source, kinds, mode):
    Path("flow.yaml").write_text(
        f"runtime: {{mode: {mode}}}\nflow: {{source: loop, stages: [look]}}\n"
        f"loop: {{classname: H5FlowDatasetLoopGenerator, dset_name: '{source}', params: {{chunk_size: 4}}}}\n"
        f"look: {{classname: Look, path: kinds_on_ranks, params: {{kinds: {kinds!r}}}}}\n"
    )


if __name__ == "__main__":
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    everything = [*READABLE, *OTHER]
    todo = [(source, everything, {}) for source in SOURCES]
    todo += [("raw", ["gzip", "attributes", "compact"], options) for options in FILES.values()]
    for number, (source, kinds, options) in enumerate(todo):
        if world.rank == 0:
            for name in ("out.h5", "in.h5"):
                Path(name).unlink(missing_ok=True)
            make("in.h5", kinds, **options)
            before = Path("in.h5").read_bytes()
            workflow(source, kinds, ("pipelined", "sequential")[number % 2])
        world.barrier()
        h5flow.run("flow.yaml", "out.h5", "in.h5")
        if world.rank == 0:
            assert Path("in.h5").read_bytes() == before
            with h5py.File("in.h5") as file, h5py.File("out.h5") as made:
                assert made["seen/data"][:].sum() == len(file[f"{source}/data"])
                for kind in kinds:
                    if kind in READABLE:
                        name = f"kinds/{kind}/data"
                        assert same(file[name][:], made[name][:], (file, made)), kind
        world.barrier()
    if world.rank == 0:
        sys.stdout.write("all is as it is\n")
