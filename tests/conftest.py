"""Folders, runs in both modes, runs on several ranks; and what couldn't be tested here."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from h5flow.runtime import batches, overlapping
from support import browser, mpiexec
from support.folders import Folder, everything_in
from support.logs_of_runs import PARTS, WORKFLOW, Told, parsed
from support.loops import LOOPS, Blocked, debugged
from support.modes import Modes


def pytest_asyncio_loop_factories(config, item):
    """Each test of coroutines runs on each loop that there is here."""
    return LOOPS


@pytest.fixture
def no_blocked_loop():
    """Fails a test whose event loop has been blocked."""
    with Blocked() as blocked:
        yield
    assert blocked.callbacks == []


def pytest_collection_modifyitems(items):
    """Tests of coroutines have the guard without asking for it."""
    for item in items:
        if item.get_closest_marker("asyncio") and "no_blocked_loop" not in item.fixturenames:
            item.fixturenames.insert(0, "no_blocked_loop")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A user's folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


@pytest.fixture
def everything(folder: Folder) -> Callable[[str], dict[str, object]]:
    """Reads all datasets and attributes of a file of the folder."""
    return lambda name: everything_in(folder.path / name)


@pytest.fixture
def modes(cheap_modes, monkeypatch):
    """Both modes; slices overlap in the pipelined one, however little they cost."""
    monkeypatch.setattr(batches.Batches, "note", lambda *_, **__: False)
    return cheap_modes


@pytest.fixture
def cheap_modes(request, tmp_path, monkeypatch):
    """Both modes, as they are, on loops in debug mode; fails a test whose runs keep blocking theirs.

    What is done on the loop instead of a thread blocks it for every slice. To start a run's threads on a busy machine
    may take that long as well, but happens once.
    """
    chosen = overlapping.loop_factory
    monkeypatch.setattr(overlapping, "loop_factory", lambda name: debugged(chosen(name) or asyncio.new_event_loop))
    with Blocked() as blocked:
        runs = Modes(tmp_path, monkeypatch)
        yield runs
    if request.node.get_closest_marker("blocks_loop") is None:
        assert len(blocked.callbacks) <= 2 * max(1, runs.runs), blocked.callbacks


@pytest.fixture
def ranks(tmp_path):
    """Runs `python ARGUMENTS` on a number of ranks, in `tmp_path`, and fails if that takes too long."""
    if mpiexec.library() is None or mpiexec.launcher() is None:
        pytest.skip(mpiexec.NO_MPI)
    return functools.partial(mpiexec.run_on_ranks, tmp_path)


@pytest.fixture
def flow(ranks, tmp_path):
    """Runs a workflow, whose components are in `support.components`, on a number of ranks."""

    def run(count: int, workflow: str, *arguments: object, limit: float = 60) -> mpiexec.Ended:
        (tmp_path / "workflow.yaml").write_text(workflow)
        return ranks(count, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", *arguments, limit=limit)

    return run


@pytest.fixture
def storages():
    """Each storage that several ranks can have here, for tests that compare them."""
    return mpiexec.STORAGES


@pytest.fixture(params=mpiexec.STORAGES)
def storage(request):
    """Each storage that several ranks can have here, one after the other."""
    return request.param


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A folder with a workflow and its components, which do what their parameters say."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    return tmp_path


@pytest.fixture
def told(parts):
    """Runs the command and reads its logs."""

    def run(*settings, log=True, arguments=("workflow.yaml", "-o", "out.h5"), limit=50, env=None):
        command = [sys.executable, "-m", "h5flow", *arguments, *(("--log-dir", "logs") if log else ())]
        for setting in settings:
            command += ["--set", setting] if "=" in setting and not setting.startswith("-") else [setting]
        done = subprocess.run(
            command,
            cwd=parts,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env={**os.environ, **(env or {})},
        )
        files = sorted((parts / "logs").glob("*/rank-*.jsonl"))
        return Told(done.returncode, done.stdout, done.stderr, [parsed(path) for path in files])

    return run


def pytest_terminal_summary(terminalreporter):
    """Say loudly what can't be tested here: among many dots nobody sees that something is missing."""
    tested = {
        report.nodeid for found in terminalreporter.stats.values() for report in found if hasattr(report, "nodeid")
    }
    missing = list(mpiexec.not_run()) if any("tests/ranks/" in node for node in tested) else []
    if browser.why_not() is not None and any("tests/report/" in node for node in tested):
        missing.append(f"pages in a browser. {browser.why_not()}")
    for what in missing:
        terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"NOT RUN: {what}")
