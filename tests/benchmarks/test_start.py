"""From the command to the first slice, against the imports that no such program can do without.

`pytest tests/benchmarks/test_start.py` prints a table. Each way runs in processes of its own, in turn with the others.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

IMPORTS = "import numpy, h5py, yaml"
ROUNDS = 20
# By the clock since the process was started, and of the processor.
TOLD = 'print(json.dumps([time.time() - float(os.environ["STARTED"]), time.process_time()]), flush=True)'
COMPONENTS = f"""
import json, os, time
from h5flow.core import H5FlowGenerator, H5FlowStage

class Rows(H5FlowGenerator):
    def init(self): self.data_manager.create_dset(self.dset_name, "i4")
    def next(self): return self.data_manager.reserve_data(self.dset_name, 8)

class First(H5FlowStage):
    def run(self, source_name, source_slice, cache):
        {TOLD}
        os._exit(0)
"""
WORKFLOW = """
flow: {source: rows, stages: [first]}
rows: {classname: Rows, path: components, dset_name: raw}
first: {classname: First, path: components}
runtime: {mode: MODE}
"""


def told(command: list[str], folder) -> list[float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"STARTED": str(time.time())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_from_command_to_first_slice(tmp_path, capsys):
    (tmp_path / "components.py").write_text(COMPONENTS)
    ways = {"imports": [sys.executable, "-c", f"{IMPORTS}, json, os, time; {TOLD}"]}
    for mode in ("sequential", "pipelined"):
        (tmp_path / f"{mode}.yaml").write_text(WORKFLOW.replace("MODE", mode))
        ways[mode] = [sys.executable, "-m", "h5flow", f"{mode}.yaml", "-o", "out.h5", "--overwrite", "-q"]
    for command in ways.values():
        told(command, tmp_path)  # from here on all is compiled
    taken = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, command in ways.items():
            taken[way].append(told(command, tmp_path))
    with capsys.disabled():
        for number, what in enumerate(("by the clock", "of the processor")):
            for name, of in (("least", min), ("median", statistics.median)):
                took = {way: 1e3 * of(one[number] for one in each) for way, each in taken.items()}
                more = (f"{way} {took[way]:.0f} ms ({took[way] - took['imports']:+.0f})" for way in ways)
                sys.stdout.write(f"\n{what:16} {name:6}  {'  '.join(more)}")
