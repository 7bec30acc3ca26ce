"""What commands print."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", [("inspect", "out.h5"), ("plan", "workflow.yaml", "-i", "in.h5")])
def test_whoever_reads_it_may_stop(reco, command):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "h5flow", *command], stdout=writing, stderr=subprocess.PIPE, timeout=50, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
