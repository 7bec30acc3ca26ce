"""A generator that never asks for its rank makes everything on each of them, and is told."""

from __future__ import annotations

import h5py
import pytest

WORKFLOW = """
flow: {source: source, stages: []}
source: {classname: CLASS, dset_name: raw}
"""
SAYS = "generator 'source' (workflow.yaml:3), rank 0 on 2 ranks doesn't look at self.rank, self.size or self.comm"


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("classname", "count", "told"),
    [
        ("Unaware, path: support.unaware", 2, 1),
        ("AsksElsewhere, path: support.unaware", 2, 0),
        ("Source, path: support.components", 2, 0),
        ("Unaware, path: support.unaware", 1, 0),
    ],
)
def test_is_told_once(flow, tmp_path, classname, count, told):
    ended = flow(count, WORKFLOW.replace("CLASS", classname))
    assert ended.code == 0, ended
    assert ended.err.count("doesn't look at self.rank") == told
    if told:
        assert SAYS in ended.err
        with h5py.File(tmp_path / "out.h5") as file:
            assert len(file["raw/data"]) == count * 6
