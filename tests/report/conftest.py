"""Reports of runs, and of logs that are written by hand."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

_spec = importlib.util.spec_from_file_location(
    "conftest_of_telemetry", Path(__file__).parents[1] / "telemetry/conftest.py"
)
_of_telemetry = sys.modules.setdefault(_spec.name, importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(_of_telemetry)
#: Runs of a small workflow, and scripts on several ranks.
folder, told, ranks = _of_telemetry.folder, _of_telemetry.told, _of_telemetry.ranks


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


def pytest_terminal_summary(terminalreporter):
    """Say loudly what can't be tested here: among many dots nobody sees that something is missing."""
    from browser import why_not

    if why_not() is not None:
        terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"NOT RUN: pages in a browser. {why_not()}")
