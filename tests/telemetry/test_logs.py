"""What gets into logs, and what stands on standard error."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from support.logs_of_runs import ROWS, made, parsed

MODES = pytest.mark.parametrize("mode", ["pipelined", "sequential"])


class TestLinesOfUsers:
    @MODES
    @pytest.mark.parametrize("kind", ["Work", "AsyncWork"])
    def test_carry_stage_and_slice(self, told, mode, kind):
        """Each line names the slice in its text, so that this can be held against its fields."""
        says = f"second.classname={kind}", "second.params.says=[log]", "first.params.says=[log]"
        ended = told(f"runtime.mode={mode}", *says)
        lines = [line for line in ended.of("log") if line["message"].startswith("at ")]
        assert len(lines) == 24
        for line in lines:
            assert line["logger"] == "user.module"
            assert line["message"] == f"at {line['start']}"
        for stage in ("first", "second"):
            of_stage = [line for line in lines if line["stage"] == stage]
            assert [line["slice_index"] for line in of_stage] == list(range(12))
            assert sum(line["stop"] - line["start"] for line in of_stage) == ROWS

    @MODES
    def test_before_and_after_the_loop_carry_the_stage(self, told, mode):
        ended = told(f"runtime.mode={mode}")
        found = {line["message"]: (line["stage"], line["slice_index"], line["start"]) for line in ended.of("log")}
        assert found == {
            f"{part} of {stage}": (stage, None, None) for part in ("init", "finish") for stage in ("first", "second")
        }

    @MODES
    def test_that_are_printed_are_in_the_file_and_where_they_were(self, told, mode):
        ended = told(f"runtime.mode={mode}", "second.params.says=[print]")
        lines = [line for line in ended.of("log") if line["logger"] == "print"]
        assert [line["message"] for line in lines] == ended.out.splitlines()
        assert len(lines) == 12
        assert all(line["message"] == f"printed at {line['start']}" for line in lines)
        assert {line["stage"] for line in lines} == {"second"}
        assert "printed" not in ended.err

    @MODES
    def test_that_are_printed_without_an_end_belong_to_who_has_begun_them(self, told, folder, mode):
        with (folder / "parts.py").open("a") as file:
            file.write(
                "\nprint('at import')\n"
                "class Dots(Work):\n"
                "    def work(self, source_name, source_slice, cache):\n"
                "        print(source_slice.start, end=' ')\n"
                "        print('of', self.name, end='')\n"
                "    def finish(self, source_name):\n"
                "        print('end', end='')\n"
            )
        ended = told(f"runtime.mode={mode}", "first.classname=Dots", "second.classname=Dots")
        lines = [line for line in ended.of("log") if line["logger"] == "print"]
        first, *printed = ((line["message"], line["stage"]) for line in lines if line["slice_index"] is None)
        assert first == ("at import", None)
        assert printed == [("end", "first"), ("end", "second")]
        on_slices = [line for line in lines if line["slice_index"] is not None]
        assert len(on_slices) == 24
        assert all(line["message"] == f"{line['start']} of {line['stage']}" for line in on_slices)

    @pytest.mark.parametrize(
        "configures",
        [
            "logging.basicConfig(force=True, level=logging.INFO, stream=sys.stdout)",
            "import logging.config; logging.config.dictConfig({'version': 1, 'disable_existing_loggers': False,"
            " 'handlers': {'own': {'class': 'logging.StreamHandler'}},"
            " 'root': {'handlers': ['own'], 'level': 'INFO'}})",
        ],
    )
    @pytest.mark.parametrize("where", ["import", "init"])
    def test_are_there_where_a_module_configures_logging_for_itself(self, told, folder, configures, where):
        with (folder / "parts.py").open("a") as file:
            body = "    def init(self, source_name):\n        super().init(source_name)\n        "
            file.write(f"\n{configures}\n" if where == "import" else f"\nclass Own(Work):\n{body}{configures}\n")
        ended = told("second.params.says=[log]", *(["first.classname=Own"] if where == "init" else []))
        assert ended.code == 0, ended
        messages = [line["message"] for line in ended.of("log") if line["logger"] == "user.module"]
        assert sum(message.startswith("at ") for message in messages) == 12
        assert "init of second" in messages

    def test_of_errors_have_their_traceback(self, told):
        ended = told("first.params.says=[error]")
        lines = [line for line in ended.of("log") if line["exception"]]
        assert len(lines) == 12
        assert {line["level"] for line in lines} == {"error"}
        assert all(line["exception"].endswith("ZeroDivisionError: division by zero") for line in lines)

    def test_from_threads_of_their_own_are_there_without_a_stage(self, told):
        ended = told("first.params.says=[thread]")
        lines = [line for line in ended.of("log") if line["message"].startswith("from a thread")]
        assert len(lines) == 12
        assert {line["stage"] for line in lines} == {None}
        assert {line["workflow"] for line in lines} == {"workflow.yaml"}

    @pytest.mark.timeout(200)  # each of some ten thousand lines is held against the schema
    @pytest.mark.parametrize("log", [True, False])
    def test_of_finalisers_that_run_while_something_is_told(self, told, folder, log):
        """Garbage is collected anywhere, so also by a thread that is writing a line, and logs on its own."""
        with (folder / "parts.py").open("a") as file:
            file.write(
                "\nclass Garbage(Work):\n"
                "    def work(self, source_name, source_slice, cache):\n"
                "        for number in range(200):\n"
                "            Node()\n"
                "            log.warning('number %d', number)\n"
                "\nclass Node:\n"
                "    def __init__(self):\n"
                "        self.me = self\n"
                "    def __del__(self):\n"
                "        log.warning('gone')\n"
            )
        ended = told("first.classname=Garbage", "second.classname=Garbage", log=log)
        assert ended.code == 0, ended
        lines = ended.lines if log else [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
        said = [line["message"] for line in lines if line["event"] == "log"]
        assert [said.count(f"number {number}") for number in (0, 199)] == [24, 24]
        assert said.count("gone") > 1000

    def test_below_the_level_are_not_there(self, told):
        ended = told("logging.level=warning", "first.params.says=[log, warn]")
        assert {line["event"] for line in ended.lines} == {"log"}
        assert {line["level"] for line in ended.lines} == {"warning"}


class TestTheRun:
    @MODES
    def test_is_told_from_beginning_to_end(self, told, mode):
        ended = told(f"runtime.mode={mode}")
        assert ended.code == 0, ended
        events = [line["event"] for line in ended.lines]
        assert events[:3] == ["run.start", "workflow.start", "file.opened"]
        assert events[-3:] == ["workflow.done", "file.published", "run.done"]
        assert [line["component"] for line in ended.of("component.init")] == [
            "generator 'rows'",
            "stage 'first'",
            "stage 'second'",
        ]
        (first, *_) = ended.of("component.init")
        assert (first["classname"], first["module"], first["version"]) == ("Source", "parts", "1.2.3")
        assert first["place"] == "workflow.yaml:3"
        assert len(ended.of("component.finish")) == 3
        (done,) = ended.of("run.done")
        assert (done["slices"], done["rows"], done["output"]) == (12, ROWS, "out.h5")
        (start,) = ended.of("run.start")
        assert start["workflows"] == ["workflow.yaml"]
        assert len({line["run_id"] for line in ended.lines}) == 1
        times = [line["timestamp"] for line in ended.lines]
        assert times == sorted(times)

    def test_goes_on_where_nobody_can_say_how_much_there_is(self, told, folder):
        with (folder / "parts.py").open("a") as file:
            file.write("\nclass Unknown(Source):\n    def __len__(self):\n        return self.nowhere\n")
        ended = told("rows.classname=Unknown")
        assert ended.code == 0
        (line,) = (line for line in ended.of("log") if line["level"] == "warning")
        assert "generator 'rows': how much there is isn't known, its `__len__` raises AttributeError" in line["message"]

    @MODES
    def test_counts_rows_whose_numbers_come_from_arrays(self, told, folder, mode):
        """Its lines fit the schema, as those of all runs here do."""
        with (folder / "parts.py").open("a") as file:
            file.write(
                "\nclass OfArrays(Source):\n"
                "    def next(self):\n"
                "        rows = super().next()\n"
                "        return slice(*np.array([rows.start, rows.stop], 'u4')) if rows != self.EMPTY else rows\n"
            )
        ended = told(f"runtime.mode={mode}", "rows.classname=OfArrays")
        assert [line["rows"] for line in ended.of("workflow.done", "run.done")] == [ROWS, ROWS]

    def test_that_fails_says_where(self, told):
        ended = told("second.params.fails=15")
        assert ended.code == 1
        (failed,) = ended.of("run.failed")
        assert failed["component"] == "stage 'second'"
        assert failed["place"] == "workflow.yaml:5"
        assert (failed["slice_index"], failed["start"], failed["stop"]) == (3, 15, 22)
        assert failed["kind"] == "ValueError"
        assert failed["error"].endswith("slice 15:22: ValueError: a mistake")
        assert failed["traceback"].startswith("Traceback")
        assert ended.lines[-1] is failed
        assert ended.err.splitlines()[-1] == f"h5flow-async: {failed['error']}"

    def test_that_can_not_load_says_what(self, told):
        ended = told("runtime.strict=true", "second.requires=[nowhere]")
        (failed,) = ended.of("run.failed")
        assert (failed["requirement"], failed["slice_index"]) == ("nowhere", 0)

    def test_that_goes_on_without_a_requirement_says_that_once(self, told):
        (missing,) = told("second.requires=[nowhere]").of("requirement.missing")
        assert missing["requirement"] == "nowhere"
        assert missing["level"] == "warning"
        assert "dataset 'nowhere' isn't in" in missing["error"]

    def test_that_runs_slices_one_at_a_time_says_why(self, told, folder):
        (folder / "parts.py").write_text((folder / "parts.py").read_text().replace("slp", "") + DRAWS)
        ended = told("first.classname=Draws", "second.classname=Draws")
        (serialized,) = ended.of("slices.serialized")
        assert "stage 'first' and stage 'second' draw from the same random generator" in serialized["reason"]

    def test_that_loads_again_says_what(self, told, folder):
        """The second stage requires rows of a dataset that the first one changes after they have been loaded."""
        (folder / "parts.py").write_text((folder / "parts.py").read_text() + CHANGES)
        (folder / "workflow.yaml").write_text(
            "flow: {source: rows, stages: [first, second]}\n"
            "rows: {classname: Source, path: parts, dset_name: raw, params: {slices: 40}}\n"
            "first: {classname: Changes, path: parts}\n"
            "second: {classname: Slow, path: parts, requires: [{name: state, path: state}]}\n"
        )
        ended = told("logging.level=debug")
        assert ended.code == 0, ended
        reloaded = ended.of("requirement.reloaded")
        assert reloaded
        assert {(line["requirement"], line["stage"]) for line in reloaded} == {("state", "second")}
        (done,) = ended.of("workflow.done")
        assert done["reloads"] == len(reloaded)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_that_is_stopped_says_so(self, folder, number):
        command = [sys.executable, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--log-dir", "logs"]
        command += ["--set", "first.params.sleep=0.1", "--set", "rows.params.slices=1000"]
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        wait_for_slices(folder, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        lines = log_of(folder)
        assert process.returncode == 128 + number
        assert lines[-1]["event"] == "run.stopped"
        assert lines[-1]["signal"] == number.name
        assert lines[-1]["progress"] in err

    def test_that_is_killed_leaves_whole_lines(self, folder, told):
        ended = told("first.classname=Killed")
        assert ended.code == -signal.SIGKILL
        assert [line["slice_index"] for line in ended.of("slice.done")][:3] == [0, 1, 2]

    def test_has_an_id_that_sorts_by_time(self, told, folder):
        told()
        time.sleep(1)
        told("--overwrite")
        ids = [path.parent.name for path in sorted(Path(folder / "logs").glob("*/*"), key=os.path.getmtime)]
        assert len(ids) == 2
        assert ids == sorted(ids)


DRAWS = """
class Draws(Work):
    def work(self, source_name, source_slice, cache):
        np.random.rand()
"""

CHANGES = """
class Changes(H5FlowStage):
    def run(self, source_name, source_slice, cache):
        time.sleep(0.004)
        if source_slice.start > 300:
            self.data_manager.write_data("state", source_slice, source_slice.start)

class Slow(H5FlowStage):
    def init(self, source_name):
        self.data_manager.create_dset("state", "i8")
        self.data_manager.reserve_data("state", 2000)

    def run(self, source_name, source_slice, cache):
        time.sleep(0.004)
        assert (cache["state"] == (source_slice.start if source_slice.start > 300 else 0)).all()
"""


def log_of(folder):
    (path,) = folder.glob("logs/*/rank-0000.jsonl")
    return parsed(path)


def wait_for_slices(folder, process):
    ends = time.monotonic() + 30
    while not any('"slice.done"' in path.read_text() for path in folder.glob("logs/*/*.jsonl")):
        assert time.monotonic() < ends
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


class TestFiles:
    def test_are_where_the_workflow_says(self, told, folder):
        told("logging.file='here/{run_id}-{rank:02d}-of-{size}-{host}-{pid}.jsonl'", log=False)
        (path,) = (folder / "here").iterdir()
        line = parsed(path)[0]
        assert path.name == f"{line['run_id']}-00-of-1-{line['host']}-{line['pid']}.jsonl"

    def test_are_none_unless_wanted(self, told, folder):
        assert told(log=False).code == 0
        names = {path.name for path in folder.iterdir()} - {"__pycache__"}
        assert names == {"parts.py", "workflow.yaml", "out.h5"}

    def test_may_lie_in_a_folder_with_braces(self, told, folder):
        told("--log-dir", "{x}", log=False)
        assert len(list((folder / "{x}").glob("*/rank-0000.jsonl"))) == 1

    @pytest.mark.parametrize(
        ("pattern", "says"),
        [
            ("logs/{run}.jsonl", "there is no {run}, only {run_id}, {rank}, {size}, {host}, {pid}"),
            ("logs/{rank:04q}.jsonl", "logging.file: 'logs/{rank:04q}.jsonl'"),
            ("logs/{rank", "logging.file: 'logs/{rank'"),
            ("logs/{}", "there is no {}"),
        ],
    )
    def test_with_names_that_mean_nothing_are_mistakes(self, told, folder, pattern, says):
        ended = told(f"logging.file='{pattern}'", log=False)
        assert ended.code == 2
        assert says in ended.err
        assert not (folder / "logs").exists()

    @pytest.mark.parametrize("place", ["/dev/full", "parts.py/x.jsonl", "/proc/none/x.jsonl"])
    def test_that_can_not_be_written_are_said_once_and_end_nothing(self, told, folder, place):
        """A full disk among them."""
        ended = told(f"logging.file={place}", "first.params.says=[warn]", log=False)
        assert ended.code == 0, ended
        assert ended.err.count("can't be written, and the run goes on without") == 1
        assert len(made(folder)["raw"]) == ROWS


class TestStandardError:
    def test_has_the_summary_and_nothing_else(self, told):
        ended = told("first.params.says=[log]", log=False)
        assert ended.err.startswith(f"out.h5: 12 slices, {ROWS} rows in ")
        assert ended.err.count("\n") == 1

    def test_is_empty_when_quiet(self, told):
        for format in ("auto", "json", "console"):
            assert told("-q", "--overwrite", f"logging.format={format}").err == ""

    def test_has_warnings_as_json_where_no_terminal_is(self, told):
        *lines, last = told("first.params.says=[log, warn]", log=False).err.splitlines()
        parsed = [json.loads(line) for line in lines]
        assert len(parsed) == 12
        assert all(line["message"] == f"careful at {line['start']}" for line in parsed)
        assert last.startswith("out.h5: 12 slices")

    def test_is_for_people_where_that_is_wanted(self, told):
        *lines, _ = told("logging.format=console", "first.params.says=[log, warn]", log=False).err.splitlines()
        assert len(lines) == 12
        assert lines[1].endswith(" WARNING user.module: careful at 4 stage=first slice=4:9")

    def test_is_for_people_on_a_terminal(self, folder):
        leader, follower = pty.openpty()
        command = [sys.executable, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--set", "first.params.says=[warn]"]
        process = subprocess.Popen(command, cwd=folder, stderr=follower, stdout=subprocess.DEVNULL)
        os.close(follower)
        text = b""
        try:
            while chunk := os.read(leader, 1 << 16):
                text += chunk
        except OSError:
            pass  # the other side is closed
        os.close(leader)
        assert process.wait(timeout=30) == 0
        assert b"careful at 4" in text
        assert b"{" not in text

    @pytest.mark.parametrize(
        ("settings", "code", "event"),
        [
            ((), 0, "run.done"),
            (("second.params.fails=15",), 1, "run.failed"),
            (("second.classname=Nowhere",), 2, "run.failed"),
            (("-s", "-5", "flow.source=raw", "-i", "none.h5"), 2, "run.failed"),
            (("-v", "first.params.says=[log, error, thread]"), 0, "run.done"),
        ],
    )
    def test_is_all_json_where_that_is_wanted(self, told, settings, code, event):
        ended = told("logging.format=json", *settings, log=False)
        assert ended.code == code, ended
        lines = [json.loads(line) for line in ended.err.splitlines()]
        assert lines[-1]["event"] == event
        assert [line["event"] for line in lines].count(event) == 1
        if event == "run.failed":
            assert "Traceback" in lines[-1]["traceback"]

    def test_shows_more_with_v(self, told):
        settings = ("first.params.says=[log]", "logging.format=console", "--overwrite")
        err = told("-v", *settings, log=False).err
        assert "INFO user.module: at 4 stage=first slice=4:9" in err
        assert "workflow begins, pipelined" in err
        assert "slice 3" not in err
        assert "slice 3 (15:22) done" in told("-vv", *settings, log=False).err


def test_structlog_is_not_imported_where_nothing_is_to_be_said(folder):
    """It takes a good part of a start."""
    (folder / "parts.py").write_text(
        (folder / "parts.py").read_text()
        + "import atexit\nHEAVY = {'structlog', 'prometheus_client', 'rich'}\n"
        + "atexit.register(lambda: print(sorted(HEAVY & set(sys.modules))))\n"
    )
    command = [sys.executable, "-m", "h5flow", "workflow.yaml", "-o", "out.h5"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout == "[]\n"


class TestScripts:
    """`h5flow.run()` in an application that has logging of its own."""

    def run(self, folder, text):
        (folder / "script.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    def test_keep_their_logging(self, folder):
        done = self.run(
            folder,
            "import logging, sys, h5flow\n"
            "logging.basicConfig(format='MINE %(name)s %(message)s', stream=sys.stderr)\n"
            "before = logging.root.handlers[:], logging.root.level, sys.stdout\n"
            "h5flow.run('workflow.yaml', 'out.h5', log_dir='logs')\n"
            "assert (logging.root.handlers[:], logging.root.level, sys.stdout) == before\n"
            "logging.warning('later')\n",
        )
        assert done.stderr == "MINE root later\n"
        lines = log_of(folder)
        assert lines[-1]["event"] == "run.done"
        assert sum(line["rows"] for line in lines if line["event"] == "slice.done") == ROWS
        assert "later" not in (folder / "logs").joinpath(lines[0]["run_id"], "rank-0000.jsonl").read_text()

    def test_hear_of_events_through_it(self, folder):
        text = (folder / "workflow.yaml").read_text().replace("requires: [first]", "requires: [nowhere]")
        (folder / "workflow.yaml").write_text(text)
        done = self.run(
            folder,
            "import logging, sys, h5flow\n"
            "logging.basicConfig(format='MINE %(name)s %(message)s', stream=sys.stderr)\n"
            "h5flow.run('workflow.yaml', 'out.h5')\n",
        )
        assert done.stderr.startswith("MINE h5flow.runtime.loading requirement 'nowhere' is None: ")
        assert done.stderr.count("\n") == 1

    def test_run_in_threads_at_once_with_a_log_each(self, folder):
        """Lines of one run stand in its own log only."""
        for name in "ab":
            text = (folder / "workflow.yaml").read_text().replace("first", f"first_{name}")
            (folder / f"{name}.yaml").write_text(text + f"logging: {{file: '{name}.jsonl'}}\n")
        self.run(
            folder,
            "import threading, h5flow\n"
            "runs = [threading.Thread(target=h5flow.run, args=(f'{n}.yaml', f'{n}.h5')) for n in 'ab']\n"
            "[run.start() for run in runs]\n"
            "[run.join() for run in runs]\n",
        )
        for name in "ab":
            lines = parsed(folder / f"{name}.jsonl")
            assert len({line["run_id"] for line in lines}) == 1
            slices = [line for line in lines if line["event"] == "slice.done"]
            assert sum(line["rows"] for line in slices) == ROWS
            assert {stage for line in slices for stage in line["stages"]} == {f"first_{name}", "second"}


class TestManyFiles:
    def test_have_a_log_each(self, told, folder):
        assert told(log=False, arguments=("workflow.yaml", "-o", "in0.h5")).code == 0
        (folder / "in1.h5").write_bytes((folder / "in0.h5").read_bytes())
        (folder / "farm.yaml").write_text(
            "flow: {source: raw, stages: [third]}\nthird: {classname: Work, path: parts, params: {says: [log, warn]}}\n"
        )
        ended = told(arguments=("farm.yaml", "-i", "in*.h5", "-o", "{stem}-out.h5"))
        assert ended.code == 0, ended
        assert len(ended.ranks) == 2
        assert len({lines[0]["run_id"] for lines in ended.ranks}) == 2
        for lines in ended.ranks:
            assert sum(line["rows"] for line in lines if line["event"] == "slice.done") == ROWS
            assert lines[-1]["event"] == "run.done"
        for name in ("in0", "in1"):
            text = (folder / f"{name}-out.h5.log").read_text()
            assert "WARNING user.module: careful at 0 stage=third" in text
            assert " at 0" in text
            assert "INFO" not in text
            assert f"{name}-out.h5: 1 slices, {ROWS} rows" in text


class TestRanks:
    @pytest.mark.parametrize("mode", ["pipelined", "sequential"])
    def test_tell_in_files_of_their_own_under_one_id(self, ranks, folder, mode):
        ended = ranks(
            3,
            *("-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--log-dir", "logs"),
            *("--set", f"runtime.mode={mode}", "--set", "second.params.says=[log, warn]"),
        )
        assert ended.code == 0, ended
        (run,) = (folder / "logs").iterdir()
        files = sorted(run.iterdir())
        assert [path.name for path in files] == [f"rank-000{rank}.jsonl" for rank in range(3)]
        rows = 0
        for rank, path in enumerate(files):
            lines = parsed(path)
            assert {(line["rank"], line["size"], line["run_id"]) for line in lines} == {(rank, 3, run.name)}
            slices = [line for line in lines if line["event"] == "slice.done"]
            assert [line["slice_index"] for line in slices] == list(range(12))
            rows += sum(line["rows"] for line in slices)
            own = [line for line in lines if line["event"] == "log" and line["message"].startswith("at ")]
            assert [(line["start"], line["stop"]) for line in own] == [(s["start"], s["stop"]) for s in slices]
            assert lines[-1]["event"] == "run.done"
        assert rows == 3 * ROWS == len(made(folder)["raw"])
        done = json.loads(files[0].read_text().splitlines()[-1])
        assert (done["slices"], done["rows"]) == (36, 3 * ROWS)
        # Warnings of all ranks are on standard error.
        warnings = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
        assert {line["rank"] for line in warnings} == {0, 1, 2}
        assert {line["level"] for line in warnings} == {"warning"}

    def test_that_fail_say_where(self, ranks, folder):
        text = (folder / "parts.py").read_text()
        (folder / "parts.py").write_text(text.replace("self.fails == source_slice.start", "self.rank == self.fails"))
        ended = ranks(
            2,
            *("-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--log-dir", "logs"),
            *("--set", "second.params.fails=1"),
        )
        assert ended.code == 1
        (run,) = (folder / "logs").iterdir()
        failed = parsed(run / "rank-0001.jsonl")[-1]
        assert failed["event"] == "run.failed"
        assert (failed["rank"], failed["component"], failed["slice_index"]) == (1, "stage 'second'", 0)
        assert parsed(run / "rank-0000.jsonl")[0]["event"] == "run.start"

    def test_that_wait_for_others_say_for_whom(self, ranks, folder):
        text = (folder / "parts.py").read_text()
        uneven = text.replace("sleep(self.sleep)\n        if", "sleep(self.sleep * self.rank)\n        if")
        assert uneven != text
        (folder / "parts.py").write_text(uneven)
        ended = ranks(
            2,
            *("-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--log-dir", "logs"),
            *("--set", "first.params.sleep=2.5", "--set", "rows.params.slices=2"),
            *("--set", "runtime.stall_warning=0.5"),
        )
        assert ended.code == 0, ended
        (run,) = (folder / "logs").iterdir()
        stalled = [line for line in parsed(run / "rank-0000.jsonl") if line["event"] == "collective.stalled"]
        assert stalled
        for rank, waited in ((0, 2), (1, 0)):
            (done,) = [line for line in parsed(run / f"rank-000{rank}.jsonl") if line["event"] == "workflow.done"]
            # Rank 1 sleeps for 2.5 s on each of two slices.
            assert done["ranks_wait_s"]["first"] + done["ranks_wait_s"]["second"] >= waited
            assert done["ranks_wait_s"].keys() <= {"generator", "first", "second"}
            assert rank == 0 or sum(done["ranks_wait_s"].values()) < 2
        assert "rank 1 to finish stage 'first'" in stalled[0]["waiting_for"][0]


@pytest.mark.parametrize("logged", [True, False])
def test_telling_draws_no_random_numbers(told, folder, logged):
    """The generator draws; the stage that says something must not count as one that does, nor change what comes."""
    (folder / "parts.py").write_text(
        (folder / "parts.py").read_text()
        + """
import random
class Random(Source):
    def init(self):
        random.seed(1)
        super().init()
    def next(self):
        rows = super().next()
        if rows != self.EMPTY:
            self.data_manager.write_data(self.dset_name, rows, random.randrange(10**6))
        return rows
"""
    )
    ended = told("rows.classname=Random", "first.params.says=[warn]", log=logged)
    assert ended.code == 0, ended
    assert "slices.serialized" not in ended.err
    draws = Random(1)
    assert sorted(set(made(folder)["raw"].tolist())) == sorted({draws.randrange(10**6) for _ in range(12)})
