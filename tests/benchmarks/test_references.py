"""Following and writing references, at the sizes of real files."""

from __future__ import annotations

import numpy as np
import pytest

from h5flow.data import H5FlowDataManager

HIT = np.dtype([("id", "u4"), ("channel", "u4"), ("t", "f8"), ("q", "f8")])
EVENTS, HITS = 20_000, 100


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """20,000 events, 2 million hits, as many calibrated hits."""
    path = str(tmp_path_factory.mktemp("references") / "events.h5")
    number = np.arange(EVENTS * HITS)
    with H5FlowDataManager(path) as dm:
        for name, rows in (("events", EVENTS), ("hits", EVENTS * HITS), ("calibrated", EVENTS * HITS)):
            dm.create_dset(name, HIT)
            dm.reserve_data(name, rows)
            data = np.zeros(rows, HIT)
            data["id"] = np.arange(rows)
            dm.write_data(name, slice(0, rows), data)
        dm.create_ref("events", "hits")
        dm.write_ref("events", "hits", np.c_[number // HITS, number])
        dm.create_ref("hits", "calibrated")
        dm.write_ref("hits", "calibrated", np.c_[number, number])
    with H5FlowDataManager(path, "r") as dm:
        yield dm


def test_hits_of_1000_events_in_a_row(benchmark, events):
    assert benchmark(lambda: events["events", "hits", 5000:6000]).shape == (1000, HITS)


def test_hits_of_1000_events_anywhere(benchmark, events):
    rows = np.random.default_rng(0).choice(EVENTS, 1000, replace=False)
    assert benchmark(lambda: events["events", "hits", rows]).shape == (1000, HITS)


def test_chain_of_200_events(benchmark, events):
    assert benchmark(lambda: events["events", "hits", "calibrated", 5000:5200]).shape == (200, HITS, 1)


@pytest.mark.parametrize("kind", ["in order", "in any order", "of rows far apart"])
def test_writing_100000_references(benchmark, tmp_path, kind):
    rows = 2_000_000
    here = np.arange(100_000)
    refs = {
        "in order": np.c_[here, here],
        "in any order": np.random.default_rng(0).permutation(here)[:, np.newaxis].repeat(2, axis=1),
        "of rows far apart": np.random.default_rng(0).integers(0, rows, (len(here), 2)),
    }[kind]
    with H5FlowDataManager(str(tmp_path / "out.h5")) as dm:
        for name in ("a", "b"):
            dm.create_dset(name, "i4")
            dm.reserve_data(name, rows)
        dm.create_ref("a", "b")
        benchmark(lambda: (dm.write_ref("a", "b", refs), dm.data_file.settle()))


@pytest.mark.parametrize("linked", [0, 30])
def test_reserving_rows_of_a_dataset_with_references(benchmark, tmp_path, linked):
    with H5FlowDataManager(str(tmp_path / "out.h5")) as dm:
        dm.create_dset("a", "i4")
        for number in range(linked):
            dm.create_dset(f"b{number}", "i4")
            dm.create_ref("a", f"b{number}")
        benchmark(lambda: dm.reserve_data("a", 8))
