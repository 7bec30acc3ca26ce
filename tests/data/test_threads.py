"""One data manager, used from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from h5flow.data import H5FlowDataManager

THREADS, ROUNDS, ROWS = 4, 500, 3


def test_nothing_is_lost(tmp_path: Path):
    path = str(tmp_path / "out.h5")
    with H5FlowDataManager(path) as dm:
        for name in ("A", "B"):
            dm.create_dset(name, "i8")
        dm.create_ref("A", "B")
        dm.data_file._cache.budget = 4096  # so that pages are written and dropped all the time

        def work(thread: int) -> None:
            for number in range(ROUNDS):
                values = np.arange(ROWS) + (thread * ROUNDS + number) * ROWS
                parents, children = dm.reserve_data("A", ROWS), dm.reserve_data("B", ROWS)
                dm.write_data("A", parents, values)
                dm.write_data("B", children, -values)
                dm.write_ref("A", "B", np.c_[parents, children])
                assert dm["A", parents].tolist() == values.tolist()
                assert dm["A", "B", parents][:, 0].tolist() == (-values).tolist()
                if number % 5 == 0:
                    dm.data_file.settle()
                    assert dm.get_dset("B")[children].tolist() == (-values).tolist()
                if number % 50 == 0:
                    file = dm.fh
                    assert [len(group["data"]) > 0 for group in file.values()] == [True, True]
                    assert file.get("A/data")[parents.start] == values[0]

        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(work, thread) for thread in range(THREADS)]:
                done.result()

    rows = THREADS * ROUNDS * ROWS
    with h5py.File(path) as file:
        parents, children, pairs = (file[name][()] for name in ("A/data", "B/data", "A/ref/B/ref"))
        assert sorted(parents) == sorted(-children) == list(range(rows))
        assert len(np.unique(pairs, axis=0)) == len(pairs) == rows
        assert (parents[pairs[:, 0]] == -children[pairs[:, 1]]).all()
        for region, column in (("A/ref/B/ref_region", 0), ("B/ref/A/ref_region", 1)):
            table = file[region][()]
            assert table["start"][pairs[:, column]].tolist() == list(range(rows))
            assert table["stop"][pairs[:, column]].tolist() == list(range(1, rows + 1))
