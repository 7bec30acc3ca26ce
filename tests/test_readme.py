"""What README shows is run: its Python, its workflow, its commands; and what these print is what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from support.pages import needs_plotly

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()

#: All blocks of code, by their language.
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

#: Blocks that aren't run here, by what they begin with, and why.
NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install '.[examples]'": "the flights example has tests of its own",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]'": "this is what .ci/run begins with",
    " generator ──▶ prefetcher": "a picture",
    "/<name>/data": "a picture; files are compared with it everywhere",
    "workflow.yaml:22:12:": "what tests of workflow files look for",
    "h5flow-async WORKFLOW.yaml [MORE.yaml": "how commands look",
    "workflow.yaml  0:02 so far": "a picture",
    "$ curl -s localhost:9464/metrics": "what tests of metrics do, with a port that is free",
    "#!/bin/bash\n#SBATCH": "takes a cluster",
}

_used: list[str] = []


def block(begins: str) -> str:
    """The only block that begins like this."""
    [found] = [text for _, text in BLOCKS if text.startswith(begins)]
    _used.append(found)
    return found


MODULE = [block(begins) for begins in ("# pulses.py", "class Peaks(H5FlowStage)", "class Threshold(H5FlowResource)")]
WORKFLOW = block("# workflow.yaml")
FIRST_RUN = block("$ h5flow-async workflow.yaml")
FOR_RANKS = block("        self.slices = len(")
LOGGING, METRICS = block("logging:"), block("metrics:")
WITH_LOG, LOG_LINE = block("h5flow-async workflow.yaml --log-dir logs"), block('{"timestamp"')
COMMANDS = block("h5flow-async plan  examples").splitlines()
TRACE = block("h5flow-async examples/detector/workflow.yaml --trace")
REPORT = block("pip install 'h5flow-async[report]'")
MANY = {"files": block("h5flow-async workflow.yaml -i 'raw/*.h5'"), "ranks": block("pip install '.[mpi]'\nmpiexec")}

needs_prometheus = pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None, reason="prometheus_client isn't installed"
)
SMALL = ["--set", "simulation.params.events=60"]


def called(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A line of README, as a shell would run it."""
    words = shlex.split(command, comments=True)
    assert words[0] == "h5flow-async", command
    arguments = [sys.executable, "-m", "h5flow", *words[1:], *more]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def pulses(tmp_path_factory):
    """The folder of the example, in which it has been run."""
    folder = tmp_path_factory.mktemp("pulses")
    (folder / "pulses.py").write_text("\n\n".join(MODULE))
    (folder / "workflow.yaml").write_text(WORKFLOW)
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A folder with the examples, in which that of the detector has been run, with a log."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "examples", folder / "examples")
    called("h5flow-async examples/detector/workflow.yaml --log-dir logs", folder, *SMALL)
    return folder


def test_the_example(pulses):
    command, says = FIRST_RUN.removeprefix("$ ").splitlines()

    done = called(command, pulses)

    assert re.sub(r"\d+\.\d s", "0.1 s", done.stderr.strip()) == says
    with h5py.File(pulses / "pulses.h5") as file:
        raw, peaks = file["raw/pulses/data"][:], file["peaks/data"]["height"]
        assert np.array_equal(peaks, raw[raw > 3])
        assert file["peaks"].attrs["count"] == len(peaks)


def test_a_loop_over_the_rows_of_the_example(pulses):
    workflow = yaml.safe_load(WORKFLOW)
    workflow["flow"]["source"] = "raw/pulses"
    workflow["peaks"]["path"] = workflow["count"]["path"] = "pulses"
    (pulses / "loop.yaml").write_text(yaml.safe_dump(workflow))
    called("h5flow-async workflow.yaml -o raw.h5 --set flow.stages=[]", pulses)

    called("h5flow-async loop.yaml -i raw.h5 -o reco.h5", pulses)

    with h5py.File(pulses / "reco.h5") as file:
        assert len(file["peaks/data"]) == (file["raw/pulses/data"][:] > 3).sum()


@pytest.mark.parametrize("count", [1, 2])
def test_the_example_on_several_ranks(pulses, ranks, tmp_path, count):
    text = (pulses / "pulses.py").read_text()
    shares, adds = FOR_RANKS.split("\n\n")
    old = '        self.slices = params.get("slices", 10)\n'
    finish = text[text.index("    def finish(self, source_name):") : text.index("class Threshold")]
    assert text.count(old) == 1
    (tmp_path / "pulses.py").write_text(text.replace(old, f"{shares}\n").replace(finish, f"{adds}\n\n"))
    shutil.copy(pulses / "workflow.yaml", tmp_path)

    ended = ranks(count, "-m", "h5flow", "workflow.yaml", "--set", "runtime.strict=true")

    assert ended.code == 0, ended
    assert "10 slices, 1,000 rows" in ended.err
    with h5py.File(tmp_path / "pulses.h5") as file:
        assert file["peaks"].attrs["count"] == len(file["peaks/data"]) == (file["raw/pulses/data"][:] > 3).sum()


@needs_prometheus
def test_sections_on_logs_and_metrics(pulses):
    sections = yaml.safe_load(LOGGING) | yaml.safe_load(METRICS)
    sections["metrics"]["port"] = 0
    workflow = {**yaml.safe_load(WORKFLOW), **sections}
    workflow["run"] = {"output": "told.h5"}
    (pulses / "told.yaml").write_text(yaml.safe_dump(workflow))

    called("h5flow-async told.yaml", pulses)

    assert (pulses / "metrics/h5flow-0.prom").read_text().count('actor="peaks"')
    assert len(list(pulses.glob("logs/*/rank-0000.jsonl"))) == 1


def test_a_line_of_a_log(pulses, tmp_path):
    shown = json.loads(LOG_LINE.replace("\n", ""))
    shutil.copytree(pulses, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "logs", ignore_errors=True)

    called(WITH_LOG.strip(), tmp_path, "--overwrite", "-v")

    [log] = tmp_path.glob("logs/*/rank-0000.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    [line] = [line for line in lines if line["event"] == "slice.done" and line["slice_index"] == shown["slice_index"]]
    assert list(line) == list(shown)
    assert {key: type(value) for key, value in line["stages"]["peaks"].items()} == {
        key: type(value) for key, value in shown["stages"]["peaks"].items()
    }
    for key in ("level", "schema_version", "rank", "size", "workflow", "slice_index", "start", "stop", "rows"):
        assert line[key] == shown[key]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=line.split()[1], marks=[needs_plotly] if line.split()[1] == "report" else [])
        for line in COMMANDS
    ],
)
def test_commands(detector, line):
    [log] = (detector / "logs").iterdir()
    line = re.sub(r"logs/[\w-]+", f"logs/{log.name}", line)

    done = called(line, detector)

    assert (done.stdout or done.stderr).strip()


def test_a_trace(detector):
    called(TRACE.strip(), detector, *SMALL)

    assert json.loads((detector / "trace.json").read_text())["traceEvents"]


@needs_plotly
def test_a_report(detector):
    installs, line = REPORT.strip().splitlines()
    assert installs.startswith("pip install ")
    [log] = (detector / "logs").iterdir()

    called(re.sub(r"logs/[\w-]+", f"logs/{log.name}", line), detector)

    assert "hit_finder" in (detector / "report.html").read_text()


@pytest.mark.parametrize("what", MANY)
def test_commands_for_many(pulses, ranks, tmp_path, what):
    """Each line, on two ranks instead of more."""
    shutil.copytree(pulses, tmp_path, dirs_exist_ok=True)
    called("h5flow-async workflow.yaml -o raw.h5 --overwrite --set flow.stages=[]", tmp_path)
    (tmp_path / "raw").mkdir()
    for name in ("one", "two"):
        shutil.copy(tmp_path / "raw.h5", tmp_path / f"raw/{name}.h5")
    workflow = yaml.safe_load((tmp_path / "workflow.yaml").read_text())
    workflow["flow"]["source"] = "raw/pulses"
    workflow["peaks"]["path"] = workflow["count"]["path"] = "pulses"
    (tmp_path / "workflow.yaml").write_text(yaml.safe_dump(workflow))
    outputs = ["reco/one.h5", "reco/two.h5"] if what == "files" else ["reco.h5"]
    for line in MANY[what].strip().splitlines():
        if line.startswith("pip "):
            continue
        words = shlex.split(line)
        if words[0] == "mpiexec":
            ended = ranks(2, "-m", "h5flow", *words[4:])
            assert ended.code == 0, ended
        else:
            called(line, tmp_path)
        for output in outputs:
            with h5py.File(tmp_path / output) as file:
                assert len(file["peaks/data"]) == (file["raw/pulses/data"][:] > 3).sum()
            (tmp_path / output).unlink()


def test_every_block_is_run_here_or_known_not_to_be():
    assert [text for _, text in BLOCKS if text not in _used and not text.startswith(tuple(NOT_RUN))] == []
