"""Rows that one rank makes, and another one works on."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

WORKFLOW = """
flow: {source: source, stages: [squares, sees]}
source: {classname: HandsOver, path: support.components, dset_name: raw}
squares: {classname: Squares, path: support.components, requires: [waves]}
sees: {classname: Sees, path: support.components, requires: [squares]}
"""


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_rank_sees_what_others_have_told_it_of(flow, tmp_path, storage, mode, count):
    if count == 1:
        settings = ("--set", f"runtime.mode={mode}")
    else:
        settings = ("--set", f"runtime.mode={mode}", "--set", f"runtime.storage={storage}")
    ended = flow(count, WORKFLOW, *settings)
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        size = 6 * (3 * count - 1)
        raw, squares = file["raw/data"][:], file["squares/data"][:]
        numbers = np.arange(size)
        assert raw["id"].tolist() == numbers.tolist()
        assert raw["value"].tolist() == (numbers % (3 * count - 1) / 4).tolist()
        # each row has been worked on by the rank that it was for
        assert raw["rank"].tolist() == (100 + numbers % (3 * count - 1) // 3).tolist()
        assert file["waves/data"]["id"].tolist() == list(range(2 * size))
        pairs = file["squares/ref/raw/ref"][:]
        assert sorted(pairs[:, 1]) == numbers.tolist()
        assert squares[pairs[:, 0]].tolist() == (pairs[:, 1] ** 2.0).tolist()
