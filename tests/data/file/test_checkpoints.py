"""When checkpoints are due."""

from __future__ import annotations

import pytest

from h5flow.data.file.checkpoints import PATIENCE, PERIOD, Checkpoints


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("took", [0.0, 0.01, 1.0, 60.0])
def test_they_take_a_small_share_of_the_time(took):
    """However long one takes, as on a slow disk, the next one leaves the run many times as much."""
    clock = Clock()
    checkpoints = Checkpoints(clock)
    assert checkpoints.due, "the file can be opened from the beginning"
    with checkpoints.made():
        clock.now += took
    pause = max(PERIOD, PATIENCE * took)
    clock.now += pause - 0.001
    assert not checkpoints.due
    clock.now += 0.002
    assert checkpoints.due


def test_one_that_fails_is_not_tried_again_at_once():
    """Else a disk that is full would be asked after each slice."""
    clock = Clock()
    checkpoints = Checkpoints(clock)
    with pytest.raises(OSError, match="full"), checkpoints.made():
        raise OSError("full")
    assert not checkpoints.due
