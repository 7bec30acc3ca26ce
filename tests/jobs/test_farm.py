"""Many files with one command: on one process, and on ranks that share them out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.comparing import content
from support.mpiexec import launcher, send_signal

PARTS = '''
import logging, os, signal, sys, time
import numpy as np
from h5flow.core import H5FlowResource, H5FlowStage, resources

LOADED = []

class Seen(H5FlowResource):
    """What has been in the resources before this file."""

    def __init__(self, **params):
        super().__init__(**params)
        self.before = sorted(resources)
        LOADED.append(self.input_filename)

class Work(H5FlowStage):
    def __init__(self, sleep=0.0, fails="nowhere", how="raises", **params):
        super().__init__(**params)
        self.sleep, self.fails, self.how = sleep, fails, how

    def init(self, source_name):
        self.data_manager.create_dset("out", "i8")
        self.data_manager.create_ref(source_name, "out")
        logging.getLogger("parts").warning("begins %s", self.data_manager.filepath)

    def run(self, source_name, source_slice, cache):
        time.sleep(self.sleep)
        if self.fails in self.data_manager.filepath:
            getattr(self, self.how)()
        rows = self.data_manager.reserve_data("out", len(cache[source_name]))
        self.data_manager.write_data("out", rows, 2 * cache[source_name])
        self.data_manager.write_ref(source_name, "out", np.c_[source_slice, rows])

    def raises(self):
        raise ValueError("a mistake")

    def exits(self):
        sys.exit(3)

    def interrupts(self):
        raise KeyboardInterrupt

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Tells(H5FlowStage):
    """Writes down where it is."""

    def init(self, source_name):
        self.data_manager.set_attrs(
            source_name,
            rank=self.rank, size=self.size, comm=0 if self.comm is None else self.comm.Get_size(),
            manager=(self.data_manager.rank, self.data_manager.size),
            before=len(resources["Seen"].before), loaded=len(LOADED), process=os.getpid(),
        )

    def run(self, source_name, source_slice, cache): ...
'''

WORK = """
flow: {source: raw, stages: [work]}
work: {classname: Work}
"""

TELLS = """
flow: {source: raw, stages: [work, tells]}
resources: [{classname: Seen}]
work: {classname: Work, params: {sleep: 0.01}}
tells: {classname: Tells}
"""

FAILING_PART = """
class Failing(H5FlowStage):
    def __init__(self, where, **params):
        super().__init__(**params)
        self.where, self.number = where, 0
        self.fail("__init__")

    def init(self, source_name):
        self.data_manager.create_dset("before", "i8")
        self.fail("init")

    def run(self, source_name, source_slice, cache):
        self.number += 1
        self.data_manager.reserve_data("before", 1)
        if self.number > 2:
            self.fail("run")

    def finish(self, source_name):
        self.fail("finish")

    def fail(self, where):
        if where == self.where and ("f1" in self.data_manager.filepath or "f3" in self.data_manager.filepath) and (%s):
            raise ValueError("a mistake")
"""

WAITING_PART = """
class Waiting(H5FlowStage):
    def run(self, source_name, source_slice, cache):
        if "f1" in self.data_manager.filepath:
            if self.rank == 0:
                raise ValueError("a mistake")
            self.comm.recv(source=0)
"""

MANY = ("-i", "raw/*.h5", "-o", "reco/{stem}.h5")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Makes inputs of five slices and more."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS)

    def make(count, workflow=WORK, folder="raw"):
        (tmp_path / "workflow.yaml").write_text(workflow)
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in range(count):
            with h5py.File(tmp_path / folder / f"f{number}.h5", "w") as file:
                rows = np.arange(40 + number)
                file.create_dataset("raw/data", data=rows, chunks=(8,), maxshape=(None,))

    return make


class Command:
    """The command as users give it, on one process or more."""

    def __init__(self, ranks, folder):
        self.ranks, self.folder = ranks, folder

    def __call__(self, *arguments, count=1, limit=50):
        if count > 1:
            return self.ranks(count, "-m", "h5flow", *arguments, limit=limit)
        done = subprocess.run(
            [sys.executable, "-m", "h5flow", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def made(self, folder="reco"):
        """The complete outputs."""
        return sorted(path.name for path in (self.folder / folder).glob("*.h5"))


class Ended:
    """What became of a command."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit code {self.code}\n{self.out}\n{self.err}"


@pytest.fixture
def command(request, tmp_path):
    # A machine without MPI runs all that takes one process.
    count = request.node.callspec.params.get("count", 1) if hasattr(request.node, "callspec") else 1
    marked = request.node.get_closest_marker("usefixtures")
    several = count > 1 or (marked is not None and "ranks" in marked.args)
    return Command(request.getfixturevalue("ranks") if several else None, tmp_path)


on_ranks = pytest.mark.usefixtures("ranks")
on_one_and_more = pytest.mark.parametrize("count", [1, 2])


class TestOutputs:
    @on_one_and_more
    def test_are_those_of_single_runs(self, files, command, count, tmp_path):
        files(4)
        ended = command("workflow.yaml", *MANY, count=count)
        assert ended.code == 0, ended
        assert command.made() == [f"f{number}.h5" for number in range(4)]
        assert re.search(r"^  done +4$", ended.err, re.MULTILINE), ended
        for number in range(4):
            assert command("workflow.yaml", "-i", f"raw/f{number}.h5", "-o", "single.h5").code == 0
            assert content(tmp_path / f"reco/f{number}.h5") == content(tmp_path / "single.h5")
            (tmp_path / "single.h5").unlink()

    @on_one_and_more
    def test_that_are_there_are_skipped(self, files, command, count, tmp_path):
        files(3)
        command("workflow.yaml", *MANY, count=count)
        (tmp_path / "reco/f1.h5").unlink()
        before = (tmp_path / "reco/f0.h5").stat().st_mtime_ns
        ended = command("workflow.yaml", *MANY, count=count)
        assert ended.code == 0, ended
        assert re.search(r"^  skipped +2  whose output was there$", ended.err, re.MULTILINE), ended
        assert re.search(r"^\[1/1\] reco/f1.h5: 6 slices, 41 rows", ended.err, re.MULTILINE), ended
        assert (tmp_path / "reco/f0.h5").stat().st_mtime_ns == before
        ended = command("workflow.yaml", *MANY, "--overwrite", count=count)
        assert re.search(r"^  done +3$", ended.err, re.MULTILINE), ended
        assert (tmp_path / "reco/f0.h5").stat().st_mtime_ns > before

    def test_in_the_workflow_file_and_by_names_that_a_shell_has_expanded(self, files, command):
        files(2, WORK + "run: {input: 'raw/*.h5', output: 'here/{parent}/{name}'}\n")
        assert command("workflow.yaml").code == 0
        assert command.made("here/raw") == ["f0.h5", "f1.h5"]
        ended = command("-i", "raw/f1.h5", "raw/f0.h5", "workflow.yaml", "-o", "{stem}.out", "-q")
        assert (ended.code, ended.err) == (0, "")
        assert Path("f0.out").exists()
        assert Path("f1.out").exists()

    def test_of_workflows_named_after_inputs_in_their_order(self, files, command):
        files(2)
        Path("second.yaml").write_text(WORK.replace("classname: Work", "classname: H5FlowTestStage"))
        assert command("-i", *sorted(map(str, Path("raw").iterdir())), "workflow.yaml", "-o", "{stem}.h5").code == 0
        assert command("-i", "raw/f0.h5", "workflow.yaml", "-v", "second.yaml", "-o", "two.h5").code == 0
        ended = command("-i", "raw/f0.h5", "workflow.txt", "-o", "two.h5")
        assert ended.code == 2
        assert "no workflow file given: 'workflow.txt' was taken for an input" in ended.err


class TestComponents:
    @on_one_and_more
    def test_are_alone_with_their_file(self, files, command, count, tmp_path):
        """Rank 0 of 1, whatever the launcher says; resources are new, modules stay imported."""
        files(6, TELLS)
        assert command("workflow.yaml", *MANY, count=count).code == 0
        loaded = []
        for number in range(6):
            with h5py.File(tmp_path / f"reco/f{number}.h5") as file:
                told = file["raw"].attrs
                assert (told["rank"], told["size"], told["before"]) == (0, 1, 0)
                assert list(told["manager"]) == [0, 1]
                assert told["comm"] in ((1,) if count > 1 else (0, 1))
                loaded.append(told["loaded"])
        assert len(loaded) == 6
        assert max(loaded) > 1

    @on_ranks
    def test_of_all_ranks_get_work(self, files, command, tmp_path):
        files(9, TELLS.replace("0.01", "0.05"))
        assert command("workflow.yaml", *MANY, count=3).code == 0
        processes = set()
        for number in range(9):
            with h5py.File(tmp_path / f"reco/f{number}.h5") as file:
                processes.add(file["raw"].attrs["process"])
        assert len(processes) == 3

    @on_ranks
    def test_of_a_rank_with_a_long_file_keep_no_others_waiting(self, files, command, tmp_path):
        """Rank 0, which has the queue, is busy with one file while the other rank does all the rest."""
        files(6)
        long = PARTS.replace("time.sleep(self.sleep)", "time.sleep(1 if 'f0' in self.data_manager.filepath else 0)")
        (tmp_path / "parts.py").write_text(long)
        ended = command("workflow.yaml", *MANY, count=2)
        assert ended.code == 0, ended
        assert re.search(r"^\[6/6\] reco/f0.h5: .* \(on rank \d\)$", ended.err, re.MULTILINE), ended

    @on_ranks
    @pytest.mark.timeout(100)
    @pytest.mark.parametrize("mode", ["pipelined", "sequential"])
    def test_of_groups_share_their_file(self, files, command, tmp_path, mode):
        files(5, TELLS)
        settings = ("--ranks-per-file", "2", "--set", f"runtime.mode={mode}")
        ended = command("workflow.yaml", *MANY, *settings, count=4)
        assert ended.code == 0, ended
        assert "(on ranks 0 to 1)" in ended.err
        assert "(on ranks 2 to 3)" in ended.err
        for number in range(5):
            with h5py.File(tmp_path / f"reco/f{number}.h5") as file:
                assert (file["raw"].attrs["size"], file["raw"].attrs["comm"]) == (2, 2)
                pairs = file["raw/ref/out/ref"][:]
                assert len(pairs) == 40 + number
                assert (file["out/data"][:][pairs[:, 1]] == 2 * file["raw/data"][:][pairs[:, 0]]).all()

    @on_ranks
    @pytest.mark.timeout(100)
    def test_of_groups_leave_no_communicators_behind(self, files, command):
        files(1)
        for number in range(1, 24):
            Path(f"raw/f{number}.h5").symlink_to("f0.h5")
        settings = ("--ranks-per-file", "2", "--set", "runtime.mode=sequential")
        # MPICH has 2048 of them
        most = "        if not others:\n            others.extend(self.comm.Dup() for _ in range(1970))\n"
        create = "        self.data_manager.create_dset"
        Path("parts.py").write_text(f"others = []\n{PARTS.replace(create, most + create)}")
        ended = command("workflow.yaml", *MANY, *settings, count=2)
        assert ended.code == 0, ended


class TestFailures:
    @on_one_and_more
    @pytest.mark.parametrize("how", ["raises", "exits", "interrupts"])
    def test_are_told_at_the_end_and_stop_no_others(self, files, command, count, how, tmp_path):
        files(4)
        settings = ("--set", "work.params.fails=f1", "--set", f"work.params.how={how}")
        ended = command("workflow.yaml", *MANY, *settings, count=count)
        assert ended.code == 1, ended
        assert command.made() == ["f0.h5", "f2.h5", "f3.h5"]
        table = ended.err[ended.err.index("4 files in") :]
        assert re.search(r"^  done +3$", table, re.MULTILINE), ended
        assert re.search(r"^  failed +1$", table, re.MULTILINE), ended
        line = (
            f"stage 'work' (workflow.yaml:3), rank 0, slice 0:8: {'ValueError: a mistake' if how == 'raises' else ''}"
        )
        assert f"    raw/f1.h5: {line}" in table
        assert "(log: reco/f1.h5.log)" in table
        assert "Traceback" not in ended.err
        log = (tmp_path / "reco/f1.h5.log").read_text()
        assert "WARNING parts: begins reco/f1.h5" in log
        assert "Traceback" in log
        assert f"reco/f1.h5: failed: {line}" in log.splitlines()[-1]
        log = (tmp_path / "reco/f2.h5.log").read_text()
        assert "begins reco/f2.h5" in log
        assert "f1" not in log
        assert "6 slices, 42 rows" in log.splitlines()[-1]
        assert ended.err.count("begins") == 0
        ended = command("workflow.yaml", *MANY, count=count)
        assert ended.code == 0, ended
        assert "mistake" not in (tmp_path / "reco/f1.h5.log").read_text()

    @on_one_and_more
    def test_end_it_all_where_that_is_wanted(self, files, command, count):
        files(6)
        settings = ("--set", "work.params.fails=f0", "--set", "work.params.sleep=0.05", "--fail-fast")
        ended = command("workflow.yaml", *MANY, *settings, count=count)
        assert ended.code == 1, ended
        assert re.search(r"^  not begun +[345]$", ended.err, re.MULTILINE), ended

    def test_of_a_log_that_cannot_be_written_are_of_one_file(self, files, command):
        files(2)
        Path("reco/f0.h5.log").mkdir(parents=True)
        ended = command("workflow.yaml", *MANY)
        assert ended.code == 1, ended
        assert "raw/f0.h5: reco/f0.h5.log: Is a directory" in ended.err
        assert command.made() == ["f1.h5"]

    def test_say_what_is_logged_on_the_terminal_too_where_that_is_wanted(self, files, command):
        files(2)
        ended = command("workflow.yaml", *MANY, "-v", "--set", "logging.format=console")
        assert "WARNING parts: begins reco/f0.h5" in ended.err

    @on_ranks
    @pytest.mark.timeout(100)
    @pytest.mark.parametrize(
        ("who", "where", "mode"),
        [
            (who, where, ("sequential", "pipelined")[(one + other) % 2])
            for one, who in enumerate(["self.rank >= 0", "self.rank == 0", "self.rank == 1"])
            for other, where in enumerate(["run", "init", "__init__", "finish"])
        ],
    )
    def test_of_a_group_do_not_stop_the_other_files(self, files, command, tmp_path, who, where, mode):
        """Ranks that haven't failed are told, and let go of the file as well, whatever they wait for."""
        files(5)
        (tmp_path / "parts.py").write_text(f"{PARTS}\n{FAILING_PART % who}")
        settings = ("--ranks-per-file", "2", "--set", f"runtime.mode={mode}", "--set", "runtime.storage=single-writer")
        failing = f"failing={{classname: Failing, params: {{where: {where}}}}}"
        flow = ("--set", "flow.stages=[failing,work]", "--set", failing)
        ended = command("workflow.yaml", *MANY, *settings, *flow, count=4, limit=60)
        assert ended.code == 1, ended
        assert re.search(r"^  done +3$", ended.err, re.MULTILINE), ended
        assert re.search(r"^  failed +2", ended.err, re.MULTILINE), ended
        for name in ("f1", "f3"):
            assert re.search(
                rf"{name}\.h5: failed: stage 'failing' \(.*\), rank [01].*ValueError: a mistake", ended.err
            ), ended
            assert "ValueError: a mistake" in (tmp_path / f"reco/{name}.h5.log").read_text()
        assert command.made() == ["f0.h5", "f2.h5", "f4.h5"]
        for name in command.made():
            with h5py.File(tmp_path / "reco" / name) as file:
                assert file["out/data"][:].tolist() == (2 * file["raw/data"][:]).tolist()
        with h5py.File(tmp_path / "reco/f1.h5.partial") as file:
            assert "raw/data" in file

    @on_ranks
    def test_of_a_group_that_cannot_be_left_end_the_job_after_other_files(self, files, command, ranks, tmp_path):
        """A rank waits for a message of the one that has failed. Given again, the command comes to that file last."""
        files(4)
        (tmp_path / "parts.py").write_text(f"{PARTS}\n{WAITING_PART}")
        script = (
            "import sys; from h5flow.jobs import farm; from h5flow.cli import main; farm.PATIENCE = 1; sys.exit(main())"
        )
        settings = ("--ranks-per-file", "2", "--set", "flow.stages=[waiting,work]")
        settings += ("--set", "waiting={classname: Waiting}")
        for made in (["f0.h5"], ["f0.h5", "f2.h5", "f3.h5"]):
            ended = ranks(2, "-c", script, "workflow.yaml", *MANY, *settings, limit=30)
            assert ended.code == 1, ended
            assert "raw/f1.h5: stage 'waiting'" in ended.err, ended
            assert "Not all of these ranks could give the file up" in ended.err, ended
            assert command.made() == made

    @on_ranks
    def test_by_death_of_a_rank_end_the_job_which_can_be_taken_up_again(self, files, command, tmp_path):
        files(6)
        settings = ("--set", "work.params.fails=f3", "--set", "work.params.how=is_killed")
        ended = command("workflow.yaml", *MANY, *settings, "--set", "work.params.sleep=0.03", count=2, limit=30)
        assert ended.code not in (0, 1, 2), ended
        made = command.made()
        assert "f3.h5" not in made
        assert 2 <= len(made) < 6
        ended = command("workflow.yaml", *MANY, count=2)
        assert ended.code == 0, ended
        assert re.search(rf"^  skipped +{len(made)}  whose", ended.err, re.MULTILINE), ended
        assert command.made() == [f"f{number}.h5" for number in range(6)]
        assert not list((tmp_path / "reco").glob("*.partial"))


class TestMistakes:
    @on_one_and_more
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--set", "work.clasname=x"), "unknown key 'clasname' (did you mean 'classname'?)"),
            (("--set", "work.classname=Wrok"), "no module defines class 'Wrok' (did you mean 'Work'?)"),
            (("--set", "work.classname=Seen"), "'Seen' is used as a stage but is no H5FlowStage"),
            (("-i", "none*.h5"), "no file matches input 'none*.h5'"),
            (("-o", "out.h5"), "put {stem}, {name}, {parent} of the input in its name"),
            (("-o", "{parent}.h5"), "would both give 'raw.h5'"),
            (("-s", "-1"), "the start position is -1"),
            (("--ranks-per-file", "3"), "can't be split into groups of 3"),
            (("--ranks-per-file", "0"), "can't be split into groups of 0"),
        ],
    )
    def test_are_found_before_any_file_is_begun_and_told_once(self, files, command, count, arguments, says):
        files(2)
        ended = command("workflow.yaml", *MANY, *arguments, count=count)
        assert ended.code == 2, ended
        assert ended.err.count(says) == 1, ended
        assert len(ended.err.splitlines()) == 1, ended
        assert not Path("reco").exists()

    def test_a_group_for_a_single_input(self, files, command):
        files(1)
        ended = command("workflow.yaml", "-i", "raw/f0.h5", "-o", "out.h5", "--ranks-per-file", "2")
        assert ended.code == 2
        assert "--ranks-per-file is for several inputs" in ended.err


class TestSignals:
    def start(self, command, count, *arguments):
        start = [sys.executable, "-m", "h5flow", "workflow.yaml", *MANY, *arguments]
        if count > 1:
            start = [launcher(), "-n", str(count), *start]
        return subprocess.Popen(
            start, cwd=command.folder, stderr=subprocess.PIPE, text=True, start_new_session=True, env=ENVIRONMENT
        )

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize(("count", "group"), [(1, 1), (2, 1), (4, 2)])
    def test_stop_files_in_work_and_begin_no_others(self, files, command, count, group, number, tmp_path):
        files(20)
        process = self.start(
            command, count, "--set", "work.params.sleep=0.1", *(("--ranks-per-file", "2") if group > 1 else ())
        )
        try:
            wait_until(lambda: len(list((tmp_path / "reco").glob("*.h5.log"))) > count // group, process)
            time.sleep(0.15)
            if count > 1:
                send_signal(process, number)
            else:
                process.send_signal(number)
            _, err = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 128 + number, err
        table = err[err.index("20 files in") :]
        counts = {kind: int(count) for kind, count in re.findall(r"^  (done|not begun|stopped) +(\d+)$", table, re.M)}
        assert counts.get("done", 0) == len(command.made())
        assert counts["not begun"] > 10
        assert 1 <= counts["stopped"] <= count // group
        assert sum(counts.values()) == 20
        assert f"stopped by {number.name} after" in table
        for name in command.made():
            with h5py.File(tmp_path / "reco" / name) as file:
                assert len(file["out/data"]) == len(file["raw/data"])
        ended = command("workflow.yaml", *MANY, count=count)
        assert ended.code == 0, ended
        assert len(command.made()) == 20
        assert not list((tmp_path / "reco").glob("*.partial"))


SENDS = "os.kill(os.getpid(), signal.SIGTERM)"


@on_ranks
@pytest.mark.parametrize("group", ["1", "2"])
def test_signals_between_files_begin_none(files, command, group, tmp_path):
    """Here it comes while modules are imported, when no rank may leave the others alone."""
    files(4)
    (tmp_path / "parts.py").write_text(f"{PARTS}\n{SENDS}\n")
    ended = command("workflow.yaml", *MANY, "--ranks-per-file", group, count=2, limit=30)
    assert ended.code == 143, ended
    assert re.search(r"^  not begun +4$", ended.err, re.MULTILINE), ended
    assert not (tmp_path / "reco").exists()


@on_ranks
def test_signals_before_the_loop_of_a_group_stop_it_there(files, command, tmp_path):
    """Only one rank of the group gets it; outside of the loop the other one would wait for it."""
    files(4)
    begins = "    def init(self, source_name):\n        self.data_manager.create_dset"
    sends = begins.replace(":\n", f":\n        if self.rank == 1: {SENDS}\n")
    (tmp_path / "parts.py").write_text(PARTS.replace(begins, sends))
    settings = ("--ranks-per-file", "2", "--set", "work.params.sleep=0.2")
    ended = command("workflow.yaml", *MANY, *settings, count=2, limit=30)
    assert ended.code == 143, ended
    assert re.search(r"^  stopped +1$", ended.err, re.MULTILINE), ended
    assert re.search(r"^  not begun +3$", ended.err, re.MULTILINE), ended
    assert command.made() == []


ENVIRONMENT = {
    **os.environ,
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def wait_until(condition, process, limit=30.0):
    """Wait for something that a process does."""
    ends = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)


@on_ranks
@pytest.mark.timeout(100)
def test_ranks_that_wait_for_others_burn_no_core(files, command, tmp_path):
    """One long file for three ranks: two of them have nothing to do for all that time."""
    files(1)
    (tmp_path / "parts.py").write_text(
        PARTS
        + """
import atexit
def told():
    with open(f'cpu.{os.getpid()}', 'w') as file:
        file.write(str(sum(os.times()[:2])))
atexit.register(told)
"""
    )
    ended = command("workflow.yaml", *MANY, "--set", "work.params.sleep=1.2", count=3)
    assert ended.code == 0, ended
    used = [float(path.read_text()) for path in tmp_path.glob("cpu.*")]
    assert len(used) == 3
    # six seconds of waiting, and the imports
    assert max(used) < 3.0
