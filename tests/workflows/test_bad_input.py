"""What is wrong is said in one line, with what, where and the cure; no file is damaged or looks finished."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager

LOOP = "flow: {source: raw, stages: []}"

# Does in its n-th slice what `do` says.
STAGE = """
    import os, sys, time
    import numpy as np
    from h5flow.core import H5FlowStage

    class Bad(H5FlowStage):
        def __init__(self, **params):
            super().__init__(**params)
            self.do = params['do']
        def init(self, source_name):
            self.data_manager.create_dset('made', 'i4', shape=(2,))
            self.data_manager.create_dset('dropped', 'i4')
            self.data_manager.create_ref(source_name, 'made')
        def run(self, source_name, source_slice, cache):
            dm = self.data_manager
            rows = dm.reserve_data('made', len(cache[source_name]))
            dm.write_data('made', rows, 1)
            if source_slice.start >= 8:
                exec(self.do)
    """

FLOW = """
    flow: {{source: loop, stages: [bad], drop: [dropped]}}
    loop:
      classname: H5FlowDatasetLoopGenerator
      dset_name: raw
      params: {{chunk_size: 4}}
    bad:
      classname: Bad
      params:
        do: "{do}"
    """


def last_line(done) -> str:
    return done.err.strip().splitlines()[-1]


@pytest.fixture
def bad(folder):
    """Runs a stage that does something wrong; input and old output must be as before, and nothing else left."""

    def run(do: str, *arguments: str, **options):
        folder.write("stage.py", STAGE)
        folder.write("flow.yaml", FLOW.format(do=do))
        folder.input()
        folder.input("out.h5", rows=3)
        before = {name: (folder.path / name).read_bytes() for name in ("in.h5", "out.h5")}
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5", *arguments, **options)
        assert before == {name: (folder.path / name).read_bytes() for name in before}
        assert folder.names() == {"stage.py", "flow.yaml", "in.h5", "out.h5", "out.h5.partial"}
        return done

    return run


class TestStagesThatFail:
    WHERE = "h5flow-async: stage 'bad' (flow.yaml:7), rank 0, slice 8:12: "

    @pytest.mark.parametrize(
        ("do", "says"),
        [
            ("dm.write_data('made', rows, np.zeros(5))", "dataset 'made', rows 8:12: data of shape (5,)"),
            ("dm.write_data('made', rows, [['a', 'b']])", "dataset 'made', rows 8:12: data of shape (1, 2)"),
            ("dm.write_data('made', slice(10, 14), 0)", "dataset 'made' has 12 rows, rows 10:14 are not"),
            ("dm.write_data('mode', rows, 0)", "dataset 'mode' isn't in"),
            ("dm.write_ref(source_name, 'made', [[1, -1]])", "references 'raw' → 'made': entry 0 is [1, -1]"),
            ("dm.reserve_data('made', -1)", "dataset 'made': can't reserve -1 rows"),
            ("dm[source_name, [99]]", "dataset 'raw' has 20 rows, not 99"),
            ("dm.create_dset('made', 'f8')", "dataset 'made' exists with row shape (2,) and type int32"),
            ("dm.set_attrs('made', x=None)", "attribute 'x' of 'made': a value of type NoneType"),
        ],
    )
    def test_wrong_use_is_one_line(self, bad, do, says):
        done = bad(do)
        assert done.code == 1
        assert done.err.strip().splitlines()[1:] == [last_line(done)]  # the first: the output will be replaced
        assert last_line(done).startswith(self.WHERE + says)

    def test_users_mistakes_come_with_their_traceback(self, bad):
        done = bad("1 / 0")
        assert done.code == 1
        assert last_line(done) == self.WHERE + "ZeroDivisionError: division by zero"
        assert "stage.py" in done.err
        assert "h5flow/runtime" not in done.err

    def test_sys_exit_is_a_failure(self, bad):
        done = bad("sys.exit(0)")
        assert done.code == 1
        assert last_line(done) == self.WHERE + "SystemExit: 0"

    def test_references_to_rows_that_do_not_exist(self, bad, folder):
        do = "dm.write_ref(source_name, 'made', [[1, 1000]])"
        done = bad(do, "--set", "runtime.strict=true")
        assert done.code == 1
        assert "dataset 'made' has 20 rows, a reference between it and 'raw' points to row 1000" in last_line(done)
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
        assert done.code == 0
        assert '"level":"warning"' in done.err
        assert "dataset 'made' has 20 rows, a reference between it and 'raw' points to row 1000" in done.err

    def test_reading_along_a_reference_to_a_row_that_does_not_exist(self, bad):
        done = bad("dm.write_ref(source_name, 'made', [[8, 1000]]); dm[source_name, 'made', source_slice]")
        said = "dataset 'made' has 12 rows, reference points to row 1000 (stage.py:19)"
        assert last_line(done) == self.WHERE + said

    @pytest.mark.parametrize("mode", ["sequential", "pipelined"])
    @pytest.mark.parametrize(
        ("module", "name", "line"),
        [
            # The line of the stage, or the one that it calls: the innermost of what isn't installed.
            ("dm.write_data('made', rows, np.zeros(7))", "stage.py", 8),
            ("np.linalg.inv(np.zeros((2, 2)))", "stage.py", 8),
            ("below.writes(dm, rows)", "below.py", 2),
            ("list(map(lambda n: dm['nowhere', n], [1]))", "stage.py", 8),
            # Raised in that line itself, which the traceback shows.
            ("{}['x']", "", 0),
            ("np.concatenate([np.zeros(2), np.zeros((2, 2))])", "", 0),
            ("below.fails()", "", 0),
        ],
    )
    def test_the_users_own_line_ends_the_message(self, folder, module, name, line, mode):
        folder.write(
            "stage.py",
            f"""\
            import numpy as np
            import below
            from h5flow.core import H5FlowStage

            class Bad(H5FlowStage):
                def run(self, source_name, rows, cache):
                    dm = self.data_manager
                    {module}
                def init(self, source_name):
                    self.data_manager.create_dset('made', 'i4')
            """,
        )
        folder.write("below.py", "def writes(dm, rows):\n    dm.write_data('x', rows, 1)\ndef fails():\n    1 / 0\n")
        folder.write("flow.yaml", "flow: {source: raw, stages: [bad]}\nbad: {classname: Bad}\n")
        folder.input()
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "new.h5", "--set", f"runtime.mode={mode}")
        assert done.code == 1
        place = re.search(r" \((\w+\.py:\d+)\)$", last_line(done))
        assert (place and place[1]) == (f"{name}:{line}" if name else None)

    @pytest.mark.parametrize(("mode", "finished"), [("sequential", "3 slices, 12"), ("pipelined", r"\d slices, \d+")])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signals(self, bad, number, mode, finished):
        """What is in flight, the third slice at least, is finished."""
        do = f"os.kill(os.getpid(), {int(number)}); time.sleep(0.2)"
        done = bad(do, "--set", f"runtime.mode={mode}")
        assert done.code == 128 + number
        assert re.match(f"h5flow-async: stopped by {number.name} after {finished} rows; ", last_line(done))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_second_signal_does_not_wait(self, bad, number):
        done = bad(f"os.kill(os.getpid(), {int(number)}); time.sleep(0.2); os.kill(os.getpid(), 15); time.sleep(30)")
        assert done.code == 128 + 15
        assert last_line(done).startswith("h5flow-async: stopped by SIGTERM after ")

    def test_a_killed_run_leaves_the_old_output_and_does_not_block_the_next(self, folder):
        folder.write("stage.py", STAGE)
        folder.write("flow.yaml", FLOW.format(do="os.kill(os.getpid(), 9)"))
        folder.input()
        folder.input("out.h5", rows=3)
        before = (folder.path / "out.h5").read_bytes()
        assert folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5").code == -9
        assert (folder.path / "out.h5").read_bytes() == before
        folder.write("flow.yaml", FLOW.format(do="pass"))
        assert folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5").code == 0
        assert len(folder.rows("made/data")) == 20


class TestFiles:
    def fails(self, folder, *arguments: str) -> str:
        before = folder.names()
        done = folder.run(*arguments)
        assert done.code == 1
        assert len(done.err.strip().splitlines()) == 1
        assert folder.names() - {"out.h5.partial"} == before - {"out.h5.partial"}
        return last_line(done)

    def test_input_missing_truncated_or_no_hdf5(self, folder):
        folder.write("flow.yaml", LOOP)
        folder.input()
        whole = (folder.path / "in.h5").read_bytes()
        (folder.path / "cut.h5").write_bytes(whole[: len(whole) // 2])
        (folder.path / "text.h5").write_text("no data")
        for name, says in (
            ("none.h5", "input 'none.h5' doesn't exist"),
            ("cut.h5", "input 'cut.h5' is truncated"),
            ("text.h5", "input 'text.h5' is not an HDF5 file"),
            (".", "input '.' is a folder"),
        ):
            line = self.fails(folder, "flow.yaml", "-i", name, "-o", "out.h5")
            assert line.startswith(f"h5flow-async: {says}")

    def test_dataset_missing(self, folder):
        folder.write("flow.yaml", "flow: {source: rae, stages: []}")
        folder.input()
        line = self.fails(folder, "flow.yaml", "-i", "in.h5", "-o", "out.h5")
        assert line.startswith("h5flow-async: loop over 'rae' (flow.yaml), rank 0: dataset 'rae' isn't in ")

    def test_no_input(self, folder):
        folder.write("flow.yaml", LOOP)
        done = folder.run("flow.yaml", "-o", "out.h5")
        assert done.code == 2
        assert "looping over dataset 'raw' needs an input file" in done.err

    def test_output_in_no_folder(self, folder):
        folder.write("flow.yaml", LOOP)
        folder.input()
        line = self.fails(folder, "flow.yaml", "-i", "in.h5", "-o", "no/where.h5")
        assert "output 'no/where.h5': folder" in line
        assert "doesn't exist" in line

    @pytest.mark.parametrize("mode", ["r", "a"])
    def test_output_open_elsewhere(self, folder, mode):
        folder.write("flow.yaml", LOOP)
        folder.input()
        folder.input("out.h5")
        with h5py.File("out.h5", mode):
            line = self.fails(folder, "flow.yaml", "-i", "in.h5", "-o", "out.h5")
        assert line == (
            "h5flow-async: output 'out.h5' is open in another program; close it there, or choose another output"
        )

    def test_output_being_written_by_another_run(self, folder):
        folder.write("stage.py", STAGE)
        folder.write("flow.yaml", FLOW.format(do="open('there', 'w'); time.sleep(30)"))
        folder.input()
        command = [sys.executable, "-m", "h5flow", "flow.yaml", "-i", "in.h5", "-o", "out.h5"]
        with subprocess.Popen(command, cwd=folder.path) as first:
            try:
                while not (folder.path / "there").exists():
                    assert first.poll() is None
                    time.sleep(0.02)
                done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
            finally:
                first.kill()
        assert done.code == 1
        assert "output 'out.h5.partial' is open in another program" in done.err or "partial' is open" in done.err

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
    def test_full_disk(self, folder):
        disk = folder.path / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False)
        if mounted.returncode:
            pytest.skip("may not mount here")
        try:
            folder.write("stage.py", STAGE)
            folder.write("flow.yaml", FLOW.format(do="dm.write_data('dropped', dm.reserve_data('dropped', 10**6), 1)"))
            folder.input()
            done = folder.run("flow.yaml", "-i", "in.h5", "-o", "disk/out.h5")
            assert done.code == 1
            assert "No space left on device" in last_line(done)
            assert "disk/out.h5" in last_line(done) or "disk/tmp" in last_line(done)
            assert not (disk / "out.h5").exists()
            assert list(disk.glob("tmp-h5flow*")) == []
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_an_output_that_is_extended_keeps_its_rows(self, folder):
        """Catches extending in place: a run that is killed half-way must not touch what was there."""
        folder.write("stage.py", STAGE)
        folder.write("flow.yaml", FLOW.format(do="raise RuntimeError('half-way')"))
        folder.input()
        before = (folder.path / "in.h5").read_bytes()
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "./in.h5")
        assert done.code == 1
        assert (folder.path / "in.h5").read_bytes() == before
        folder.write("flow.yaml", FLOW.format(do="pass"))
        assert folder.run("flow.yaml", "-i", "in.h5", "-o", "./in.h5").code == 0
        assert len(folder.rows("made/data", "in.h5")) == 20
        assert len(folder.rows("hits/data", "in.h5")) == 20

    def test_a_partial_output_can_be_looked_at(self, folder):
        folder.write("stage.py", STAGE)
        folder.write("flow.yaml", FLOW.format(do="raise RuntimeError('half-way')"))
        folder.input()
        folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
        with H5FlowDataManager("out.h5.partial", "r") as dm:
            assert np.array_equal(dm["made", :], np.ones((12, 2)))


class TestWrongWorkflows:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("flow: {source: raw, stages: [nope]}", "'nope'"),
            ("flow: {source: raw, stages: [x]}\nx: {classname: NoSuchStage}", "class 'NoSuchStage'"),
            (
                "flow: {source: raw, stages: [x]}\nx: {classname: H5FlowDatasetLoopGenerator}",
                "flow.yaml:2: 'H5FlowDatasetLoopGenerator' is used as a stage but is no H5FlowStage",
            ),
            (
                "flow: {source: raw, stages: []}\nresources: [{classname: H5FlowTestStage}]",
                "'H5FlowTestStage' is used as a resource but is no H5FlowResource",
            ),
            ("flow: {source: raw, stages: [x]}\nx: {classname: X, path: no.such.module}", "no.such.module"),
            (
                "flow: {source: raw, stages: [x]}\nx: {classname: X, requires: A}",
                "flow.yaml:2:29: x.requires",
            ),
            ("flow: [", "flow.yaml:"),
            ("", "flow.yaml"),
        ],
    )
    def test_exit_code_2_before_anything_is_opened(self, folder, text, says):
        folder.write("flow.yaml", text)
        folder.input()
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
        assert done.code == 2, done.err
        assert says in done.err
        assert "Traceback" not in done.err
        assert folder.names() == {"flow.yaml", "in.h5"}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ((), "no workflow file given"),
            (("flow.yaml",), "no output: give -o OUT.h5"),
            (("none.yaml", "-o", "out.h5"), "none.yaml: can't be read: No such file or directory"),
            (("flow.yaml", "-o", "out.h5", "-z", "zip"), "invalid choice: 'zip'"),
            (("flow.yaml", "-i", "in.h5", "-o", "out.h5", "-s", "-3"), "the start position is -3"),
            (("flow.yaml", "--nonsense"), "unrecognized arguments: --nonsense"),
        ],
    )
    def test_wrong_usage(self, folder, arguments, says):
        folder.write("flow.yaml", LOOP)
        folder.input()
        done = folder.run(*arguments)
        assert done.code == 2, done.err
        assert says in done.err
        assert "Traceback" not in done.err

    @pytest.mark.parametrize("size", ["0", "-5", "1.5", "huge", "true"])
    def test_chunk_size(self, folder, size):
        folder.write(
            "flow.yaml",
            f"""
            flow: {{source: loop, stages: []}}
            loop: {{classname: H5FlowDatasetLoopGenerator, dset_name: raw, params: {{chunk_size: {size}}}}}
            """,
        )
        folder.input()
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
        assert done.code == 2
        assert (
            "generator 'loop' (flow.yaml:3), rank 0: chunk_size is a number of rows, at least 1, or 'auto'" in done.err
        )
