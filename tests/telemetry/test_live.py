"""What people see while a run goes on: the terminal's screen, as an emulator of one has it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

pytest.importorskip("rich")
pyte = pytest.importorskip("pyte")

ROWS, COLUMNS = 30, 100


class Screens:
    """What was on the screen, moment by moment, and all that was written to it."""

    def __init__(self, columns=COLUMNS):
        self.screen = pyte.Screen(columns, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self.all, self.written, self.code = [], b"", None

    def feed(self, data):
        self.written += data
        # A picture is drawn in one write, but may be read in several.
        self._stream.feed(data)
        self.all.append(self.lines())

    def lines(self):
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def line(self, *words):
        """The latest line that has these words."""
        found = [line for lines in self.all for line in lines if all(word in line for word in words)]
        assert found, "\n".join(map("\n".join, self.all[-3:]))
        return found[-1]

    def has(self, *words):
        return any(all(word in line for word in words) for lines in self.all for line in lines)


@pytest.fixture
def shown(folder):
    """Runs the command on a terminal."""

    def run(*settings, arguments=(), columns=COLUMNS, interrupt=None, launcher=(), env=None):
        command = [*launcher, sys.executable, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", *arguments]
        for setting in settings:
            command += ["--set", setting]
        terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env={**env, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )
        os.close(theirs)
        screens, end = Screens(columns), time.monotonic() + 50
        try:
            while time.monotonic() < end:
                if select.select([terminal], [], [], 0.05)[0]:
                    try:
                        data = os.read(terminal, 1 << 16)
                    except OSError:  # closed by all who had it
                        break
                    screens.feed(data)
                    if interrupt is not None and screens.has(*interrupt):
                        process.send_signal(signal.SIGINT)
                        interrupt = None
            screens.code = process.wait(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(terminal)
        return screens

    return run


SLOW = ("rows.params.slices=60", "first.params.sleep=0.01", "second.params.sleep=0.04")


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
def test_a_view_of_the_run(shown, mode):
    screens = shown(*SLOW, f"runtime.mode={mode}")
    assert screens.code == 0
    assert "slices/s" in screens.line("slices", "rows/s")
    assert "so far" in screens.line("workflow.yaml", "in flight")
    assert "busy" in screens.line("first")
    # Of the two, the second takes four times as long.
    assert screens.has("second", "◀ bottleneck")
    assert not screens.has("first", "◀ bottleneck")
    # When it is done, the view is gone, and the cursor is there.
    (last,) = screens.lines()
    assert last.startswith("out.h5: 60 slices")
    assert not screens.screen.cursor.hidden


def test_how_much_is_left_where_the_generator_says_how_much_there_is(shown, folder):
    assert shown("rows.params.slices=60").code == 0
    (folder / "out.h5").rename(folder / "in.h5")
    (folder / "workflow.yaml").write_text(
        """
flow: {source: again, stages: [slow]}
again: {classname: H5FlowDatasetLoopGenerator, dset_name: raw, params: {chunk_size: 100}}
slow: {classname: Work, path: parts, params: {sleep: 0.1}}
"""
    )
    screens = shown(arguments=("-i", "in.h5"))
    assert screens.code == 0
    assert "left" in screens.line("so far")
    assert " of 21 slices" in screens.line("slices/s")
    assert "%" in screens.line("slices/s")


def test_what_is_said_stays_above(shown):
    screens = shown(*SLOW, "first.params.says=[print, warn]", arguments=("-v",))
    assert screens.code == 0
    assert screens.has("◀ bottleneck")
    text = screens.written.decode()
    assert text.count("printed at 0\r\n") == 1
    assert len(re.findall(r"WARNING.*user.module.*: careful at 0\b", text)) == 1
    # The last lines are still there at the end, and above the summary.
    lines = screens.lines()
    assert sum("careful at" in line for line in lines) > 5
    assert "60 slices" in lines[-1]


def test_an_end_by_hand_leaves_the_terminal_as_it_was(shown):
    screens = shown(*SLOW, "rows.params.slices=10000", interrupt=("◀ bottleneck",))
    assert screens.code == 130
    assert not screens.screen.cursor.hidden
    assert not any("busy" in line for line in screens.lines())


def test_a_failure_is_the_last_line(shown):
    screens = shown(*SLOW, "second.params.fails=114")
    assert screens.code == 1
    assert "ValueError: a mistake" in " ".join(screens.lines()[-2:])
    assert not any("busy" in line for line in screens.lines())


@pytest.mark.parametrize("arguments", [("-q",), ("--set", "logging.format=json")])
def test_who_wants_none_gets_none(shown, arguments):
    screens = shown(*SLOW, arguments=arguments)
    assert screens.code == 0
    assert b"busy" not in screens.written


#: The command, with progress told more often than every 30 s.
OFTEN = """
import sys
from h5flow import cli
from h5flow.telemetry import ticker
ticker.PROGRESS = 0.5
sys.exit(cli.main())
"""


@pytest.fixture
def often(folder):
    def run(*settings, arguments=()):
        command = [sys.executable, "-c", OFTEN, "workflow.yaml", "-o", "out.h5", *arguments]
        for setting in settings:
            command += ["--set", setting]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=True)
        return done.stderr.splitlines()

    return run


def test_elsewhere_there_is_a_line_now_and_then(often):
    *lines, summary = often(*SLOW)
    lines = [json.loads(line) for line in lines]
    assert len(lines) >= 2
    assert {(line["event"], line["level"]) for line in lines} == {("progress", "info")}
    assert [line["slices"] for line in lines] == sorted(line["slices"] for line in lines)
    assert 0 < lines[0]["slices"] < lines[-1]["slices"] <= 60
    assert summary.startswith("out.h5: 60 slices")


def test_elsewhere_the_line_is_for_people_where_that_is_wanted(often):
    *lines, _ = often(*SLOW, "logging.format=console")
    assert len(lines) >= 2
    assert all(re.search(r"\d+ slices, [\d,]+ rows in \d+ s, \d+ in flight", line) for line in lines)


def test_elsewhere_none_who_wants_none(often):
    assert often(*SLOW, arguments=("-q",)) == []


@pytest.mark.parametrize(("columns", "lines"), [(200, 60), (80, 24), (72, 10), (71, 10), (40, 10)])
def test_as_much_of_it_as_there_is_room_for(columns, lines):
    """Who is waited for among them, though there are many actors before it, and lines aren't broken."""
    from rich.console import Console

    from h5flow.telemetry.live import drawn
    from h5flow.telemetry.pace import ActorPace, Pace

    names = ["generator", "prefetcher", *(f"stage with a long name {number}" for number in range(30)), "w", "committer"]
    actors = tuple(
        ActorPace(name=name, busy=0.9 if name == "w" else 0.01 * place, occupancy=3, depth=4, is_bottleneck=name == "w")
        for place, name in enumerate(names)
    )
    pace = Pace(60, 875, 6000, 12.0, 32.2, 3225.0, 25.0, 14, 3 << 20, actors)
    console = Console(width=columns, height=lines, force_terminal=False)
    with console.capture() as capture:
        console.print(drawn(pace, "a-workflow-with-a-long-name.yaml", *console.size))
    shown = [line.rstrip() for line in capture.get().splitlines()]
    assert len(shown) == min(lines - 1, 2 + len(names))
    (waited_for,) = [line for line in shown if "◀" in line]
    assert waited_for.split()[0] == "w"
    assert "90% busy" in waited_for
    assert "3/4" in waited_for
    missing = 2 + len(names) - len(shown)
    assert (f"  … and {missing + 1} that are less busy" == shown[-1]) is (missing > 0)
