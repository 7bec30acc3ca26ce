"""One rank that writes for all, or all of them: which it is, and that the file is the same."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from support.comparing import content
from support.components import ROW, rows_of

PARALLEL = bool(h5py.get_config().mpi)
needs_parallel = pytest.mark.skipif(not PARALLEL, reason="NOT RUN: this h5py is built without MPI")

ONE_STAGE = """
flow: {{source: source, stages: [stage]}}
source: {{classname: {source}, path: support.components, dset_name: raw}}
stage: {{classname: {stage}, path: support.components, params: {params}}}
"""


def one_stage(stage, source="Source", params="{}"):
    return ONE_STAGE.format(stage=stage, source=source, params=params)


def files(flow, tmp_path, count, workflow, storages, *arguments):
    """What each storage makes of a workflow, in both modes."""
    for storage in storages:
        for mode in ("sequential", "pipelined"):
            settings = ("--set", f"runtime.storage={storage}", "--set", f"runtime.mode={mode}")
            ended = flow(count, workflow, *settings, *arguments)
            assert ended.code == 0, ended
            yield content(tmp_path / "out.h5")
            (tmp_path / "out.h5").unlink()


@pytest.fixture
def compressed(tmp_path):
    """An input whose rows are compressed."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset(
            "raw/data", data=rows_of(slice(0, 40), 0), maxshape=(None,), chunks=(8,), compression="gzip"
        )
    return tmp_path / "in.h5"


LOOP = """
flow: {{source: loop, stages: [stage]}}
loop: {{classname: H5FlowDatasetLoopGenerator, dset_name: raw, params: {{chunk_size: 5}}}}
stage: {{classname: {stage}, path: support.components, params: {params}}}
"""


@pytest.mark.timeout(200)
def test_files_that_outgrow_their_room_are_the_same(flow, tmp_path, storages):
    first, *others = files(flow, tmp_path, 3, one_stage("Links", "Bulk"), storages)
    assert all(other == first for other in others)
    _, _, shape, rows = first["raw/data"]
    rows = np.frombuffer(rows, ROW)
    assert shape == (len(rows),)
    assert len(rows) == sum(7000 + 100 * rank + number for rank in range(3) for number in range(1, 7 - rank))
    assert (rows["id"] == np.arange(len(rows))).all()
    # Regions are there for all rows, and up to the last one that a reference points to.
    hits = np.frombuffer(first["hits/data"][-1], ROW)
    pairs = np.frombuffer(first["raw/ref/hits/ref"][-1], "u4").reshape(-1, 2)
    assert len(pairs) == len(hits) + 15
    assert first["hits/ref/raw/ref_region"][2] == (pairs[:, 1].max() + 1,)
    assert first["raw/ref/hits/ref_region"][2] == (len(rows),)


@pytest.mark.timeout(200)
def test_what_a_stage_does_with_h5py_itself(flow, tmp_path, storages):
    first, *others = files(flow, tmp_path, 2, one_stage("ByHand"), storages)
    assert all(other == first for other in others)
    assert sorted(name for name in first if name.startswith("mine/")) == ["mine/first", "mine/table 3", "mine/table 4"]
    assert first["mine"][0] == {"tables": 4}
    assert first["mine/table 4"][0] == {"unit": "mm"}


@needs_parallel
@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
def test_one_rank_alone_can_not_change_a_file_that_all_have_open(flow, mode):
    settings = ("--set", "runtime.storage=parallel", "--set", f"runtime.mode={mode}")
    ended = flow(2, one_stage("ByHand", params="{only: 1}"), *settings)
    assert ended.code == 1, ended
    assert "call it on all of them" in ended.err, ended


@pytest.mark.timeout(100)
def test_compression_has_one_rank_write(flow, tmp_path):
    ended = flow(2, one_stage("Links", "Bulk"), "-z", "gzip", "-v")
    assert ended.code == 0, ended
    assert "storage: single-writer" in ended.err
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["raw/data"].compression == "gzip"
        assert len(file["hits/data"]) == len(file["raw/data"])


@pytest.mark.timeout(100)
@pytest.mark.parametrize("count", [2, 3])
def test_compressed_input_has_one_rank_write(flow, compressed, count):
    ended = flow(count, LOOP.format(stage="Compresses", params="{writes: true}"), "-i", compressed, "-v")
    assert ended.code == 0, ended
    assert "storage: single-writer" in ended.err
    with h5py.File(compressed.with_name("out.h5")) as file:
        assert (file["raw/data"]["rank"] == 7).all()


@needs_parallel
@pytest.mark.timeout(100)
def test_without_compression_all_ranks_write_where_they_can(flow):
    ended = flow(2, one_stage("Links", "Bulk"), "-v")
    assert ended.code == 0, ended
    assert "storage: parallel" in ended.err


@needs_parallel
@pytest.mark.timeout(100)
@pytest.mark.parametrize("writes", [False, True])
def test_all_ranks_can_read_compressed_rows_but_not_write_them(flow, compressed, writes):
    workflow = LOOP.format(stage="Compresses", params=f"{{writes: {str(writes).lower()}}}")
    ended = flow(2, workflow, "-i", compressed, "--set", "runtime.storage=parallel")
    assert ended.code == (1 if writes else 0), ended
    if writes:
        assert "dataset '/raw/data' is compressed" in ended.err
        assert "runtime.storage: single-writer" in ended.err
        assert not compressed.with_name("out.h5").exists()


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "runtime.storage=serial"], "serial is for one process"),
        (
            ["--set", "runtime.storage=parallel", "-z", "gzip"],
            "choose single-writer" if PARALLEL else "h5py is built without MPI",
        ),
    ],
)
def test_a_storage_that_can_not_be_had_is_refused(flow, tmp_path, arguments, says):
    ended = flow(2, one_stage("Links"), *arguments)
    assert ended.code == 2, ended
    assert ended.err.count("h5flow-async: ") == 1, ended
    assert says in ended.err
    assert not list(tmp_path.glob("out.h5*"))


@pytest.mark.timeout(100)
@pytest.mark.parametrize("storage", ["auto", "serial", "single-writer", "parallel"])
def test_one_rank_needs_no_other(flow, tmp_path, storage):
    ended = flow(1, one_stage("Links"), "--set", f"runtime.storage={storage}")
    assert ended.code == 0, ended
    assert (tmp_path / "out.h5").exists()


@pytest.mark.timeout(100)
def test_texts_of_any_length(flow, tmp_path, storage):
    ended = flow(2, one_stage("Texts"), "--set", f"runtime.storage={storage}")
    if storage == "parallel":
        assert ended.code == 1, ended
        assert "runtime.storage: single-writer" in ended.err
    else:
        assert ended.code == 0, ended
        with h5py.File(tmp_path / "out.h5") as file:
            assert set(file["texts/data"].asstr()[:]) == {"0 of 2", "1 of 2"}


@pytest.mark.timeout(100)
def test_references_to_what_becomes_long(flow, tmp_path):
    ended = flow(2, one_stage("LeadsTo"), "--set", "runtime.storage=single-writer")
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        (lead,) = file["leads/data"][:]
        assert file[lead] == file["long/data"]
        assert len(file["long/data"]) == 48_000


@pytest.mark.timeout(100)
@pytest.mark.parametrize("by_hand", ["true", "false"])
def test_a_loop_that_makes_the_copy_itself(flow, tmp_path, compressed, by_hand):
    generator = f"CopiesItself, path: support.components, params: {{by_hand: {by_hand}}}, dset_name: raw"
    workflow = f"flow: {{source: loop, stages: [stage]}}\nloop: {{classname: {generator}}}\n"
    workflow += "stage: {classname: Compresses, path: support.components, params: {writes: true}}\n"
    ended = flow(2, workflow, "-i", "in.h5", "--set", "runtime.storage=single-writer")
    assert ended.code == 0, ended
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["raw/data"]["rank"].tolist() == [7] * 40
