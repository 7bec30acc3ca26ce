"""Mailboxes between actors."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5flow.runtime.mailbox import Closed, Mailbox


@given(st.integers(1, 5), st.lists(st.integers(), max_size=30), st.lists(st.booleans(), min_size=60, max_size=60))
def test_everything_arrives_in_order_and_never_more_than_the_depth(depth, items, pauses):
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

    async def both():
        return (await asyncio.gather(produce(), consume()))[1]

    assert asyncio.run(both()) == items
    assert box.statistics.puts == box.statistics.gets == len(items)
    assert box.statistics.highest <= depth


def test_closing_drains():
    async def main():
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

    asyncio.run(main())


@pytest.mark.parametrize("end", [lambda box: box.close(), lambda box: box.fail(OSError("disk"))])
def test_both_sides_wake_up(end):
    async def main():
        full, empty = Mailbox("full", 1), Mailbox("empty", 1)
        await full.put(1)
        waiting = [asyncio.create_task(full.put(2)), asyncio.create_task(empty.get())]
        await asyncio.sleep(0)
        end(full)
        end(empty)
        return await asyncio.gather(*waiting, return_exceptions=True)

    kinds = {type(error) for error in asyncio.run(main())}
    assert kinds <= {Closed, OSError}
    assert len(kinds) == 1


def test_the_first_error_counts_and_comes_before_what_is_there():
    async def main():
        box = Mailbox("box", 2)
        await box.put(1)
        box.fail(OSError("first"))
        box.fail(OSError("second"))
        with pytest.raises(OSError, match="first"):
            await box.get()

    asyncio.run(main())


def test_a_cancelled_getter_passes_its_turn_on():
    async def main():
        box = Mailbox("box", 2)
        first, second = asyncio.create_task(box.get()), asyncio.create_task(box.get())
        await asyncio.sleep(0)
        await box.put("item")  # wakes the first ...
        first.cancel()  # ... which doesn't take it any more
        assert await asyncio.wait_for(second, 1) == "item"

    asyncio.run(main())


def test_deepening_lets_producers_go_on():
    async def main():
        box = Mailbox("box", 1)
        await box.put(1)
        waiting = [asyncio.create_task(box.put(2)), asyncio.create_task(box.put(3))]
        await asyncio.sleep(0)
        box.deepen(3)
        await asyncio.wait_for(asyncio.gather(*waiting), 1)
        assert len(box) == 3

    asyncio.run(main())


def test_waiting_is_counted():
    async def main():
        box = Mailbox("box", 1)
        getting = asyncio.create_task(box.get())
        await asyncio.sleep(0.01)
        await box.put(1)
        await getting
        assert box.statistics.get_wait >= 0.01
        assert box.statistics.put_wait == 0

    asyncio.run(main())


def test_a_depth_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="mailbox 'box': a depth of 0 would let nothing through"):
        Mailbox("box", 0)
