"""What running many slices at once wins: loading beside computing, stages beside each other.

Each benchmark runs the same workflow in both modes; `extra_info` has the milliseconds a slice takes in the steady
state, and what they would be if everything overlapped.
"""

from __future__ import annotations

import time

import h5py
import numpy as np
import pytest

from h5flow.core import H5FlowGenerator, H5FlowManager, H5FlowStage
from h5flow.runtime.loading import RequirementLoader

SLICES = 60
MODES = ["sequential", "pipelined"]


class Slices(H5FlowGenerator):
    """Slices of rows that are there."""

    def __init__(self, slices, **params):
        super().__init__(**params)
        self.slices, self.given = slices, 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, "f8")
        self.data_manager.reserve_data(self.dset_name, 8 * self.slices)

    def next(self):
        if self.given == self.slices:
            return self.EMPTY
        self.given += 1
        return slice(8 * self.given - 8, 8 * self.given)


class Sleeps(H5FlowStage):
    """Takes a while, and notes when slices are done."""

    def __init__(self, seconds, **params):
        super().__init__(**params)
        self.seconds, self.done = seconds, []

    def run(self, source_name, source_slice, cache):
        time.sleep(self.seconds)
        self.done.append(time.perf_counter())


class Spectra(Sleeps):
    """Works out spectra of waveforms."""

    def __init__(self, repeat, **params):
        super().__init__(seconds=0, **params)
        self.repeat = repeat

    def run(self, source_name, source_slice, cache):
        for _ in range(self.repeat):
            np.abs(np.fft.rfft(cache[source_name]["samples"].astype("f8"), axis=-1)).max(axis=-1)
        self.done.append(time.perf_counter())


def each(manager) -> float:
    """Milliseconds a slice between the last stage's slices, without the first and the last few."""
    done = manager.stages[-1].done
    first, last = len(done) // 4, len(done) - 3
    return 1e3 * (done[last] - done[first]) / (last - first)


def measured(benchmark, workflow, config, ideal: float, **classes) -> None:
    managers = []

    def setup():
        managers.append(workflow(config, **classes))
        return (managers[-1],), {}

    benchmark.pedantic(lambda manager: (manager.run(), manager.finish()), setup=setup, rounds=3)
    taken = min(each(manager) for manager in managers)
    benchmark.extra_info["milliseconds a slice"] = round(taken, 2)
    benchmark.extra_info["of the ideal"] = round(taken / ideal, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("milliseconds", [5, 20])
def test_loading_beside_computing(benchmark, workflow, monkeypatch, mode, milliseconds):
    """Loading takes as long as the stage."""
    load = RequirementLoader.load

    def slow(self, requirement, source, rows):
        time.sleep(milliseconds / 1e3)
        return load(self, requirement, source, rows)

    monkeypatch.setattr(RequirementLoader, "load", slow)
    config = {
        "flow": {"source": "gen", "stages": ["computes"]},
        "gen": {"classname": "Slices", "dset_name": "raw", "params": {"slices": SLICES}},
        "computes": {"classname": "Sleeps", "params": {"seconds": milliseconds / 1e3}},
        "runtime": {"mode": mode},
    }
    measured(benchmark, workflow, config, milliseconds, Slices=Slices, Sleeps=Sleeps)


@pytest.mark.parametrize("mode", MODES)
def test_six_stages_beside_each_other(benchmark, workflow, mode):
    names = [f"stage{number}" for number in range(6)]
    config = {
        "flow": {"source": "gen", "stages": names},
        "gen": {"classname": "Slices", "dset_name": "raw", "params": {"slices": SLICES}},
        **{name: {"classname": "Sleeps", "params": {"seconds": 0.01}} for name in names},
        "runtime": {"mode": mode},
    }
    measured(benchmark, workflow, config, 10, Slices=Slices, Sleeps=Sleeps)


WAVEFORM = np.dtype([("channel", "u4"), ("samples", "i2", (512,))])


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory):
    """A file of compressed waveforms."""
    path = tmp_path_factory.mktemp("waveforms") / "waveforms.h5"
    random = np.random.default_rng(1)
    rows = np.zeros(256 * SLICES, WAVEFORM)
    rows["samples"] = random.normal(0, 20, (len(rows), 512))
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("raw/data", data=rows, chunks=(256,), maxshape=(None,), compression="gzip", shuffle=True)
    return path


@pytest.mark.parametrize("mode", MODES)
def test_compressed_waveforms_and_their_spectra(benchmark, tmp_path, waveforms, mode):
    """Real work: each slice is read from a gzip dataset, and worked on for about as long."""
    import sys
    import types

    module = sys.modules["overlap"] = types.ModuleType("overlap")
    module.Spectra = Spectra
    config = {
        "flow": {"source": "raw", "stages": ["spectra"]},
        "spectra": {"classname": "Spectra", "path": "overlap", "params": {"repeat": 3}},
        "runtime": {"mode": mode},
    }
    managers = []

    def setup():
        managers.append(H5FlowManager(config, str(tmp_path / f"{len(managers)}.h5"), str(waveforms), mpi=False))
        managers[-1].init()
        return (managers[-1],), {}

    with h5py.File(waveforms) as file:
        started = time.perf_counter()
        for number in range(SLICES):
            file["raw/data"][256 * number : 256 * number + 256]
        loading = 1e3 * (time.perf_counter() - started) / SLICES
    benchmark.pedantic(lambda manager: (manager.run(), manager.finish()), setup=setup, rounds=3)
    benchmark.extra_info["milliseconds a slice"] = round(min(each(manager) for manager in managers), 2)
    benchmark.extra_info["milliseconds to load it"] = round(loading, 2)
