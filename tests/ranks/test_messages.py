"""Messages arrive as they were sent."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from h5flow.ranks import messages
from h5flow.ranks.messages import decoded, encoded, pickled, pickled_resource, resource_of, unpickled
from h5flow.ranks.moments import LOOP, Moment
from h5flow.ranks.rounds import OutOfOrder, Progress

PLACE = (Moment(LOOP, 3, 1), 2)
CALL = pickled((3, {"a": [1.5, None]}))
SENT = [
    messages.Join(pickled_resource("/hits/data"), PLACE, CALL, True, Progress(LOOP, 0, [3, 2], 4, 3)),
    messages.Wait(pickled_resource("/hits/data"), PLACE),
    messages.Proceed(Progress(LOOP, 0, [3, 2], 4, 3)),
    messages.Collect(7, pickled_resource("/hits/data"), CALL),
    messages.Reported((1, 7)),
    messages.Delivered((1, 7), CALL),
    messages.Failed("ZeroDivisionError: …"),
    messages.Closed(pickled_resource("/hits/data"), PLACE, [None, CALL]),
    messages.Refused(pickled_resource("/hits/data"), PLACE, "too late"),
    messages.ProgressWanted(),
    messages.Report((1, 7)),
    messages.Deliver((1, 7), CALL),
    messages.Collected(7, [CALL, CALL]),
    messages.RankFailed("ZeroDivisionError: …"),
    messages.Do(("write", "/hits/data", 3, (1, 2))),
    messages.Ask(7, ("read", "/hits/data", 3, 5)),
    messages.Answer(7, ("any", [1, "value"])),
    messages.Farewell(),
]


def sent(message):
    return decoded(pickle.loads(pickle.dumps(encoded(message))))


@pytest.mark.parametrize("message", SENT, ids=lambda message: type(message).__name__)
def test_each_kind(message):
    assert sent(message) == message


def test_there_is_no_other_kind():
    kinds = messages.Message.__args__
    assert {type(message) for message in SENT} == set(kinds)


def test_a_moment_stays_one_and_can_be_compared():
    place = sent(SENT[0]).place
    assert (type(place[0]), place) == (Moment, PLACE)
    assert place[0] < Moment(LOOP, 3, 2)


def test_rows():
    rows = np.array([(1, 2.5), (2, float("nan"))], [("id", "i8"), ("energy", "f4")])
    (what, arrived) = sent(messages.Do(("write", rows))).request
    assert what == "write"
    assert (arrived.dtype, arrived.tobytes()) == (rows.dtype, rows.tobytes())
    assert arrived.flags.writeable


def test_errors():
    answer = sent(messages.Answer(3, error=OutOfOrder("too late")))
    assert (type(answer.error), str(answer.error)) == (OutOfOrder, "too late")


def test_values_that_are_pickled_stay_what_they_are():
    """A tuple is no list, and a resource may be any value that can be compared."""
    assert unpickled(pickled((1, (2, 3), [4]))) == (1, (2, 3), [4])
    for resource in ("/hits/data", ("reference", "raw", "hits"), frozenset("ab")):
        assert resource_of(pickled_resource(resource)) == resource
    assert resource_of(pickled_resource(1)) is not True
    assert resource_of(pickled_resource(True)) is True
