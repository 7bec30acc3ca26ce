"""The public types, for both checkers: what users write is right, and what is marked as wrong is wrong."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = Path(__file__).with_name("components.py")


def checked(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command, str(EXAMPLES)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(120)
def test_mypy():
    done = checked("mypy", "--strict", "--warn-unused-ignores")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_pyright():
    """It brings Node.js where there is none, or else takes the program from the registry of npm, once."""
    if importlib.util.find_spec("pyright") is None or checked("pyright", "--version").returncode != 0:
        pytest.skip("NO PYRIGHT: it isn't installed, or can't be downloaded")

    done = checked("pyright", "--pythonpath", sys.executable)

    assert done.returncode == 0, done.stdout + done.stderr
