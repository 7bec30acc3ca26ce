"""Collective calls of ranks that are made up, and in which rounds they belong together."""

from __future__ import annotations

import collections
import itertools

from hypothesis import strategies as st

from h5flow.ranks.moments import LOOP

SLICES, COMPONENTS = 3, 2

#: For each rank, slice and component: how many rows of which dataset it reserves in each of its calls, and whether it
#: waits for the answer at once, or just before a call later, or not at all.
CALLS = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 3), st.sampled_from([0, 1, None])), max_size=3)


def actions(calls):
    """What a component does in order: `("join", resource, count, rows, waits)` and `("wait", resource, count)`."""
    counts, late = collections.Counter(), []
    for resource, rows, when in calls:
        key = (resource, counts[resource])
        counts[resource] += 1
        yield ("join", *key, rows, when == 0)
        for earlier in late:
            yield ("wait", *earlier)
        late = [key] if when == 1 else []
    for earlier in late:
        yield ("wait", *earlier)


def workloads(least, most):
    """The calls of a number of ranks: for each, slice by slice, those of each component."""
    return st.integers(least, most).flatmap(
        lambda ranks: st.lists(
            st.lists(st.lists(CALLS, min_size=COMPONENTS, max_size=COMPONENTS), min_size=SLICES, max_size=SLICES),
            min_size=ranks,
            max_size=ranks,
        )
    )


def expected(workload):
    """Moment by moment: a call is answered when all have made it or are done, else the lowest that waits is alone."""
    rounds = {"A": [], "B": []}
    for number, position in itertools.product(range(SLICES), range(COMPONENTS)):
        left = [collections.deque(actions(slices[number][position])) for slices in workload]
        awaited, calls, last = [None] * len(left), {}, {}

        def answer(key, ranks, moment=(LOOP, number, position), awaited=awaited, calls=calls):
            answers = [calls[key].pop(rank) if rank in ranks else None for rank in range(len(workload))]
            rounds[key[0]].append(((moment, key[1]), tuple(answers)))
            for rank in ranks:
                awaited[rank] = None if awaited[rank] == key else awaited[rank]
            if not calls[key]:
                del calls[key]

        while any(left) or calls:
            for rank, todo in enumerate(left):
                while todo and awaited[rank] is None:
                    (
                        what,
                        *key,
                    ) = todo.popleft()
                    key, more = tuple(key[:2]), key[2:]
                    if what == "join":
                        calls.setdefault(key, {})[rank] = more[0]
                        last[rank, key[0]] = key[1]
                    if more[1:] == [True] or (what == "wait" and rank in calls.get(key, {})):
                        awaited[rank] = key
            made_or_done = [
                key
                for key, made in sorted(calls.items())
                if all(
                    rank in made or not (left[rank] or awaited[rank]) or last.get((rank, key[0]), -1) > key[1]
                    for rank in range(len(left))
                )
                and key == min(other for other in calls if other[0] == key[0])
            ]
            if made_or_done:
                answer(made_or_done[0], list(calls[made_or_done[0]]))
            elif any(awaited):
                lowest = next(rank for rank, key in enumerate(awaited) if key)
                answer(awaited[lowest], [lowest])
    return rounds
