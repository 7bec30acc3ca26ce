"""Where a run can be started from, what goes on in it, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import traceback
import weakref

import numpy as np
import pytest

from h5flow.core import H5FlowGenerator, H5FlowStage
from h5flow.runtime import batches
from h5flow.runtime.failure import located
from support.comparing import content

SLICES = 20


class Gen(H5FlowGenerator):
    number = 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, "f8")

    def next(self):
        if self.number == SLICES:
            return self.EMPTY
        self.number += 1
        rows = self.data_manager.reserve_data(self.dset_name, 5)
        self.data_manager.write_data(self.dset_name, rows, np.arange(rows.start, rows.stop))
        return rows


class AsyncGen(Gen):
    async def next(self):
        if self.number == SLICES:
            return self.EMPTY
        self.number += 1
        await asyncio.sleep(0.001)
        dm = self.data_manager.awaitable
        rows = await dm.reserve_data(self.dset_name, 5)
        await dm.write_data(self.dset_name, rows, np.arange(rows.start, rows.stop))
        return rows


class Doubles(H5FlowStage):
    """Appends twice the source."""

    def init(self, source_name):
        self.data_manager.create_dset("doubles", "f8")
        self.data_manager.create_ref(source_name, "doubles")

    def run(self, source_name, source_slice, cache):
        rows = self.data_manager.reserve_data("doubles", 5)
        self.data_manager.write_data("doubles", rows, 2 * cache[source_name])
        self.data_manager.write_ref(source_name, "doubles", np.c_[source_slice, rows])


class AsyncDoubles(Doubles):
    async def run(self, source_name, source_slice, cache):
        dm = self.data_manager.awaitable
        await asyncio.sleep(0.001)
        rows = await dm.reserve_data("doubles", 5)
        await dm.write_data("doubles", rows, 2 * cache[source_name])
        await dm.write_ref(source_name, "doubles", np.c_[source_slice, rows])


class Adds(H5FlowStage):
    """Appends the sum of what the stage before has written."""

    def init(self, source_name):
        self.data_manager.create_dset("sums", "f8")

    def run(self, source_name, source_slice, cache):
        rows = self.data_manager.reserve_data("sums", 1)
        self.data_manager.write_data("sums", rows, cache["doubles"].sum())


def config(**sections):
    made = {
        "flow": {"source": "gen", "stages": ["doubles", "adds"]},
        "gen": {"classname": "Gen", "dset_name": "raw"},
        "doubles": {"classname": "Doubles"},
        "adds": {"classname": "Adds", "requires": ["doubles"]},
    }
    for key, section in sections.items():
        made[key] = {**made.get(key, {}), **section}
    return made


ALL = [Gen, AsyncGen, Doubles, AsyncDoubles, Adds]


@pytest.fixture
def expected(modes):
    """What the workflow gives."""
    return content(modes.run("sequential", config(), ALL).path)


@pytest.fixture(autouse=True)
def no_thread_stays():
    """Whatever happens, the threads of a run end with it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and set(threading.enumerate()) - before:
        time.sleep(0.01)
    assert set(threading.enumerate()) - before == set()


class TestWhereFrom:
    def test_a_script(self, modes, expected):
        assert content(modes.run("pipelined", config(), ALL).path) == expected

    def test_a_thread(self, modes, expected):
        found = []
        thread = threading.Thread(target=lambda: found.append(modes.run("pipelined", config(), ALL)))
        thread.start()
        thread.join()
        assert content(found[0].path) == expected

    @pytest.mark.parametrize("mode", ["pipelined", "sequential"])
    def test_a_notebook(self, modes, expected, mode):
        async def cell():
            return modes.run(mode, config(gen={"classname": "AsyncGen"}, doubles={"classname": "AsyncDoubles"}), ALL)

        assert content(asyncio.run(cell()).path) == expected

    @pytest.fixture(params=["pipelined", "sequential"])
    def manager(self, modes, expected, request):
        """Ready to run; then its output is what is expected."""
        manager = modes.manager(request.param, config(), ALL)
        manager.init()
        yield manager
        manager.finish()
        assert content(manager.path) == expected

    async def test_a_coroutine(self, manager):
        ticks = []

        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        await manager.run_async()
        ticking.cancel()
        assert ticks, "the loop went on meanwhile"

    @pytest.mark.parametrize("loop", ["asyncio", "auto"])
    def test_loops(self, modes, expected, loop):
        assert content(modes.run("pipelined", config(), ALL, loop=loop).path) == expected

    @pytest.fixture
    def stopped(self, modes, monkeypatch):
        """A manager of slices that take long, which doesn't come to its end."""
        monkeypatch.setattr(Doubles, "run", lambda *_: time.sleep(0.02))
        manager = modes.manager("pipelined", config(), ALL)
        manager.init()
        yield manager
        manager.abandon()

    async def test_a_cancelled_coroutine(self, stopped):
        running = asyncio.create_task(stopped.run_async())
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
@pytest.mark.parametrize("generator", ["Gen", "AsyncGen"])
@pytest.mark.parametrize("stage", ["Doubles", "AsyncDoubles"])
def test_async_components(modes, expected, mode, generator, stage):
    found = modes.run(mode, config(gen={"classname": generator}, doubles={"classname": stage}), ALL)
    assert content(found.path) == expected


def test_an_async_stage_that_would_stop_the_loop_is_told_so(modes):
    class Waits(AsyncDoubles):
        async def run(self, source_name, source_slice, cache):
            if "sums" in self.data_manager["sums", :].dtype.names or ():
                pass

    class Reads(AsyncDoubles):
        async def run(self, source_name, source_slice, cache):
            self.data_manager["sums", :]

    class Slow(Adds):
        def run(self, source_name, source_slice, cache):
            time.sleep(0.005)
            super().run(source_name, source_slice, {"doubles": np.zeros(1)})

    changed = config(doubles={"classname": "Reads"}, adds={"classname": "Slow", "requires": []})
    with pytest.raises(RuntimeError, match=r"use the awaitable calls: await self\.data_manager\.awaitable"):
        modes.run("pipelined", changed, [Gen, Reads, Slow])


class TestFailures:
    @pytest.mark.parametrize("runs", ["modes", "cheap_modes"])
    @pytest.mark.parametrize("mode", ["pipelined", "sequential"])
    @pytest.mark.parametrize("at", [0, 7, SLICES - 1])
    @pytest.mark.parametrize("error", [KeyError("lost"), StopIteration(), SystemExit(3), KeyboardInterrupt()])
    def test_in_a_stage(self, request, runs, mode, at, error):
        class Fails(Adds):
            def run(self, source_name, source_slice, cache):
                if source_slice.start == 5 * at:
                    raise error
                super().run(source_name, source_slice, cache)

        runs = request.getfixturevalue(runs)
        with pytest.raises(type(error)) as raised:
            runs.run(mode, config(adds={"classname": "Fails"}), [*ALL, Fails])
        assert raised.value is error
        assert str(located(error)) == f"stage 'adds' (<config>), rank 0, slice {5 * at}:{5 * at + 5}"
        error.__dict__.clear()
        shown = "".join(traceback.format_exception(raised.value))
        assert "ExceptionGroup" not in shown
        assert "During handling" not in shown
        assert "in run\n    raise error\n" in shown
        assert [path.name for path in runs.folder.iterdir()] == [f"{mode}-1.h5.partial"]

    @pytest.mark.parametrize("mode", ["pipelined", "sequential"])
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_in_a_generator(self, modes, mode, asynchronous):
        class Fails(Gen):
            def next(self):
                if self.number == 8:
                    raise OSError("no more data")
                return super().next()

        class AsyncFails(AsyncGen):
            async def next(self):
                if self.number == 8:
                    raise OSError("no more data")
                return await super().next()

        name = "AsyncFails" if asynchronous else "Fails"
        with pytest.raises(OSError, match="no more data") as raised:
            modes.run(mode, config(gen={"classname": name}), [*ALL, Fails, AsyncFails])
        assert str(located(raised.value)) == "generator 'gen' (<config>), rank 0"

    def test_in_an_async_stage(self, modes):
        class Fails(AsyncDoubles):
            async def run(self, source_name, source_slice, cache):
                await super().run(source_name, source_slice, cache)
                if source_slice.start == 45:
                    raise SystemExit("enough")

        with pytest.raises(SystemExit, match="enough") as raised:
            modes.run("pipelined", config(doubles={"classname": "Fails"}), [*ALL, Fails])
        assert str(located(raised.value)) == "stage 'doubles' (<config>), rank 0, slice 45:50"

    def test_what_is_no_slice(self, modes):
        class Wrong(Gen):
            def next(self):
                return 5 if self.number == 6 else super().next()

        with pytest.raises(RuntimeError, match=r"next\(\) must return a slice, got 5"):
            modes.run("pipelined", config(gen={"classname": "Wrong"}), [*ALL, Wrong])

    @pytest.mark.parametrize("where", ["doubles", "adds"])
    def test_a_stage_that_waits_for_one_that_fails(self, modes, where):
        """Whoever waits for its turn must not wait for ever."""

        class Both(Adds):
            def init(self, source_name):
                self.data_manager.create_dset("both", "f8")

            def run(self, source_name, source_slice, cache):
                time.sleep(0.003)
                if source_slice.start == 50 and self.name == where:
                    raise ValueError("here")
                self.data_manager.write_data("both", self.data_manager.reserve_data("both", 1), 1.0)

        changed = config(doubles={"classname": "Both"}, adds={"classname": "Both", "requires": []})
        with pytest.raises(ValueError, match="here"):
            modes.run("pipelined", changed, [Gen, Both])

    def test_a_requirement_that_can_not_be_loaded(self, modes):
        """The error comes at the stage's moment, though the value was to be loaded ahead."""
        changed = config(adds={"requires": ["doubles", "nothing"]})
        with pytest.raises(KeyError, match="dataset 'nothing' isn't in") as raised:
            modes.run("pipelined", changed, ALL, strict=True)
        assert str(located(raised.value)) == "stage 'adds' (<config>), rank 0, slice 0:5"


class Loads(H5FlowStage):
    """A slow stage that counts the caches that are alive."""

    alive: weakref.WeakSet
    seconds = 0.004

    def __init__(self, **params):
        super().__init__(**params)
        self.most = 0

    def run(self, source_name, source_slice, cache):
        time.sleep(self.seconds)
        gc.collect()
        self.most = max(self.most, len(Loads.alive))


@pytest.fixture
def alive(monkeypatch):
    """Counts what has been loaded and not been freed yet."""
    from h5flow.runtime.loading import RequirementLoader

    class Counted(np.ndarray):
        pass

    Loads.alive = weakref.WeakSet()
    load = RequirementLoader.load

    def counted(self, requirement, source, rows):
        value = load(self, requirement, source, rows).view(Counted)
        Loads.alive.add(_Key(value))
        return value

    class _Key:
        """Arrays can't be hashed; this lives as long as its array."""

        def __init__(self, array):
            array.key = self

    monkeypatch.setattr(RequirementLoader, "load", counted)


@pytest.mark.blocks_loop  # garbage is collected with Python's lock, for each slice
@pytest.mark.parametrize(
    ("runtime", "most"),
    [
        ({"max_in_flight": 1}, 1),
        ({"max_in_flight": 3}, 3),
        ({"max_in_flight": "100B"}, 3),  # 40 bytes a slice: two fit, and the oldest one always passes
        ({"queue_depth": 1, "loaders": 1}, 6),
        ({"queue_depth": 4, "loaders": 2}, 12),
    ],
)
def test_no_more_slices_than_the_budget_are_alive(modes, alive, runtime, most):
    """A stage that is far slower than loading."""
    changed = config(flow={"source": "gen", "stages": ["loads"]}, loads={"classname": "Loads"})
    stage = modes.run("pipelined", changed, [*ALL, Loads], **runtime).stages[0]
    assert 1 <= stage.most <= most


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_the_loop_is_never_blocked(tmp_path, modes, loop):
    """Loading, computing, writing and waiting happen on threads; the loop only hands on. The guard of `modes` looks."""
    import h5py

    with h5py.File(tmp_path / "in.h5", "w") as file:
        rows = np.random.default_rng(1).normal(size=(10, 1_000_000))
        file.create_dataset("raw/data", data=rows, chunks=(1, 1_000_000), maxshape=(None, 1_000_000), compression=1)

    class Copies(H5FlowStage):
        def init(self, source_name):
            self.data_manager.create_dset("copies", "f8", (1_000_000,))

        def run(self, source_name, source_slice, cache):
            sum(range(200_000))
            rows = self.data_manager.reserve_data("copies", len(cache[source_name]))
            self.data_manager.write_data("copies", rows, np.sort(cache[source_name]))

    changed = {"flow": {"source": "raw", "stages": ["copies"]}, "copies": {"classname": "Copies"}}
    modes.run("pipelined", changed, [Copies], str(tmp_path / "in.h5"), loop=loop)


def test_automatic_depths_grow_where_somebody_starves(modes, caplog):
    class Uneven(Adds):
        def run(self, source_name, source_slice, cache):
            super().run(source_name, source_slice, cache)
            if source_slice.start // 5 % 10 == int(self.params["at"]):
                time.sleep(0.1)

        def __init__(self, **params):
            super().__init__(**params)
            self.params = params

        def init(self, source_name):
            self.data_manager.create_dset(self.name, "f8")

    class Long(Gen):
        def next(self):
            if self.number == 60:
                return self.EMPTY
            self.number += 1
            return self.data_manager.reserve_data(self.dset_name, 5)

    class First(Uneven):
        def run(self, source_name, source_slice, cache):
            if source_slice.start // 5 % 10 < 5:
                time.sleep(0.012)

    class Second(First):
        def run(self, source_name, source_slice, cache):
            if source_slice.start // 5 % 10 >= 5:
                time.sleep(0.012)

    changed = {
        "flow": {"source": "gen", "stages": ["first", "second"]},
        "gen": {"classname": "Long", "dset_name": "raw"},
        "first": {"classname": "First", "params": {"at": 3}},
        "second": {"classname": "Second", "params": {"at": 8}},
    }
    with caplog.at_level(logging.INFO, "h5flow"):
        modes.run("pipelined", changed, [Long, First, Second], queue_depth="auto")
    assert "queue 'first' gets a depth of 4" in caplog.text


def test_cheap_slices_are_not_slowed_down_by_hops(cheap_modes, monkeypatch):
    """They travel together: there are far fewer trips to threads than slices."""
    from h5flow.runtime.worker import Worker

    trips, start = [], Worker.start
    monkeypatch.setattr(Worker, "start", lambda self, *args: (trips.append(self.name), start(self, *args))[1])

    class Many(Gen):
        def next(self):
            if self.number == 3000:
                return self.EMPTY
            self.number += 1
            return slice(0, 5)

    class Nothing(H5FlowStage):
        pass

    changed = {
        "flow": {"source": "gen", "stages": ["nothing"]},
        "gen": {"classname": "Many", "dset_name": "raw"},
        "nothing": {"classname": "Nothing"},
    }
    assert batches.CHEAP > 0
    manager = cheap_modes.run("pipelined", changed, [Many, Nothing])
    assert manager.done.slices == 3000
    assert len(trips) < 300
