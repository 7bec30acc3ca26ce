"""Draws from the shared random generators, by other ways than the functions of `np.random` and `random`."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from random import gauss as python_gauss
from random import random as python_random

import h5py
import numpy as np
import pytest
from numpy.random import normal

from h5flow.core import H5FlowGenerator, H5FlowStage
from h5flow.errors import H5FlowError
from h5flow.runtime.hazards import Conflict
from h5flow.runtime.randomness import DrawWatch

SLICES = 30


class Gen(H5FlowGenerator):
    def init(self):
        np.random.seed(3)
        random.seed(3)
        self.number = 0
        self.data_manager.create_dset(self.dset_name, "i4")

    def next(self):
        self.number += 1
        return self.EMPTY if self.number > SLICES else self.data_manager.reserve_data(self.dset_name, 3)


class Draws(H5FlowStage):
    """Writes what it draws."""

    after = 0

    def init(self, source_name):
        self.number = 0
        self.data_manager.create_dset(self.name, "f8")

    def run(self, source_name, source_slice, cache):
        time.sleep(0.001)
        self.number += 1
        if self.number > self.after:
            for _ in range(3):
                rows = self.data_manager.reserve_data(self.name, 1)
                self.data_manager.write_data(self.name, rows, self.drawn())

    def drawn(self):
        raise NotImplementedError


class FromObject(Draws):
    """As scipy and sklearn do."""

    def drawn(self):
        return np.random.mtrand._rand.normal()


class ByName(Draws):
    def drawn(self):
        return normal()


class ByModule(Draws):
    def drawn(self):
        return np.random.normal()


class Mixed(Draws):
    """In `normal` each second draw is of what the first has left in store."""

    def drawn(self):
        return np.random.normal() + 10 * np.random.mtrand._rand.normal() + 100 * normal()


class ByModuleThrice(Draws):
    def drawn(self):
        return np.random.normal() + 10 * np.random.normal() + 100 * np.random.normal()


class Seeding(Draws):
    def drawn(self):
        shared = np.random.mtrand._rand
        shared.seed(self.number)
        assert shared.normal() == np.random.RandomState(self.number).normal()
        before = shared.get_state()
        first = shared.normal()
        shared.set_state(before)
        assert shared.normal() == first
        return first + np.random.normal()


class PythonByName(Draws):
    def drawn(self):
        return python_random()


class PythonByNames(Draws):
    def drawn(self):
        return python_gauss(0, 1) + 10 * random.gauss(0, 1)


class PythonKept(Draws):
    kept = staticmethod(random.random)

    def drawn(self):
        return self.kept()


class OnThread(Draws):
    def drawn(self):
        drawn = []
        thread = threading.Thread(target=lambda: drawn.append(self.draw_there()))
        thread.start()
        thread.join()
        return drawn[0] if drawn else 0

    def draw_there(self):
        try:
            return np.random.normal()
        except Conflict:
            return 0


ALL = [FromObject, ByName, ByModule, Mixed, Seeding, PythonByName, PythonByNames]


def flow(*kinds, after=0):
    """A workflow of two or more stages, and its classes."""
    classes = [type(f"{kind.__name__}{number}", (kind,), {"after": after}) for number, kind in enumerate(kinds)]
    names = [made.__name__.lower() for made in classes]
    config = {"flow": {"source": "gen", "stages": names}, "gen": {"classname": "Gen", "dset_name": "events"}}
    config |= {name: {"classname": made.__name__} for name, made in zip(names, classes, strict=True)}
    return config, [Gen, *classes]


@pytest.mark.parametrize("after", [0, 12])
def test_draws_of_its_own(modes, after):
    """All at once, on a thread each. Caught: refused; draws that depend on what others draw, or when."""
    config, classes = flow(*ALL, after=after)
    found, _ = modes.same(config, classes, random="per-stage")
    alone, _ = modes.same(*flow(*ALL[:1], after=after), random="per-stage")
    assert found["fromobject0/data"] == alone["fromobject0/data"]
    drawn = [found[f"{made.__name__.lower()}/data"] for made in classes[1:]]
    assert len({repr(values) for values in drawn}) == len(ALL)


def test_draws_of_its_own_are_one_stream(modes):
    """However they are made. Caught: a state for each way, the number in store of another."""
    for kinds in ((FromObject, ByName, ByModule), (Mixed, ByModuleThrice)):
        results = set()
        for kind in kinds:
            same_name = type("Same", (kind,), {})
            results.add(repr(modes.same(*flow(same_name, Mixed), random="per-stage")[0]["same0/data"]))
        assert len(results) == 1


@pytest.mark.parametrize("kind", ALL)
def test_two_that_draw_late(modes, kind):
    """Caught: another file than that of sequential mode, without a word."""
    config, classes = flow(kind, kind, after=20)
    with pytest.raises(Conflict, match=r"draw from the same random generator, .* runtime\.random: per-stage"):
        modes.run("pipelined", config, classes)


@pytest.mark.parametrize("kind", ALL)
def test_one_that_draws(modes, kind):
    """Caught: an error for draws in order."""
    for after in (0, 20):
        modes.same(*flow(kind, Gentle, after=after))


class Gentle(Draws):
    def drawn(self):
        return 0


@pytest.mark.parametrize("kind", ALL)
def test_two_that_draw_at_once(modes, kind, caplog):
    modes.same(*flow(kind, kind))
    assert "draw from the same random generator, so slices run one at a time" in caplog.text


@pytest.mark.parametrize("kind", [OnThread, PythonKept])
class TestDrawsOfNobody:
    """Who draws isn't known. Caught: another file."""

    def test_at_once(self, modes, kind, caplog):
        modes.same(*flow(kind, Gentle))
        assert "slices run one at a time: a component uses the shared random generator" in caplog.text

    def test_late(self, modes, kind):
        with pytest.raises(Conflict, match=r"the shared random generator .* runtime\.mode: sequential"):
            modes.run("pipelined", *flow(kind, kind, after=20))

    @pytest.mark.parametrize("mode", ["sequential", "pipelined"])
    def test_with_draws_of_its_own(self, modes, kind, mode):
        with pytest.raises(H5FlowError, match="nobody knows whose"):
            modes.run(mode, *flow(kind, Gentle), random="per-stage")


def test_a_component_that_goes_on_in_spite_of_the_conflict(modes):
    class Stubborn(Draws):
        def drawn(self):
            try:
                return np.random.mtrand._rand.normal()
            except H5FlowError:
                return -1

    with pytest.raises(Conflict, match="draw from the same random generator"):
        modes.run("pipelined", *flow(Stubborn, Stubborn, after=20))


@pytest.mark.parametrize("runtime", [{}, {"random": "per-stage"}])
def test_what_was_there_is_put_back(modes, runtime):
    """Caught: functions, a bit generator or a number in store of the run that stay behind."""
    numpy_functions, python_functions = dict(vars(np.random)), dict(vars(random))
    bits, by_name = np.random.get_bit_generator(), python_random
    modes.run("pipelined", *flow(FromObject, Gentle), **runtime)
    assert np.random.get_bit_generator() is bits
    assert python_random is by_name
    assert dict(vars(np.random)) == numpy_functions
    assert dict(vars(random)) == python_functions
    assert not hasattr(random.random, "__wrapped__")
    if runtime:
        left = np.random.normal(size=3)
        np.random.seed(3)
        assert left.tolist() == np.random.normal(size=3).tolist()


def test_a_bit_generator_of_another_kind(modes):
    before = np.random.get_bit_generator()

    class Chooses(Gen):
        def init(self):
            super().init()
            np.random.set_bit_generator(np.random.PCG64(5))

    Chooses.__name__ = "Gen"
    try:
        for runtime in ({}, {"random": "per-stage"}):
            config, (_, *classes) = flow(FromObject, ByModule)
            modes.same(config, [Chooses, *classes], **runtime)
            assert type(np.random.get_bit_generator()) is np.random.PCG64
    finally:
        np.random.set_bit_generator(before)


class TestRunsAtOnce:
    """Each watches the shared generator; they begin on threads of their own and end in any order."""

    @pytest.fixture
    def watch(self):
        def fail(*_):
            raise AssertionError("nobody has drawn")

        return lambda: DrawWatch(lambda: None, fail, fail)

    def test_one_that_begins_draws_nothing(self, watch):
        def other():
            with watch().loop():
                pass

        with watch().loop(), ThreadPoolExecutor(1) as pool:
            pool.submit(other).result()

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_leave_the_generator_as_it_was(self, watch, order):
        np.random.seed(7)
        np.random.normal()  # one is in store
        before, bits = np.random.get_state(), np.random.get_bit_generator()
        loops = [watch().loop() for _ in range(3)]
        for loop in loops:
            loop.__enter__()
        for number in order:
            loops[number].__exit__(None, None, None)
        assert np.random.get_bit_generator() is bits
        now = np.random.get_state()
        assert now[1].tolist() == before[1].tolist()
        assert now[2:] == before[2:]


LATE = """
import numpy as np
from h5flow.core import H5FlowGenerator, H5FlowStage

class Rows(H5FlowGenerator):
    def init(self):
        self.data_manager.create_dset(self.dset_name, "i4")
        self.left = 30
    def next(self):
        self.left -= 1
        return self.data_manager.reserve_data(self.dset_name, 2) if self.left >= 0 else self.EMPTY

class Draws(H5FlowStage):
    def __init__(self, first, **params):
        super().__init__(**params)
        self.first, self.number = first, 0
    def init(self, source_name):
        self.data_manager.create_dset(self.name, "f8")
    def run(self, source_name, source_slice, cache):
        self.number += 1
        value = 0.0
        if self.number >= self.first:
            import random
            if self.number == self.first and self.name == "one":
                random.seed(7)
            value = random.random()
        self.data_manager.write_data(self.name, self.data_manager.reserve_data(self.name, 1), value)
"""
LATE_FLOW = """
flow: {{source: rows, stages: [one, other]}}
rows: {{classname: Rows, path: late, dset_name: raw}}
one: {{classname: Draws, path: late, params: {{first: {one}}}}}
other: {{classname: Draws, path: late, params: {{first: {other}}}}}
runtime: {{mode: {mode}, max_in_flight: 6}}
"""


def late(folder, mode, one, other):
    (folder / "late.py").write_text(LATE)
    (folder / f"{mode}.yaml").write_text(LATE_FLOW.format(one=one, other=other, mode=mode))
    command = [sys.executable, "-m", "h5flow", f"{mode}.yaml", "-o", f"{mode}.h5"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    if done.returncode:
        return done.stderr, None
    with h5py.File(folder / f"{mode}.h5") as file:
        return done.stderr, {name: file[f"{name}/data"][:].tolist() for name in ("one", "other")}


@pytest.mark.parametrize(("one", "other"), [(2, 2), (7, 31), (1, 31)])
def test_a_generator_that_is_imported_in_the_middle_of_a_run(tmp_path, one, other):
    """Catches draws that nobody has seen, of the stage that was the first to import `random`."""
    _, sequential = late(tmp_path, "sequential", one, other)
    told, pipelined = late(tmp_path, "pipelined", one, other)
    assert pipelined == sequential
    assert any(sequential["one"])
    assert ("stage 'one' and stage 'other' draw from the same random generator" in told) is (other == 2), told


@pytest.mark.parametrize(("one", "other"), [(2, 5), (5, 2), (9, 9)])
def test_a_second_stage_that_draws_too_late_is_an_error(tmp_path, one, other):
    told, _ = late(tmp_path, "pipelined", one, other)
    assert "draw from the same random generator, and not in the order of slices any more" in told
