"""Packages that are imported in the middle of a run."""

from __future__ import annotations

import random
import sys

import pytest

from h5flow.lazy import imported
from h5flow.runtime.randomness import DrawWatch
from h5flow.runtime.randomness.per_stage import RandomnessPerStage


@pytest.fixture
def drawing(tmp_path, monkeypatch):
    """A package that draws when it is imported, by a name that it keeps."""
    (tmp_path / "draws_on_import.py").write_text(
        "from random import randint, random\nfound = randint(0, 99), random()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "draws_on_import"
    sys.modules.pop("draws_on_import", None)


def test_random_numbers_stay_those_of_the_program(drawing):
    random.seed(3)
    assert len(imported(drawing).found) == 2
    assert random.random() == random.Random(3).random()


def test_nobody_has_drawn_while_a_loop_goes_on(drawing):
    """Catches runs that go on one slice at a time, or end, since somebody draws of whom nobody knows."""
    strayed = []
    watch = DrawWatch(lambda: None, lambda component: None, lambda: strayed.append(True))
    random.seed(4)
    with watch.loop():
        imported(drawing)
        watch.look("stage 's'")
    assert strayed == [] == watch.drawing
    assert random.random() == random.Random(4).random()


def test_draws_of_a_stage_go_on(drawing):
    draws = []
    for importing in (False, True):
        randomness = RandomnessPerStage("workflow")
        with randomness.loop(), randomness.of("stage 's'", 0):
            first = random.random()
            if importing:
                imported(drawing)
            draws.append((first, random.random()))
    assert draws[0] == draws[1]


def test_what_is_not_there_is_an_error(drawing):
    random.seed(5)
    with pytest.raises(ModuleNotFoundError):
        imported("draws_on_import_not")
    assert random.random() == random.Random(5).random()
