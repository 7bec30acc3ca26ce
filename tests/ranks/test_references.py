"""References that other ranks have written, however one looks at them."""

from __future__ import annotations

import pytest

WORKFLOW = """
flow: {source: source, stages: [looks]}
source: {classname: HandsOver, path: support.components, dset_name: raw, params: {slices: 4}}
looks: {classname: LOOKS}
"""


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("count", [1, 3])
def test_all_ways_to_follow_them_give_the_same(flow, storage, mode, count):
    settings = ["--set", f"runtime.mode={mode}"]
    settings += ["--set", f"runtime.storage={storage}"] if count > 1 else []
    ended = flow(count, WORKFLOW.replace("LOOKS", "Looks, path: support.components"), *settings)
    assert ended.code == 0, ended


@pytest.mark.timeout(100)
@pytest.mark.parametrize("way", ["handle", "backwards", "array", "rows"])
def test_each_way_finds_them_by_itself(flow, storage, way):
    looks = f"LooksFirst, path: support.components, params: {{way: {way}}}"
    ended = flow(2, WORKFLOW.replace("LOOKS", looks), "--set", f"runtime.storage={storage}")
    assert ended.code == 0, ended
