"""Imports point the way that CONTRIBUTING says, and in no circles; the directions are in pyproject.toml."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import h5flow

PROJECT = Path(__file__).parents[1] / "pyproject.toml"

# (module, a line that is added to it, the contract that it breaks)
BROKEN = {
    "from a lower package to a higher one": ("ranks/rounds.py", "import h5flow.data", "Imports point downwards"),
    "in a function": (
        "runtime/steps.py",
        "def later():\n    from h5flow.core import registry",
        "Imports point downwards",
    ),
    "for types alone": (
        "telemetry/pace.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from h5flow.workflow import WorkflowConfig",
        "Imports point downwards",
    ),
    "by way of the package's face": ("data/layout.py", "from h5flow import H5FlowManager", "Imports point downwards"),
    "between packages of one height": ("jobs/inputs.py", "import h5flow.report", "Imports point downwards"),
    "from reports to the file": ("report/work.py", "from h5flow.data import layout", "Reports are made of logs alone"),
    "from the file to workflows": (
        "data/lib.py",
        "from h5flow.workflow import Requirement",
        "The file and the ranks know nothing of workflows",
    ),
    "from a lower wing to a higher one": (
        "data/buffer/page_cache.py",
        "from h5flow.data.references import tables",
        "Imports among the wings of the data layer point downwards",
    ),
    "from a wing to the face of all": (
        "data/rows/selection.py",
        "from h5flow.data import H5FlowDataManager",
        "Imports among the wings of the data layer point downwards",
    ),
    "in a circle of modules": (
        "runtime/hazards.py",
        "from h5flow.runtime.tracing import Tracer",
        "No circles, whether among packages or modules",
    ),
    "to a package without a place": ("new/module.py", "", "Imports point downwards"),
}


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts, held against the package in a folder."""
    main = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", main, "--no-cache", "--no-logo", str(PROJECT)],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_all_imports_point_downwards():
    done = checked(Path(h5flow.__file__).parents[1])

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", BROKEN)
def test_an_import_in_the_wrong_direction_is_found(tmp_path: Path, case: str):
    place, line, contract = BROKEN[case]
    shutil.copytree(Path(h5flow.__file__).parent, tmp_path / "h5flow", ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "h5flow" / place
    if not module.parent.exists():
        module.parent.mkdir()
        (module.parent / "__init__.py").touch()
    with module.open("a") as file:
        file.write(f"\n{line}\n")

    done = checked(tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout, done.stdout


def test_contributing_says_the_same():
    """Each layer stands before the next one, with an arrow between them."""
    contracts = {c["id"]: c for c in tomllib.loads(PROJECT.read_text())["tool"]["importlinter"]["contracts"]}
    text = (PROJECT.parent / "CONTRIBUTING.md").read_text()
    [paragraph] = [part for part in text.split("\n\n") if part.startswith("Imports point one way")]
    said = paragraph.replace("\n", " ").replace("the data manager", "`h5flow_data_manager`")

    for contract in ("layers", "wings"):
        layers = [[name.strip() for name in layer.split("|")] for layer in contracts[contract]["layers"]]
        first = [layer[0] for layer in layers if layer[0] not in ("telemetry", "errors")]
        assert " → ".join(f"`{name}`" for name in first) in said
        assert all(f"`{name}`" in said for layer in layers for name in layer)
