"""Starting scripts and workflows on several ranks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def launcher() -> str | None:
    """The mpiexec that belongs to this environment, or the one on the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


@dataclass
class Ended:
    """What became of a job."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


@pytest.fixture
def ranks(tmp_path):
    """Runs `python ARGUMENTS` on a number of ranks, in `tmp_path`, and fails if that takes too long."""
    if importlib.util.find_spec("mpi4py") is None or launcher() is None:
        pytest.skip(
            "NO MPI: mpi4py or mpiexec isn't installed; nothing is tested on several ranks (pip install '.[mpi]')"
        )

    def run(
        count: int,
        *arguments: object,
        limit: float = 60,
        terminate_when: Path | None = None,
        **environment: str,
    ) -> Ended:
        command = [launcher(), "-n", str(count), sys.executable, *map(str, arguments)]
        settings = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE)]),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none",
            "OMPI_MCA_mpi_yield_when_idle": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            **environment,
        }
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if terminate_when is not None:
            give_up = time.monotonic() + limit
            while not terminate_when.exists() and time.monotonic() < give_up:
                time.sleep(0.1)
            time.sleep(0.5)
            process.terminate()
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"hangs: {' '.join(command)}\n{out}\n{err}")
        return Ended(process.returncode, out, err)

    return run


@pytest.fixture
def flow(ranks, tmp_path):
    """Runs a workflow, whose components are in `components.py` here, on a number of ranks."""

    def run(count: int, workflow: str, *arguments: object, limit: float = 60) -> Ended:
        (tmp_path / "workflow.yaml").write_text(workflow)
        return ranks(count, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", *arguments, limit=limit)

    return run
