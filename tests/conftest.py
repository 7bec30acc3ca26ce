"""Folders, runs in both modes, runs on several ranks; and what couldn't be tested here."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import browser, mpiexec
from support.folders import Folder, everything_in
from support.logs_of_runs import PARTS, WORKFLOW, Told, parsed
from support.modes import Modes

from h5flow.runtime import batches


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
def modes(tmp_path, monkeypatch):
    """Both modes; slices overlap in the pipelined one, however little they cost."""
    monkeypatch.setattr(batches.Batches, "note", lambda *_, **__: False)
    return Modes(tmp_path, monkeypatch)


@pytest.fixture
def cheap_modes(tmp_path, monkeypatch):
    """Both modes, as they are."""
    return Modes(tmp_path, monkeypatch)


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
