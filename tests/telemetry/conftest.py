"""Runs whose logs are looked at."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from logs_of_runs import PARTS, WORKFLOW, Told, parsed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    return tmp_path


@pytest.fixture
def told(folder):
    """Runs the command and reads its logs."""

    def run(*settings, log=True, arguments=("workflow.yaml", "-o", "out.h5"), limit=50, env=None):
        command = [sys.executable, "-m", "h5flow", *arguments, *(("--log-dir", "logs") if log else ())]
        for setting in settings:
            command += ["--set", setting] if "=" in setting and not setting.startswith("-") else [setting]
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env={**os.environ, **(env or {})},
        )
        files = sorted((folder / "logs").glob("*/rank-*.jsonl"))
        return Told(done.returncode, done.stdout, done.stderr, [parsed(path) for path in files])

    return run


spec = importlib.util.spec_from_file_location("conftest_of_ranks", Path(__file__).parents[1] / "ranks" / "conftest.py")
_of_ranks = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = _of_ranks
spec.loader.exec_module(_of_ranks)
#: Scripts and commands on several ranks.
ranks = _of_ranks.ranks
