"""Chunks that are inflated and deflated on the pipeline's threads: the same arrays as with h5py."""

from __future__ import annotations

import importlib.util

import h5py
import numpy as np
import pytest

from h5flow.core import H5FlowStage
from h5flow.data.buffer import page_cache
from h5flow.data.storage.chunks.reader import RawChunks
from h5flow.data.storage.chunks.writer import ChunkWriter
from h5flow.modules import H5FlowDatasetLoopGenerator
from support.comparing import content

ROW = np.dtype([("id", "u4"), ("samples", "i2", (62,))])

needs_blosc2 = pytest.mark.skipif(importlib.util.find_spec("blosc2") is None, reason="blosc2 is not installed")


class Copies(H5FlowStage):
    """Writes what it gets, and reads a part of the source that is not its own."""

    def init(self, source_name):
        self.data_manager.create_dset("copies", ROW)
        self.data_manager.create_dset("sums", "f8")

    def run(self, source_name, source_slice, cache):
        rows = self.data_manager.reserve_data("copies", len(cache[source_name]))
        self.data_manager.write_data("copies", rows, cache[source_name])
        others = self.data_manager[source_name, slice(rows.start // 2, rows.start // 2 + 700)]
        self.data_manager.write_data("sums", self.data_manager.reserve_data("sums", 1), others["samples"].sum())


@pytest.fixture
def counted(monkeypatch):
    """How often the raw path is taken, with pages so few that they go to the file during the run."""
    calls = {"read": 0, "store": 0}

    def counting(name, function):
        def call(*args):
            calls[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(RawChunks, "read", counting("read", RawChunks.read))
    monkeypatch.setattr(ChunkWriter, "store", counting("store", ChunkWriter.store))
    monkeypatch.setattr(page_cache.PageCache.__init__, "__defaults__", (600_000,))
    return calls


@pytest.mark.parametrize("compression", [None, pytest.param("gzip", marks=needs_blosc2)])
@pytest.mark.parametrize("rows", [1024, 1000])
def test_the_same_file_with_and_without(tmp_path, modes, counted, compression, rows):
    values = np.zeros(20_000, ROW)
    values["id"] = np.arange(len(values))
    values["samples"] = np.random.default_rng(1).integers(0, 30, (len(values), 62))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("raw/data", data=values, chunks=(1024,), maxshape=(None,), compression=compression)
        assert made.chunks == (1024,)
    config = {
        "flow": {"source": "loop", "stages": ["copies"]},
        "loop": {"classname": "H5FlowDatasetLoopGenerator", "dset_name": "raw", "params": {"chunk_size": rows}},
        "copies": {"classname": "Copies"},
    }
    classes = [Copies, H5FlowDatasetLoopGenerator]
    found = {}
    for mode, raw in (("sequential", True), ("pipelined", True), ("pipelined", False)):
        before = dict(counted)
        manager = modes.run(mode, config, classes, str(tmp_path / "in.h5"), raw_chunks=raw, compression=compression)
        found[mode, raw] = content(manager.path)
        taken = {name: counted[name] - before[name] for name in counted}
        if mode == "sequential" or not raw:
            assert taken == {"read": 0, "store": 0}
        else:
            # Slices that straddle chunks are left to HDF5, which keeps the chunk that two of them share.
            assert taken["read"] >= (19 if rows == 1024 else 1)
            assert (taken["store"] > 0) == (compression is not None)
    assert found["pipelined", True] == found["pipelined", False] == found["sequential", True]
