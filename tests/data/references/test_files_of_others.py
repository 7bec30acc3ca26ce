"""References that others have written: without attributes, without region tables, or with shorter ones."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5flow.data import H5FlowDataManager, dereference, print_ref, ref_region_dtype
from h5flow.errors import DanglingReference, DataMismatch, RowsOutOfRange

PAIRS = [(0, 2), (3, 1), (0, 0), (7, 1), (3, 3), (9, 3)]
ROWS = {"A": 10, "B": 4}
ATTRIBUTES = {
    "dset0": "/A/data",
    "dset1": "/B/data",
    "ref_region0": "/A/ref/B/ref_region",
    "ref_region1": "/B/ref/A/ref_region",
}


def regions_of(pairs, length, column):
    regions = np.zeros(length, ref_region_dtype)
    for row in range(length):
        at = [position for position, pair in enumerate(pairs) if pair[column] == row]
        regions[row] = (at[0], at[-1] + 1) if at else (0, 0)
    return regions


def make(path, lengths=(10, 4), attributes=ATTRIBUTES):
    """A file with references A → B whose region tables have some lengths; `None`: there is none."""
    with h5py.File(path, "w") as file:
        for name, rows in ROWS.items():
            file.create_dataset(f"{name}/data", data=np.arange(rows) * 10, maxshape=(None,))
        pairs = file.create_dataset("A/ref/B/ref", data=np.array(PAIRS, "u4"), maxshape=(None, 2))
        pairs.attrs.update(attributes)
        for column, (of, other) in enumerate((("A", "B"), ("B", "A"))):
            if lengths[column] is not None:
                table = regions_of(PAIRS, lengths[column], column)
                file.create_dataset(f"{of}/ref/{other}/ref_region", data=table, maxshape=(None,))
    return str(path)


def children(pairs, start):
    return [sorted(pair[1 - start] for pair in pairs if pair[start] == row) for row in range((10, 4)[start])]


def followed(dm, *names):
    return [row.compressed().tolist() for row in dm[(*names, slice(None))]]


def expected(pairs, start):
    return [[child * 10 for child in found] for found in children(pairs, start)]


LENGTHS = [(10, 4), (None, None), (4, None), (None, 2), (3, 2), (0, 0)]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("attributes", [ATTRIBUTES, {}])
class TestTheDataManager:
    @pytest.mark.parametrize("mode", ["r", "a"])
    def test_follows_them(self, tmp_path, lengths, attributes, mode):
        path = make(tmp_path / "old.h5", lengths, attributes)
        before = (tmp_path / "old.h5").read_bytes()
        with H5FlowDataManager(path, mode) as dm:
            assert followed(dm, "A", "B") == expected(PAIRS, 0)
            assert followed(dm, "B", "A") == expected(PAIRS, 1)
            assert dm.ref_exists("B", "A")
            assert [pairs.name for pairs in dm.get_refs("A")] == ["/A/ref/B/ref"]
            assert [pairs.name for pairs in dm.get_refs("B")] == ["/A/ref/B/ref"]
            pairs, direction = dm.get_ref("B", "A")
            assert pairs[:].tolist() == [list(pair) for pair in PAIRS]
            assert direction == (1, 0)
            for column, names in enumerate((("A", "B"), ("B", "A"))):
                wanted = regions_of(PAIRS, ROWS[names[0]], column)
                assert dm.get_ref_region(*names)[:].tolist() == wanted.tolist()
        if mode == "r":
            assert (tmp_path / "old.h5").read_bytes() == before

    def test_adds_to_them(self, tmp_path, lengths, attributes):
        path = make(tmp_path / "old.h5", lengths, attributes)
        more = [(11, 4), (0, 4), (5, 0)]
        with H5FlowDataManager(path) as dm:
            dm.reserve_data("A", 2)
            dm.reserve_data("B", 1)
            dm.write_data("B", slice(4, 5), 40)
            dm.write_ref("B", "A", [pair[::-1] for pair in more])
            assert followed(dm, "A", "B")[:10] == expected(PAIRS + more, 0)
            assert dm["A", "B", 11].compressed().tolist() == [40]
        with h5py.File(path) as file:
            for column, (of, other) in enumerate((("A", "B"), ("B", "A"))):
                table = file[f"{of}/ref/{other}/ref_region"]
                assert table[:].tolist() == regions_of(PAIRS + more, (12, 5)[column], column).tolist()

    def test_deletes_them(self, tmp_path, lengths, attributes):
        path = make(tmp_path / "old.h5", lengths, attributes)
        with H5FlowDataManager(path) as dm:
            assert followed(dm, "A", "B") == expected(PAIRS, 0)
            dm.delete("B")
            assert not dm.ref_exists("A", "B")
            dm.create_dset("B", "i8")
            dm.create_ref("A", "B")
            assert followed(dm, "A", "B") == [[]] * 10
        with h5py.File(path) as file:
            assert len(file["A/ref/B/ref"]) == 0

    def test_shows_them(self, tmp_path, lengths, attributes, capsys):
        with h5py.File(make(tmp_path / "old.h5", lengths, attributes)) as file:
            print_ref(file)
        assert capsys.readouterr().out == "A -> B: 6\n"


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_workflow_on_them(tmp_path, monkeypatch, mode, lengths):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "old.h5", lengths, {})
    (tmp_path / "sums.py").write_text(
        "from h5flow.core import H5FlowStage\n"
        "class Sum(H5FlowStage):\n"
        "    def init(self, source_name):\n"
        "        self.data_manager.create_dset('sums', 'i8')\n"
        "    def run(self, source_name, source_slice, cache):\n"
        "        rows = self.data_manager.reserve_data('sums', len(cache['B']))\n"
        "        self.data_manager.write_data('sums', rows, cache['B'].filled(0).sum(axis=-1))\n"
        "        self.data_manager.write_ref(source_name, 'B', [(source_slice.start, 3)])\n"
    )
    (tmp_path / "flow.yaml").write_text(
        f"runtime: {{mode: {mode}}}\nflow: {{source: loop, stages: [sum]}}\n"
        "loop: {classname: H5FlowDatasetLoopGenerator, dset_name: A, params: {chunk_size: 4}}\n"
        "sum: {classname: Sum, requires: [B]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "h5flow", "-c", "flow.yaml", "-i", "old.h5", "-o", "new.h5", "--nompi"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with H5FlowDataManager("new.h5", "r") as dm:
        assert dm["sums", :].tolist() == [sum(found) for found in expected(PAIRS, 0)]
        assert followed(dm, "A", "B") == expected([*PAIRS, (0, 3), (4, 3), (8, 3)], 0)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5)), max_size=12),
    shorter=st.integers(0, 8),
    selection=st.one_of(
        st.lists(st.integers(0, 7), max_size=6),
        st.builds(slice, st.integers(0, 7), st.integers(0, 7)),
        st.integers(0, 7),
    ),
    kind=st.sampled_from(["u4", "i8", "i4", "f8", "u2"]),
    indices_only=st.booleans(),
)
@settings(deadline=None)
def test_a_shorter_table_of_regions_never_changes_the_result(pairs, shorter, selection, kind, indices_only):
    ref = np.array(pairs, kind).reshape(-1, 2)
    regions = regions_of(pairs, 8, 0)[:shorter]
    data = np.arange(6) * 1.5
    plain = dereference(selection, ref, data, indices_only=indices_only)
    rows = range(*selection.indices(8)) if isinstance(selection, slice) else np.atleast_1d(selection).tolist()
    if not isinstance(selection, slice):
        assert len(plain) == len(rows)
        if max(rows, default=-1) >= max([shorter, *(parent + 1 for parent, _ in pairs)]):
            with pytest.raises(RowsOutOfRange):
                dereference(selection, ref, data, region=regions)
            return
    quick = dereference(selection, ref, data, region=regions, indices_only=indices_only)
    for result in (plain, quick):
        for row, found in zip(rows, result, strict=False):
            wanted = sorted(child for parent, child in pairs if parent == row)
            assert found.compressed().tolist() == (wanted if indices_only else [child * 1.5 for child in wanted])


@pytest.mark.parametrize(
    "attributes",
    [{}, {"dset0": b"/A/data", "dset1": np.bytes_("/B/data")}, {"dset0": "/gone/data"}, {"dset0": 5, "dset1": [1, 2]}],
)
def test_pairs_of_any_file(tmp_path, attributes):
    with h5py.File(make(tmp_path / "old.h5", attributes=attributes)) as file:
        pairs = file["A/ref/B/ref"]
        for region in (None, file["A/ref/B/ref_region"], file["A/ref/B/ref_region"][:]):
            for selection in (slice(None), slice(0, 10), list(range(10))):
                found = dereference(selection, pairs, file["B/data"], region)
                assert [row.compressed().tolist() for row in found] == expected(PAIRS, 0)


@pytest.mark.parametrize("place", ["pairs", "some/where/ref", "ref/ref"])
def test_pairs_that_lie_anywhere(tmp_path, place):
    with h5py.File(tmp_path / "any.h5", "w") as file:
        file["data"] = np.arange(3)
        file[place] = np.array(PAIRS)
        assert dereference([0, 9, 12], file[place]).tolist() == [[0, 2], [3, None], [None, None]]
        assert len(dereference(slice(None), file[place])) == 10


def test_row_numbers_of_any_size():
    big = 1 << 40
    found = dereference([1, 0], np.array([(1, big + 2), (0, 5), (1, big), (1, 3)]))
    assert found.tolist() == [[3, big, big + 2], [5, None, None]]


@pytest.mark.parametrize("error", [IndexError, ValueError, DanglingReference])
@pytest.mark.parametrize("child", [4, -1])
def test_a_dangling_one_is_an_index_error_too(error, child):
    with pytest.raises(error, match=rf"the data has 4 rows, reference points to row {child}"):
        dereference([0], [(0, child)], np.arange(4))


def test_what_is_no_pairs():
    assert dereference([0, 1], []).tolist() == [[None], [None]]
    with pytest.raises(DataMismatch, match=r"pairs of row numbers, of shape \(K, 2\), not \(3,\)"):
        dereference([0], [1, 2, 3])
