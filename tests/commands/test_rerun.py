"""Running again what made a file."""

from __future__ import annotations

import json
import os

import h5py


def rerun(folder, *arguments, file="out.h5"):
    return folder.run("rerun", file, "-o", "again.h5", *arguments)


def test_the_same_again(reco):
    (reco.path / "workflow.yaml").unlink()  # it is in the file
    (reco.path / "params.yaml").unlink()
    done = rerun(reco, "--compare")
    assert done.code == 0, done
    assert "rerun: nothing is different from then" in done.err
    assert "rerun: all 13 datasets are the same" in done.err
    assert len(reco.rows("reco/sums/data", "again.h5")) == 18  # from the same first row on


def test_from_another_folder(reco, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    reco.path = elsewhere
    done = reco.run("rerun", "../out.h5", "-o", "again.h5")
    assert done.code == 2
    assert f"the run was started in '{tmp_path}'" in done.err
    (elsewhere / "mine.py").write_text((tmp_path / "mine.py").read_text())
    done = reco.run("rerun", "../out.h5", "-o", "again.h5", "--compare")
    assert done.code == 0, done


def test_what_is_different_is_said(reco):
    module = (reco.path / "mine.py").read_text()
    (reco.path / "mine.py").write_text(
        module.replace("1.2.3", "1.3.0").replace("7.0", "7.1").replace("filled(0)", "filled(1)")
    )
    (reco.path / "in.h5").unlink()
    reco.input("in.h5", rows=400)
    done = rerun(reco, "--compare")
    assert "stage 'sum': class version 1.2.3 then, 1.3.0 now" in done.err
    assert "stage 'sum': package version 7.0 then, 7.1 now" in done.err
    assert "input 'in.h5': " in done.err
    assert "rerun: dataset '/reco/sums/data' differs" in done.err
    assert done.code == 1


def test_rows_of_all_kinds_are_compared(reco):
    """Of variable length, with texts and nan, and with bytes between fields that are never written."""
    reco.write(
        "kinds.py",
        """
        import h5py
        import numpy as np
        from h5flow.core import H5FlowStage

        MIXED = np.dtype([('few', 'i1'), ('many', 'f8', 2)], align=True)
        TEXTS = np.dtype([('q', 'f4'), ('text', h5py.string_dtype())])

        class Kinds(H5FlowStage):
            def __init__(self, last=2.0, **params):
                super().__init__(**params)
                self.last = last

            def write(self, name, dtype, values):
                self.data_manager.create_dset(name, dtype)
                rows = self.data_manager.reserve_data(name, len(values))
                self.data_manager.write_data(name, rows, values)

            def finish(self, source_name):
                lists = np.empty(3, object)
                lists[:] = [np.zeros(0, 'f4'), np.array([1, np.nan], 'f4'), np.array([self.last], 'f4')]
                self.write('lists', h5py.vlen_dtype('f4'), lists)
                self.write('texts', TEXTS, np.array([(np.nan, 'ü'), (1, '')], TEXTS))
                mixed = np.frombuffer(np.random.default_rng().bytes(3 * MIXED.itemsize), MIXED).copy()
                mixed['few'], mixed['many'] = 1, np.nan
                self.write('mixed', MIXED, mixed)
        """,
    )
    reco.write("kinds.yaml", "flow: {source: raw, stages: [kinds]}\nkinds: {classname: Kinds, path: kinds}\n")
    assert reco.run("kinds.yaml", "-i", "in.h5", "-o", "kinds.h5").code == 0
    done = rerun(reco, "--compare", file="kinds.h5")
    assert done.code == 0, done
    module = reco.path / "kinds.py"
    module.write_text(module.read_text().replace("last=2.0", "last=3.0"))
    done = rerun(reco, "--compare", "--overwrite", file="kinds.h5")
    assert done.code == 1
    assert [line for line in done.err.splitlines() if "differs" in line] == ["rerun: dataset '/lists/data' differs"]


def test_an_input_that_was_touched(reco):
    os.utime(reco.path / "in.h5", (0, 0))
    done = rerun(reco)
    assert done.code == 0
    assert "input 'in.h5': modified " in done.err
    assert "of the same size" in done.err


def test_another_input(reco):
    (reco.path / "in.h5").rename(reco.path / "moved.h5")
    assert rerun(reco).code == 1
    assert rerun(reco, "-i", "moved.h5", "--compare").code == 0


def test_a_file_that_does_not_say(reco):
    done = rerun(reco, file="in.h5")
    assert done.code == 2
    assert "doesn't say what made it" in done.err
    assert rerun(reco, "--run", "2").code == 2


def test_an_output_that_is_there_is_kept(reco):
    before = (reco.path / "in.h5").read_bytes()
    done = reco.run("rerun", "out.h5", "-o", "in.h5")
    assert done.code == 2
    assert "--overwrite" in done.err
    assert (reco.path / "in.h5").read_bytes() == before


def test_a_run_that_went_on_with_a_file(reco):
    assert reco.run("workflow.yaml", "-o", "out.h5", "--set", "sum.params.scale=3", "-i", "out.h5").code == 0
    done = rerun(reco)
    assert "the run went on with a file that was there" in done.err
    assert rerun(reco, "--run", "1", "--overwrite").code == 0
    assert len(reco.rows("reco/sums/data", "again.h5")) == 18


def test_what_was_run_again(reco):
    assert rerun(reco).code == 0
    assert reco.run("rerun", "again.h5", "-o", "third.h5").code == 0
    done = reco.run("inspect", "third.h5")
    assert "workflow.yaml (in again.h5), done" in done.out
    assert done.out.count("(in ") == 1


def test_files_whose_names_are_no_text(reco):
    """As UTF-8, that is: old folders have names in Latin-1."""
    for name in ("in.h5", "workflow.yaml"):
        (reco.path / name).rename(reco.path / os.fsdecode(b"\xfc" + name.encode()))
    source, workflow, trace, out = (os.fsdecode(b"\xfc" + name) for name in (b"in.h5", b"workflow.yaml", b"t", b"o"))
    done = reco.run(workflow, workflow, "-i", source, "-o", out, "--trace", trace, "--log-dir", os.fsdecode(b"\xfc"))
    assert done.code == 0, done
    assert json.loads((reco.path / trace).read_text())["traceEvents"]
    for kind in ("text", "json", "mermaid"):
        assert reco.run("inspect", out, "--format", kind).code == 0
    assert json.loads(reco.run("inspect", out, "--format", "json").out)["runs"][0]["inputs"][0]["path"] == source
    done = rerun(reco, "--compare", file=out)
    assert done.code == 0, done
    assert "nothing is different" in done.err


def test_lines_have_the_format_of_the_workflow(folder):
    """Who reads them is the same program as then."""
    assert folder.run("workflow.yaml", "-i", "in.h5", "-o", "out.h5", "--set", "logging.format=json").code == 0
    done = rerun(folder, "--compare")
    assert done.code == 0, done
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert {"rerun: nothing is different from then", "rerun: all 13 datasets are the same"} <= {
        line.get("message") for line in lines
    }
    assert [line["slices"] for line in lines if line["event"] == "run.done"] == [1]


def test_tuples_stay_tuples(folder):
    folder.write(
        "tuples.py",
        """
        from h5flow.core import H5FlowStage

        class Shown(H5FlowStage):
            def __init__(self, pair, **params):
                super().__init__(**params)
                self.pair = pair
            def init(self, source_name):
                self.data_manager.set_attrs('shown', pair=repr(self.pair))
            def run(self, source_name, source_slice, cache):
                pass
        """,
    )
    folder.write(
        "tuples.yaml",
        """
        flow: {source: raw, stages: [s]}
        s: {classname: Shown, path: tuples, params: {pair: !!python/tuple [1, [2]]}}
        """,
    )
    assert folder.run("tuples.yaml", "-i", "in.h5", "-o", "out.h5").code == 0
    assert folder.run("rerun", "out.h5", "-o", "again.h5").code == 0
    more = ("--set", "s.params.pair=!!python/tuple [3, 4]")
    assert folder.run("tuples.yaml", "-i", "in.h5", "-o", "other.h5", *more).code == 0
    for name, pair in (("out.h5", "(1, [2])"), ("again.h5", "(1, [2])"), ("other.h5", "(3, 4)")):
        with h5py.File(name) as file:
            assert file["shown"].attrs["pair"] == pair
