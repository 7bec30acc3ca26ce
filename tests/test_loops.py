"""The guard of the tests' own loops: it tells of what blocks them, and of nothing else."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.loops import LIMIT, Blocked


@pytest.fixture
def no_blocked_loop():
    """Here it is the test that looks."""
    with Blocked() as blocked:
        yield blocked


@pytest.mark.parametrize("how", ["sleeping", "computing"])
async def test_a_blocked_loop_is_found(no_blocked_loop, how):
    ends = time.thread_time() + 2 * LIMIT
    if how == "sleeping":
        time.sleep(2 * LIMIT)
    else:
        while time.thread_time() < ends:
            pass
    await asyncio.sleep(0)

    assert len(no_blocked_loop.callbacks) == 1
    assert "test_a_blocked_loop_is_found" in no_blocked_loop.callbacks[0]


async def test_a_loop_that_waits_is_not_blocked(no_blocked_loop):
    await asyncio.sleep(2 * LIMIT)
    await asyncio.to_thread(time.sleep, 2 * LIMIT)

    assert no_blocked_loop.callbacks == []
