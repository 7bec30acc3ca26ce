"""Peak memory of chains whose requirements bring 64 kB to 2 MB a row, and whose stages each write as much again."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.test_chains import measured, told


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chain", ["waves-64kB", "waves-196kB", "waves-2MB"])
def test_peak_memory(chain, tmp_path, capsys):
    figures = measured(chain, tmp_path, rounds=1)
    with capsys.disabled():
        sys.stdout.write("\n" + told(chain, figures, "peak") + "\n")
