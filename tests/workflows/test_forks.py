"""Processes that components fork: pools of workers, in stages whose neighbours are telling something meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import h5py
import pytest

PARTS = r'''
import logging, multiprocessing, os, signal, time
import numpy as np
from h5flow.core import H5FlowGenerator, H5FlowStage

log = logging.getLogger("user")

class Source(H5FlowGenerator):
    def __init__(self, slices=8, **params):
        super().__init__(**params)
        self.slices = slices

    def init(self):
        self.data_manager.create_dset(self.dset_name, "i8")

    def next(self):
        if not self.slices:
            return self.EMPTY
        self.slices -= 1
        rows = self.data_manager.reserve_data(self.dset_name, 10)
        self.data_manager.write_data(self.dset_name, rows, np.arange(rows.start, rows.stop))
        return rows

class Chatty(H5FlowStage):
    """Has locks of all kinds held for most of the time."""

    def run(self, source_name, source_slice, cache):
        for number in range(200):
            log.warning("chat %d", number)
            print(end=f"chat {number}\n", flush=True)

def square(value):
    log.warning("square of %d", value)
    print(end=f"square of {value}\n", flush=True)
    return value * value

class Pooled(H5FlowStage):
    def init(self, source_name):
        self.data_manager.create_dset(self.name, "i8")

    def run(self, source_name, source_slice, cache):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            squares = pool.map(square, cache[source_name].tolist())
        rows = self.data_manager.reserve_data(self.name, len(squares))
        self.data_manager.write_data(self.name, rows, squares)

class Forked(H5FlowStage):
    """Ends a child by a signal."""

    def run(self, source_name, source_slice, cache):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, b".")
                for _ in range(500):  # a handler in Python runs between two calls, and may have missed the first one
                    time.sleep(0.1)
            finally:
                os._exit(0)
        os.read(reading, 1)
        os.kill(child, signal.SIGTERM)
        log.info("a child ended with %d", os.waitpid(child, 0)[1])
'''
WORKFLOW = """
flow: {source: source, stages: [before, stage, after]}
source: {classname: Source, path: parts, dset_name: raw}
before: {classname: Chatty, path: parts}
stage: {classname: %s, path: parts}
after: {classname: Chatty, path: parts}
"""


@contextlib.contextmanager
def started(folder, stage, *arguments, parts=PARTS, **streams):
    """The command in a group of its own, which is gone afterwards."""
    (folder / "parts.py").write_text(parts)
    (folder / "workflow.yaml").write_text(WORKFLOW % stage)
    process = subprocess.Popen(
        [sys.executable, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **streams,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def command(tmp_path):
    """Runs the command to its end."""

    def run(stage, *arguments, limit=50):
        with started(tmp_path, stage, *arguments, stdout=subprocess.PIPE) as process:
            out, err = process.communicate(timeout=limit)
        return process.returncode, out, err

    return run


@pytest.mark.parametrize("log", [(), ("--log-dir", "logs")], ids=["no log", "log"])
def test_pools_of_processes_do_not_hang_and_tell_each_line_once(command, log, tmp_path):
    """A fork has the locks as they are, and they may be held by threads that it doesn't have."""
    code, out, err = command("Pooled", *log)
    assert code == 0, err
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["stage/data"][:].tolist() == [number**2 for number in range(80)]
    assert sorted(line for line in out.splitlines() if line.startswith("square")) == sorted(
        f"square of {number}" for number in range(80)
    )
    assert err.count("square of") == 80
    if log:
        (path,) = tmp_path.glob("logs/*/rank-0000.jsonl")
        told = [json.loads(line) for line in path.read_text().splitlines()]
        squares = [line for line in told if line.get("message", "").startswith("square of")]
        assert len(squares) == 160, "logged and printed"
        parent = told[0]["pid"]
        assert all(line["pid"] != parent for line in squares)
        assert all(line["pid"] == parent for line in told if line not in squares)
        assert sum(line.get("message", "").startswith("chat") for line in told) == 2 * 2 * 8 * 200


def test_signals_to_forks_end_them_and_not_the_run(command, tmp_path):
    """A handler in Python may never get to run in a child that waits for something, as workers of pools do."""
    code, _, err = command("Forked", "--log-dir", "logs")
    assert code == 0, err
    (path,) = tmp_path.glob("logs/*/rank-0000.jsonl")
    ends = [
        line["message"]
        for line in map(json.loads, path.read_text().splitlines())
        if "a child" in line.get("message", "")
    ]
    assert ends == [f"a child ended with {int(signal.SIGTERM)}"] * 8


def test_a_program_has_its_own_handlers_back_in_forks(tmp_path):
    """What an application does with signals goes for its forks, too, and for itself when the run is over."""
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "workflow.yaml").write_text(WORKFLOW % "Forked")
    script = """
import os, signal, h5flow
def own(number, frame):
    os._exit(7)
signal.signal(signal.SIGTERM, own)
h5flow.run(["workflow.yaml"], "out.h5", verbose=1)
assert signal.getsignal(signal.SIGTERM) is own
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING:user:chat") == 2 * 8 * 200


def test_signals_still_stop_a_run_that_has_forks(tmp_path):
    """Workers end with the pool; the run ends after the slices in flight."""
    endless = PARTS.replace("slices=8", "slices=10_000")
    with started(tmp_path, "Pooled", parts=endless, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        while "square" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        _, err = process.communicate(timeout=50)
    assert process.returncode == 143
    assert "stopped by SIGTERM after" in err
