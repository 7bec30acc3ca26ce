"""On any number of ranks, pipelined runs give the file that sequential runs give, for workflows made up at random."""

from __future__ import annotations

import os

import pytest

from support.mpiexec import TESTS

SOAK = bool(os.environ.get("H5FLOW_SOAK"))
EXAMPLES = 1000 if SOAK else 10


@pytest.mark.timeout(0 if SOAK else 200)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_pipelined_is_sequential(ranks, count):
    script = TESTS / "support/equivalence.py"
    first = int.from_bytes(os.urandom(3)) if SOAK else 0
    ended = ranks(count, script, first, EXAMPLES, limit=4 * 3600 if SOAK else 180)
    assert ended.code == 0, ended
    assert f"{EXAMPLES} workflows are the same" in ended.out
