"""References of files that lack region tables, or have shorter ones, on one rank and on two."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

PAIRS = [(0, 2), (3, 1), (0, 0), (7, 1), (3, 3), (9, 3), (19, 0)]

MODULE = """
from h5flow.core import H5FlowStage
import numpy as np

class Sum(H5FlowStage):
    def init(self, source_name):
        self.data_manager.create_dset("sums", "i8")
        self.data_manager.create_ref(source_name, "sums")

    def run(self, source_name, source_slice, cache):
        values = cache["B"].filled(0).sum(axis=-1)
        rows = self.data_manager.reserve_data("sums", len(values))
        self.data_manager.write_data("sums", rows, values)
        own = np.arange(source_slice.start, source_slice.stop) if len(values) else np.zeros(0, int)
        self.data_manager.write_ref(source_name, "sums", np.c_[own, np.r_[rows]])
        if len(own):
            self.data_manager.write_ref("B", source_name, [(3, own[0])])
"""


@pytest.mark.parametrize("shorter", [None, (5, 2)])
@pytest.mark.parametrize(("count", "mode"), [(1, "pipelined"), (2, "pipelined"), (2, "sequential")])
def test_a_run_on_them(ranks, tmp_path, count, mode, shorter):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("A/data", data=np.arange(20), maxshape=(None,), chunks=(4,))
        file.create_dataset("B/data", data=np.arange(4) * 10, maxshape=(None,), chunks=(4,))
        file.create_dataset("A/ref/B/ref", data=np.array(PAIRS, "u4"), maxshape=(None, 2), chunks=(8, 2))
        if shorter is not None:
            for column, (of, other) in enumerate((("A", "B"), ("B", "A"))):
                table = np.zeros(shorter[column], [("start", "i4"), ("stop", "i4")])
                for row in range(len(table)):
                    at = [place for place, pair in enumerate(PAIRS) if pair[column] == row]
                    table[row] = (at[0], at[-1] + 1) if at else (0, 0)
                file.create_dataset(f"{of}/ref/{other}/ref_region", data=table, maxshape=(None,), chunks=(8,))
    (tmp_path / "stage.py").write_text(MODULE)
    (tmp_path / "flow.yaml").write_text(
        "flow: {source: loop, stages: [sum]}\nsum: {classname: Sum, path: stage, requires: [B]}\n"
        "loop: {classname: H5FlowDatasetLoopGenerator, dset_name: A, params: {chunk_size: 4}}\n"
    )
    # HDF5 can't have ranks together make longer what a program without MPI has made.
    for storage in ["single-writer"] if count > 1 else ["auto"]:
        settings = ("--set", f"runtime.storage={storage}", "--set", f"runtime.mode={mode}")
        ended = ranks(count, "-m", "h5flow", "flow.yaml", "-i", "in.h5", "-o", "out.h5", *settings)
        assert ended.code == 0, ended
        pairs = [*PAIRS, *((row, 3) for row in range(0, 20, 4))]
        with h5py.File(tmp_path / "out.h5") as file:
            sums = {int(row): int(file["sums/data"][at]) for row, at in file["A/ref/sums/ref"][:]}
            assert sums == {row: sum(10 * child for parent, child in PAIRS if parent == row) for row in range(20)}
            stored = file["A/ref/B/ref"][:].tolist()
            assert sorted(map(tuple, stored)) == sorted(pairs)
            for column, (path, length) in enumerate((("A/ref/B/ref_region", 20), ("B/ref/A/ref_region", 4))):
                regions = file[path][:]
                assert len(regions) == length
                for row in range(length):
                    at = [place for place, pair in enumerate(stored) if pair[column] == row]
                    assert tuple(regions[row]) == ((at[0], at[-1] + 1) if at else (0, 0))
        (tmp_path / "out.h5").unlink()
