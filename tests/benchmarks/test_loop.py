"""What a slice costs, besides what its stages do.

`pytest tests/benchmarks --benchmark-timer=time.process_time` shows CPU time.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5flow.core import H5FlowGenerator, H5FlowStage

ROW = np.dtype([("id", "u4"), ("channel", "u4"), ("t", "f8"), ("q", "f8"), ("z", "f8")])
SLICES = 20_000


class Rows(H5FlowGenerator):
    """Slices of rows that are written by `init`."""

    def __init__(self, **params):
        super().__init__(**params)
        self.slices, self.rows = params["slices"], params["rows"]

    def init(self):
        self.data_manager.create_dset(self.dset_name, ROW)
        self.data_manager.reserve_data(self.dset_name, self.slices * self.rows)
        self.position = 0

    def next(self):
        if self.position == self.slices * self.rows:
            return self.EMPTY
        self.position += self.rows
        return slice(self.position - self.rows, self.position)


class Nothing(H5FlowStage):
    """Does nothing."""


class Writes(H5FlowStage):
    """Writes a row for each row, with `references` references each."""

    def __init__(self, **params):
        super().__init__(**params)
        self.references = params.get("references", 0)

    def init(self, source_name):
        self.data_manager.create_dset(self.name, ROW)
        if self.references:
            self.data_manager.create_ref(source_name, self.name)

    def run(self, source_name, source_slice, cache):
        rows = self.data_manager.reserve_data(self.name, len(cache[source_name]))
        self.data_manager.write_data(self.name, rows, cache[source_name])
        if self.references:
            here = np.arange(rows.start, rows.stop)
            refs = np.c_[np.repeat(here, self.references), np.tile(here, self.references)]
            self.data_manager.write_ref(source_name, self.name, refs)


def run_flow(benchmark, workflow, stages: dict, slices: int, rows: int) -> None:
    config = {
        "flow": {"source": "rows", "stages": list(stages)},
        "rows": {"classname": "Rows", "dset_name": "raw", "params": {"slices": slices, "rows": rows}},
        **stages,
    }

    def setup():
        return (workflow(config, Rows=Rows, Nothing=Nothing, Writes=Writes),), {}

    benchmark.pedantic(lambda manager: (manager.run(), manager.finish()), setup=setup, rounds=3)
    benchmark.extra_info["microseconds a slice"] = round(benchmark.stats.stats.median / slices * 1e6, 1)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("no-op stage", {"classname": "Nothing"}),
        ("writes 8 rows", {"classname": "Writes"}),
        ("writes 8 rows and 8 references", {"classname": "Writes", "params": {"references": 1}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_small_slices(benchmark, workflow, name, stage):
    run_flow(benchmark, workflow, {"stage": stage}, SLICES, 8)


def test_three_stages_that_copy_1024_rows_with_ten_references_each(benchmark, workflow):
    stage = {"classname": "Writes", "params": {"references": 10}}
    run_flow(benchmark, workflow, {f"stage{n}": dict(stage) for n in range(3)}, 100, 1024)


class Last(H5FlowStage):
    """Looks at the last row."""

    def run(self, source_name, source_slice, cache):
        self.last = cache[source_name][-1]


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("rows", [16384, 10_000], ids=["whole chunks", "straddling chunks"])
@pytest.mark.parametrize("how", ["h5flow", "bare h5py"])
def test_looping_over_five_million_rows(benchmark, workflow, tmp_path, compression, rows, how):
    length = 5_000_000
    with h5py.File(tmp_path / "in.h5", "w") as file:
        data = np.zeros(length, ROW)
        data["id"] = np.arange(length)
        data["q"] = np.random.default_rng(0).integers(0, 1000, length)
        file.create_dataset("raw/data", data=data, chunks=(65536,), maxshape=(None,), compression=compression)

    if how == "bare h5py":

        def bare():
            # With a chunk cache that holds the chunks, as a careful user would open it.
            with h5py.File(tmp_path / "in.h5", rdcc_nbytes=16 << 20) as file:
                dataset = file["raw/data"]
                for start in range(0, length, rows):
                    _ = dataset[start : start + rows][-1]

        benchmark.pedantic(bare, rounds=3)
        return
    config = {
        "flow": {"source": "rows", "stages": ["last"]},
        "rows": {
            "classname": "H5FlowDatasetLoopGenerator",
            "dset_name": "raw",
            "params": {"chunk_size": rows},
        },
        "last": {"classname": "Last"},
    }

    def setup():
        return (workflow(config, "in.h5", Last=Last),), {}

    benchmark.pedantic(lambda manager: (manager.run(), manager.abandon()), setup=setup, rounds=3)
