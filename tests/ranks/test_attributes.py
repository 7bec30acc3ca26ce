"""Attributes that each rank sets to a value of its own."""

from __future__ import annotations

import h5py
import pytest

WORKFLOW = """
flow: {source: source, stages: [counts]}
source: {classname: Source, path: support.components, dset_name: raw}
counts: {classname: Counts, path: support.components}
"""


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_are_told_once_with_all_values(flow, storage, tmp_path, mode):
    ended = flow(3, WORKFLOW, "--set", f"runtime.mode={mode}", "--set", f"runtime.storage={storage}")
    assert ended.code == 0, ended
    told = [line.partition("message")[2] for line in ended.err.splitlines() if "attribute '" in line]
    assert len(told) == 3, ended
    assert sorted(line.partition("attribute '")[2].partition("'")[0] for line in told) == ["count", "live", "rank"]
    assert "attribute 'rank' of 'hits' is 0 on rank 0, 1 on rank 1, 2 on rank 2; that of rank 0 is kept" in ended.err
    with h5py.File(tmp_path / "out.h5") as file:
        attrs = file["hits"].attrs
        assert attrs["rank"] == 0
        assert [attrs[f"of_{rank}"] for rank in range(3)] == [0, 1, 2]
        assert [file[f"group_{rank}"].attrs["mine"] for rank in range(3)] == [0, 1, 2]
        assert attrs["live"][0] == 0
        assert attrs["last"] == 2
        assert attrs["total"] == len(file["raw/data"])
        assert attrs["count"] < attrs["total"]


@pytest.mark.timeout(100)
def test_are_an_error_in_strict(flow, tmp_path):
    ended = flow(2, WORKFLOW, "--set", "runtime.strict=true")
    assert ended.code == 1, ended
    assert "stage 'counts' (workflow.yaml:4), rank " in ended.err
    assert "attribute 'rank' of 'hits' is 0 on rank 0, 1 on rank 1; give all ranks the same value" in ended.err
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.timeout(100)
def test_one_rank_has_nothing_to_differ_from(flow, tmp_path):
    ended = flow(1, WORKFLOW, "--set", "runtime.strict=true")
    assert ended.code == 0, ended
    assert "attribute '" not in ended.err
