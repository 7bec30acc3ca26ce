"""Reading and compressing chunks with and without HDF5, alone and while a stage computes.

`extra_info` has MB/s, and how much of its speed the stage keeps.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from h5py import h5s, h5t

from h5flow.data.storage.chunks.reader import RawChunks
from h5flow.data.storage.chunks.writer import ChunkWriter

ROW = np.dtype([("id", "u4"), ("channel", "u4"), ("t", "f8"), ("q", "f8"), ("z", "f8")])
ROWS = 1 << 20
SLICE = 1 << 16  # rows, 2 MiB

FILTERS = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "gzip+shuffle": {"compression": "gzip", "shuffle": True},
}


def rows(number: int) -> np.ndarray:
    """Rows that compress about as well as real ones."""
    generator = np.random.default_rng(0)
    values = np.zeros(number, ROW)
    values["id"] = np.arange(number)
    values["channel"] = generator.integers(0, 5000, number)
    values["t"] = generator.exponential(1, number).cumsum().round(2)
    values["q"] = generator.integers(0, 1000, number) / 4
    values["z"] = generator.integers(0, 300, number) * 0.4434
    return values


@pytest.fixture(scope="module", params=[1024, 16384], ids="{} rows a chunk".format)
def chunk_rows(request):
    return request.param


@pytest.fixture(scope="module", params=FILTERS)
def dataset(request, chunk_rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("chunks") / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=rows(ROWS), chunks=(chunk_rows,), **FILTERS[request.param])
    with h5py.File(path) as file:
        yield file["d"]


def spin(stop: threading.Event) -> int:
    """A stage of pure Python."""
    for turn in itertools.count():
        if stop.is_set():
            return turn
        for _ in range(1000):
            pass
    raise AssertionError


def transform(stop: threading.Event) -> int:
    """A stage that numpy computes for."""
    values = np.random.default_rng(0).normal(size=(64, 4096))
    for turn in itertools.count():
        if stop.is_set():
            return turn
        np.fft.rfft(values)
    raise AssertionError


STAGES = {"alone": None, "beside Python": spin, "beside numpy": transform}


@contextlib.contextmanager
def beside(stage, report):
    """Runs `stage` on a thread; reports turns a second."""
    if stage is None:
        yield
        return
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        begin = time.perf_counter()
        turns = pool.submit(stage, stop)
        try:
            yield
        finally:
            stop.set()
            report["turns of the stage a second"] = round(turns.result() / (time.perf_counter() - begin))


@pytest.mark.parametrize("length", [SLICE, 4 * SLICE], ids=["2 MiB", "8 MiB"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", ["h5py", "raw"])
@pytest.mark.parametrize("stage", STAGES)
def test_reading_slices(benchmark, dataset, stage, how, threads, length):
    raw = RawChunks(dataset)
    memory_type = h5t.py_create(ROW)

    def read(start):
        if how == "raw":
            return raw.read(start, start + length)
        values = np.empty(length, ROW)
        space = dataset.id.get_space()
        space.select_hyperslab((start,), (length,))
        dataset.id.read(h5s.create_simple((length,)), space, values, memory_type)
        return values

    def read_all(pool):
        for _ in pool.map(read, range(0, ROWS, length)):
            pass

    with ThreadPoolExecutor(threads) as pool, beside(STAGES[stage], benchmark.extra_info):
        benchmark.pedantic(read_all, (pool,), rounds=5, warmup_rounds=1)
    benchmark.extra_info["MB/s"] = round(ROWS * ROW.itemsize / benchmark.stats.stats.median / 1e6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", ["h5py", "raw, level 4", "raw, level 1"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("filters", ["gzip", "gzip+shuffle"])
def test_writing(benchmark, tmp_path, chunk_rows, filters, stage, how, threads):
    values = rows(ROWS)  # more than HDF5's chunk cache holds
    if how == "h5py" and threads > 1:
        pytest.skip("one thread at a time")
    with (
        h5py.File(tmp_path / "a.h5", "w") as file,
        ThreadPoolExecutor(threads) as pool,
        beside(STAGES[stage], benchmark.extra_info),
    ):
        dataset = file.create_dataset("d", values.shape, ROW, chunks=(chunk_rows,), **FILTERS[filters])
        writer = None if how == "h5py" else ChunkWriter(dataset, int(how[-1]))

        def write():
            for start in range(0, len(values), SLICE):
                part = values[start : start + SLICE]
                if writer is None:
                    dataset[start : start + SLICE] = part
                else:
                    parts = np.split(part, threads)
                    for number, deflated in enumerate(pool.map(writer.deflate, parts)):
                        writer.store(start + number * len(parts[0]), deflated)
            dataset.flush()

        benchmark.pedantic(write, rounds=3, warmup_rounds=1)
        benchmark.extra_info["size"] = round(dataset.id.get_storage_size() / values.nbytes, 3)
    benchmark.extra_info["MB/s"] = round(values.nbytes / benchmark.stats.stats.median / 1e6)
