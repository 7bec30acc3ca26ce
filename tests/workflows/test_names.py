"""One dataset has many spellings, `/h/its` and `h//its/` among them; whichever is used, it is that dataset."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5flow.core import H5FlowGenerator, H5FlowStage
from h5flow.data import H5FlowDataManager
from h5flow.jobs.planning import plan
from h5flow.workflow import Document, check

SPELLINGS = ["h/its", "/h/its", "h/its/", "h//its", "//h//its//", "./h/its", "h/./its"]
ROWS = 40


class Changes(H5FlowStage):
    """Changes hits in place, ahead of who requires them."""

    def run(self, source_name, source_slice, cache):
        rows = np.arange(2 * source_slice.start, 2 * source_slice.stop)
        self.data_manager.write_data("h/its", rows, self.data_manager["h/its", rows] + 1000)


class Requires(H5FlowStage):
    """Keeps what its requirements hold, under the keys that the workflow gives them."""

    def init(self, source_name):
        self.kept = {entry["name"]: [] for entry in self.requires}

    def run(self, source_name, source_slice, cache):
        for name, values in self.kept.items():
            values += np.ma.getdata(cache[name])[: len(cache[source_name])].tolist()


class Makes(H5FlowGenerator):
    """Makes its rows in the run, and hits for them."""

    def __init__(self, **params):
        super().__init__(**params)
        self.left = 10

    def init(self):
        self.data_manager.create_dset(self.dset_name, "i8")
        self.data_manager.create_dset("h/its", "i8")
        self.data_manager.create_ref(self.dset_name, "h/its")

    def next(self):
        if not self.left:
            return self.EMPTY
        self.left -= 1
        rows = self.data_manager.reserve_data(self.dset_name, 4)
        hits = self.data_manager.reserve_data("h/its", 8)
        self.data_manager.write_data(self.dset_name, rows, np.r_[rows])
        self.data_manager.write_data("h/its", hits, np.r_[hits])
        self.data_manager.write_ref(self.dset_name, "h/its", np.c_[np.repeat(np.r_[rows], 2), np.r_[hits]])
        return rows


@pytest.fixture
def made(tmp_path):
    """A file with two hits for each row of `raw`."""
    path = str(tmp_path / "in.h5")
    with H5FlowDataManager(path) as dm:
        for name, rows in (("raw", ROWS), ("h/its", 2 * ROWS)):
            dm.create_dset(name, "i8")
            dm.reserve_data(name, rows)
            dm.write_data(name, slice(0, rows), np.arange(rows))
        dm.create_ref("raw", "h/its")
        dm.write_ref("raw", "h/its", np.c_[np.repeat(np.arange(ROWS), 2), np.arange(2 * ROWS)])
    return path


def entries(spelling):
    return [spelling, {"name": "again", "path": [spelling]}, {"name": "numbers", "path": spelling, "index_only": True}]


EXPECTED = {
    "hits": [[1000 + 2 * row, 1001 + 2 * row] for row in range(ROWS)],
    "numbers": [[2 * row, 2 * row + 1] for row in range(ROWS)],
}


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_requirements_see_what_earlier_stages_have_changed(modes, made, spelling, mode):
    config = {
        "flow": {"source": "/raw//", "stages": ["changes", "requires"]},
        "changes": {"classname": "Changes"},
        "requires": {"classname": "Requires", "requires": entries(spelling)},
    }
    kept = modes.run(mode, config, [Changes, Requires], made).stages[1].kept
    assert kept == {spelling: EXPECTED["hits"], "again": EXPECTED["hits"], "numbers": EXPECTED["numbers"]}


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_requirements_that_the_run_has_made(modes, spelling, mode):
    config = {
        "flow": {"source": "makes", "stages": ["changes", "requires"], "drop": ["//raw"]},
        "makes": {"classname": "Makes", "dset_name": "/raw/"},
        "changes": {"classname": "Changes"},
        "requires": {"classname": "Requires", "requires": entries(spelling)},
    }
    manager = modes.run(mode, config, [Makes, Changes, Requires])
    assert manager.stages[1].kept == {
        spelling: EXPECTED["hits"],
        "again": EXPECTED["hits"],
        "numbers": EXPECTED["numbers"],
    }
    with h5py.File(manager.path) as file:
        assert "raw" not in file
        assert file["h/its/data"][:].tolist() == [1000 + row for row in range(2 * ROWS)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_rows_by_name(made, spelling):
    with H5FlowDataManager(made) as dm:
        dm.write_data(spelling, [3], -1)
        assert dm["h/its", 3].tolist() == dm[spelling, 3].tolist() == [-1]
        assert dm["/raw", spelling, 1].tolist() == [[2, -1]]
        assert dm[spelling, "raw//", 3].tolist() == [[1]]
        assert dm.walk(["raw", spelling], 1, indices_only=True).tolist() == [[2, 3]]
        assert dm[spelling].name == "/h/its"
        assert dm.dset_exists(spelling)
        assert dm.ref_exists(spelling, "/raw")
        assert [found.name for found in dm.get_refs(spelling)] == ["/raw/ref/h/its/ref"]
        assert dm.get_ref(spelling, "raw/")[1] == (1, 0)
        assert dm.get_ref_region(spelling, "raw/").name == "/h/its/ref/raw/ref_region"
        dm.set_attrs(spelling, unit="keV")
        assert dm.get_attrs("h/its")["unit"] == "keV"
        dm.delete(spelling)
        assert not dm.exists("h/its")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_plans_know_who_makes_what(made, spelling):
    config = {
        "flow": {"source": "/raw/", "stages": ["tests"]},
        "tests": {"classname": "H5FlowTestStage", "requires": [spelling]},
    }
    (workflow,) = plan([check(Document.from_mapping(config))], "out.h5", made).workflows
    assert workflow.source == "raw"
    assert workflow.rows == ROWS
    (need,) = workflow.stages[0].requires
    assert (need.name, need.when) == (spelling, "early")
    assert need.bytes == 2 * 8 * workflow.rows_per_slice
