"""Reports of runs, and of logs that are written by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def folder(parts):
    """The folder of the workflow that `told` runs."""
    return parts


@pytest.fixture
def report(tmp_path):
    """Runs the command."""

    def run(*arguments, before=""):
        script = f"import sys; {before}\nfrom h5flow.cli import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", script, "report", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run
