"""Inputs of every kind, on one rank and on two."""

from __future__ import annotations

import pytest

from support.mpiexec import TESTS

SCRIPT = TESTS / "support/kinds_on_ranks.py"


@pytest.mark.parametrize("count", [1, 2])
def test_every_rank_sees_what_is_in_the_file(ranks, count):
    ended = ranks(count, SCRIPT, limit=120)
    assert ended.code == 0, ended
    assert "all is as it is" in ended.out
