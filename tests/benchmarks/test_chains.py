"""Users' chains: time, processor time and memory in both modes, against a loop by hand.

`pytest tests/benchmarks/test_chains.py tests/benchmarks/test_memory.py` prints a table. Each way runs in a process of
its own, in turn with the others; of several runs the quickest counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.chains import CHAINS

WAYS = ("by-hand", "sequential", "pipelined")
ROUNDS = 5


def measured(chain: str, folder: Path, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Seconds, processor seconds and peak MiB of each way; all of them give the same."""
    script = Path(__file__).with_name("chains.py")

    def run(way: str) -> dict[str, float]:
        command = [sys.executable, str(script), chain, way, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}

    run("make")
    runs = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            runs[way].append(run(way))
    assert len({one["result"] for each in runs.values() for one in each}) == 1
    return {
        way: {key: min(one[key] for one in each) for key in ("seconds", "processor", "peak")}
        for way, each in runs.items()
    }


def told(chain: str, figures: dict[str, dict[str, float]], key: str) -> str:
    hand, sequential, pipelined = (figures[way][key] for way in WAYS)
    ratios = f"pipelined {pipelined / sequential:.3f} x sequential, {pipelined / hand:.2f} x by hand"
    return f"{chain:15} {key:9} by hand {hand:8.3f}  sequential {sequential:8.3f}  pipelined {pipelined:8.3f}  {ratios}"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chain", CHAINS)
def test_chains_of_users(chain, tmp_path, capsys):
    figures = measured(chain, tmp_path)
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(told(chain, figures, key) for key in ("seconds", "processor")) + "\n")
