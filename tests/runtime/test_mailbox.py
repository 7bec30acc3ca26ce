"""Mailboxes between actors."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.runtime.mailbox import Closed, Mailbox


@given(st.integers(1, 5), st.lists(st.integers(), max_size=30), st.lists(st.booleans(), min_size=60, max_size=60))
async def test_everything_arrives_in_order_and_never_more_than_the_depth(depth, items, pauses):
    box, pauses = Mailbox("box", depth), iter(pauses)

    async def produce():
        for item in items:
            await box.put(item)
            assert len(box) <= depth
            if next(pauses, False):
                await asyncio.sleep(0)
        box.close()

    async def consume():
        found = []
        while True:
            try:
                found.append(await box.get())
            except Closed:
                return found
            if next(pauses, False):
                await asyncio.sleep(0)

    assert (await asyncio.gather(produce(), consume()))[1] == items
    assert box.statistics.puts == box.statistics.gets == len(items)
    assert box.statistics.highest <= depth


async def test_closing_drains():
    box = Mailbox("box", 3)
    await box.put(1)
    await box.put(2)
    box.close()
    with pytest.raises(Closed):
        await box.put(3)
    assert [await box.get(), await box.get()] == [1, 2]
    with pytest.raises(Closed):
        await box.get()
    assert box.get_nowait() is None


@pytest.mark.parametrize("end", [lambda box: box.close(), lambda box: box.fail(OSError("disk"))])
async def test_both_sides_wake_up(end):
    full, empty = Mailbox("full", 1), Mailbox("empty", 1)
    await full.put(1)
    waiting = [asyncio.create_task(full.put(2)), asyncio.create_task(empty.get())]
    await asyncio.sleep(0)
    end(full)
    end(empty)
    kinds = {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)}
    assert kinds <= {Closed, OSError}
    assert len(kinds) == 1


async def test_the_first_error_counts_and_comes_before_what_is_there():
    box = Mailbox("box", 2)
    await box.put(1)
    box.fail(OSError("first"))
    box.fail(OSError("second"))
    with pytest.raises(OSError, match="first"):
        await box.get()


async def test_a_cancelled_getter_passes_its_turn_on():
    box = Mailbox("box", 2)
    first, second = asyncio.create_task(box.get()), asyncio.create_task(box.get())
    await asyncio.sleep(0)
    await box.put("item")  # wakes the first ...
    first.cancel()  # ... which doesn't take it any more
    assert await asyncio.wait_for(second, 1) == "item"


async def test_deepening_lets_producers_go_on():
    box = Mailbox("box", 1)
    await box.put(1)
    waiting = [asyncio.create_task(box.put(2)), asyncio.create_task(box.put(3))]
    await asyncio.sleep(0)
    box.deepen(3)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert len(box) == 3


async def test_waiting_is_counted():
    box = Mailbox("box", 1)
    getting = asyncio.create_task(box.get())
    await asyncio.sleep(0.02)  # an event loop may be up to a millisecond early
    await box.put(1)
    await getting
    assert box.statistics.get_wait >= 0.01
    assert box.statistics.put_wait == 0


def test_a_depth_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="mailbox 'box': a depth of 0 would let nothing through"):
        Mailbox("box", 0)
