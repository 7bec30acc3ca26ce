"""What is done behind the runtime's back, or for the first time when many slices are in flight.

The file is that of sequential mode, or the run ends with a `Conflict`; it is never silently another one.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from h5flow.core import H5FlowGenerator, H5FlowStage
from h5flow.modules import H5FlowDatasetLoopGenerator
from h5flow.runtime import batches
from h5flow.runtime.hazards import Conflict
from support.comparing import content

SLICES, SIZE = 16, 4


class Gen(H5FlowGenerator):
    number = 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, "f8")

    def next(self):
        if self.number == SLICES:
            return self.EMPTY
        self.number += 1
        rows = self.data_manager.reserve_data(self.dset_name, SIZE)
        self.data_manager.write_data(self.dset_name, rows, np.arange(rows.start, rows.stop))
        return rows


class Before(Gen):
    """The rows are there before the loop, and `next` doesn't use the file."""

    def init(self):
        super().init()
        for _ in range(SLICES):
            super().next()
        self.number = 0

    def next(self):
        if self.number == SLICES:
            return self.EMPTY
        self.number += 1
        return slice(SIZE * self.number - SIZE, SIZE * self.number)


class Writes(H5FlowStage):
    """Appends rows of three columns for each row of the slice."""

    def init(self, source_name):
        self.data_manager.create_dset("written", "f8", shape=(3,))
        self.data_manager.create_ref(source_name, "written")

    def run(self, source_name, source_slice, cache):
        time.sleep(0.001)
        rows = self.data_manager.reserve_data("written", SIZE)
        self.data_manager.write_data("written", rows, cache[source_name][:, np.newaxis] + [1, 2, 3])
        self.data_manager.write_ref(source_name, "written", np.c_[source_slice, rows])


class Notes(H5FlowStage):
    """Appends what `look` finds; slower than the stage before, which is ahead of it therefore."""

    def init(self, source_name):
        self.data_manager.create_dset(self.name, "f8")
        self.number = -1

    def run(self, source_name, source_slice, cache):
        time.sleep(0.003)
        self.number += 1
        rows = self.data_manager.reserve_data(self.name, 1)
        self.data_manager.write_data(self.name, rows, float(self.look(self.data_manager, source_name, source_slice)))

    def look(self, dm, source_name, rows):
        raise NotImplementedError


def looking(look, name="Looks"):
    return type(name, (Notes,), {"look": lambda self, dm, source, rows: look(self, dm, source, rows)})


def flow(*stages, generator=Gen, **sections):
    config = {"flow": {"source": "gen", "stages": [stage.__name__.lower() for stage in stages]}}
    config["gen"] = {"classname": generator.__name__, "dset_name": "raw"}
    for stage in stages:
        config[stage.__name__.lower()] = {"classname": stage.__name__, **sections.get(stage.__name__.lower(), {})}
    return config, [generator, *stages]


def on_a_thread(self, dm, source, rows):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: dm["written", :].sum()).result()


def a_mask(self, dm, source, rows):
    written = dm.get_dset("written")
    return written[np.arange(len(written)) % 2 == 1].sum()


def read_direct(self, dm, source, rows):
    written = dm.get_dset("written")
    into = np.zeros(written.shape)
    written.read_direct(into)
    return into.sum()


LOOKS = {
    "a thread of its own": on_a_thread,
    "every second row": lambda self, dm, source, rows: dm.get_dset("written")[::2].sum(),
    "a column": lambda self, dm, source, rows: dm.get_dset("written")[:, 1].sum(),
    "a column by Ellipsis": lambda self, dm, source, rows: dm.get_dset("written")[..., 1].sum(),
    "an element at the end": lambda self, dm, source, rows: dm.get_dset("written")[-1, 0],
    "a mask": a_mask,
    "row numbers": lambda self, dm, source, rows: dm.get_dset("written")[[0, 3]].sum(),
    "an array": lambda self, dm, source, rows: np.asarray(dm.get_dset("written")).sum(),
    "another type": lambda self, dm, source, rows: dm.get_dset("written").astype("f4")[:].sum(),
    "reading into an array": read_direct,
    "references": lambda self, dm, source, rows: dm.get_ref(source, "written")[0][:, 0].sum(),
    "the length of a table": lambda self, dm, source, rows: len(dm.get_ref_region(source, "written")),
    "the file of a dataset": lambda self, dm, source, rows: len(dm.get_dset("written").file["written/data"]),
    "the file": lambda self, dm, source, rows: dm.fh["written/data"][:, 0].sum(),
}


@pytest.mark.parametrize("how", LOOKS)
def test_looking_at_what_an_earlier_stage_appends(modes, how):
    config, classes = flow(Writes, looking(LOOKS[how]))
    modes.same(config, classes)


def at_the_end(self, dm, source, rows):
    dm.get_dset("written")[-1] = -1.0
    return 0


def a_column(self, dm, source, rows):
    dm.get_dset("written")[:, 0] = float(rows.start)
    return 0


@pytest.mark.parametrize("write", [at_the_end, a_column])
def test_writing_with_h5py_to_what_an_earlier_stage_appends(modes, write):
    config, classes = flow(Writes, looking(write))
    modes.same(config, classes)


def own_attributes(self, dm, source, rows):
    return dm.get_dset("written").attrs.get("last", -1)


def group_attributes(self, dm, source, rows):
    return dm["written"].attrs.get("last", -1)


@pytest.mark.parametrize("look", [own_attributes, group_attributes])
def test_attributes_that_a_later_stage_sets_with_h5py(modes, look, caplog):
    def sets(self, dm, source, rows):
        dm[("written/data" if look is own_attributes else "written")].attrs["last"] = rows.start
        return 0

    config, classes = flow(Writes, looking(look), looking(sets, "Sets"))
    modes.same(config, classes)
    assert "slices run one at a time: a component uses attributes of" in caplog.text


class TestOnLaterSlices:
    """What begins when slices are in flight already."""

    LATER = 8

    def run(self, modes, *stages):
        """The files are the same, or the run ends with an error; which of them depends on who is how far."""
        config, classes = flow(*stages)
        expected = content(modes.run("sequential", config, classes).path)
        try:
            found = content(modes.run("pipelined", config, classes).path)
        except Conflict:
            return
        assert found == expected

    def later(self, act, otherwise=0.0):
        return looking(lambda s, dm, src, rows: act(dm, src, rows) if s.number == self.LATER else otherwise, "Later")

    @pytest.mark.parametrize(
        "look",
        [
            lambda self, dm, source, rows: dm.exists("late"),
            lambda self, dm, source, rows: dm.dset_exists("late"),
            lambda self, dm, source, rows: dm.attr_exists("late", "x"),
        ],
    )
    def test_what_exists(self, modes, look):
        later = self.later(lambda dm, source, rows: dm.create_dset("late", "f8") or dm.set_attrs("late", x=1) or 1)
        self.run(modes, looking(look), later)

    def test_references_that_exist(self, modes):
        look = looking(lambda self, dm, source, rows: len(dm.get_refs(source)))
        self.run(modes, look, self.later(lambda dm, source, rows: dm.create_ref(source, "looks") or 1))

    def test_deleting(self, modes):
        class First(Notes):
            def init(self, source_name):
                super().init(source_name)
                self.data_manager.create_dset("gone", "f8")

            def look(self, dm, source, rows):
                return dm.dset_exists("gone")

        self.run(modes, First, self.later(lambda dm, source, rows: dm.delete("gone") or 1))

    def test_rows_that_a_later_slice_has_appended(self, modes):
        later = self.later(lambda dm, source, rows: dm.reserve_data("written", slice(0, SIZE * 9 + 2)) is None)
        self.run(modes, Writes, later)

    def test_drawing_random_numbers(self, modes):
        class First(Notes):
            def init(self, source_name):
                super().init(source_name)
                np.random.seed(3)

            def look(self, dm, source, rows):
                return np.random.uniform() if self.number > 5 else 0

        second = looking(lambda self, dm, source, rows: np.random.uniform() if self.number > 7 else 0)
        config, classes = flow(First, second)
        modes.run("sequential", config, classes)
        with pytest.raises(Conflict, match=r"draw from the same random generator, .* runtime\.random: per-stage"):
            modes.run("pipelined", config, classes)


class AsyncDraws(Notes):
    async def run(self, source_name, source_slice, cache):
        rows = await self.data_manager.awaitable.reserve_data(self.name, 1)
        await self.data_manager.awaitable.write_data(self.name, rows, np.random.uniform())


class Draws(Notes):
    def look(self, dm, source, rows):
        return np.random.uniform()


@pytest.mark.parametrize("runtime", [{}, {"random": "per-stage"}])
def test_random_numbers_of_async_stages(modes, runtime):
    class Seeds(Gen):
        def init(self):
            super().init()
            np.random.seed(3)

    config, classes = flow(AsyncDraws, Draws, generator=Seeds)
    modes.same(config, classes, **runtime)


def test_waiting_with_random_numbers_of_its_own(modes):
    """A component that waits for another one must not keep it from working."""
    first = looking(lambda self, dm, source, rows: dm["later", :].sum() + np.random.uniform())
    config, classes = flow(first, type("Later", (Draws,), {}))
    modes.same(config, classes, random="per-stage")


def test_a_single_stage_that_writes_ahead(modes):
    """Nobody else uses the file, but what is loaded ahead is outdated."""

    class Carries(Notes):
        def look(self, dm, source, rows):
            total = dm[source, rows].sum()
            after = dm[source, rows.stop : rows.stop + 1]
            dm.write_data(source, slice(rows.stop, rows.stop + len(after)), after + total)
            return total

    config, classes = flow(Carries, generator=Before)
    modes.same(config, classes)


def test_a_single_stage_whose_slices_become_dear(cheap_modes, monkeypatch):
    """From a batch of cheap slices, of which nothing is noted, to slices that overlap with loading."""
    monkeypatch.setattr(f"{__name__}.SLICES", 400)

    class Carries(Notes):
        def run(self, source_name, source_slice, cache):
            self.number += 1
            if self.number > 300:
                time.sleep(0.002)
            total = cache[source_name].sum()
            dm = self.data_manager
            dm.write_data(self.name, dm.reserve_data(self.name, 1), total)
            if self.number > 200:
                after = dm[source_name, source_slice.stop : source_slice.stop + 1]
                dm.write_data(source_name, slice(source_slice.stop, source_slice.stop + len(after)), after + 1)

    config, classes = flow(Carries, generator=Before)
    cheap_modes.same(config, classes)


def test_an_async_stage_in_a_batch(cheap_modes, monkeypatch):
    """A slice that waits for the stage behind it must not be kept back with its batch."""
    monkeypatch.setattr(f"{__name__}.SLICES", 300)
    assert batches.CHEAP > 0

    class First(H5FlowStage):
        async def run(self, source_name, source_slice, cache):
            pass

    class Counts(H5FlowStage):
        def init(self, source_name):
            self.data_manager.create_dset("counts", "f8")
            self.data_manager.reserve_data("counts", 1)

        def run(self, source_name, source_slice, cache):
            before = self.data_manager["counts", 0:1]
            self.data_manager.write_data("counts", slice(0, 1), before + 1)

    config, classes = flow(First, Counts, first={"requires": ["counts"]})
    cheap_modes.same(config, classes)


def test_slices_that_overlap(modes):
    """Rows belong to two slices at once."""

    class Sliding(Before):
        def next(self):
            if self.number == SLICES:
                return self.EMPTY
            self.number += 1
            return slice(2 * self.number - 2, 2 * self.number + 2)

    reads = looking(lambda self, dm, source, rows: dm[source, rows].sum())

    def add(self, dm, source, rows):
        dm.write_data(source, rows, dm[source, rows] + 1)
        return 0

    config, classes = flow(reads, looking(add, "Adds"), generator=Sliding)
    modes.same(config, classes)


def test_references_to_rows_that_do_not_exist_yet(modes):
    def ahead(self, dm, source, rows):
        dm.write_ref(source, "written", [[rows.start, rows.start + 20]])
        return 0

    lengths = looking(lambda self, dm, source, rows: len(dm.get_ref_region("written", source)))
    config, classes = flow(Writes, looking(ahead, "Ahead"), lengths)
    modes.same(config, classes)


def test_running_twice(modes):
    """A generator that goes on after it has said that there is no more."""

    class Pauses(Gen):
        asked = 0

        def next(self):
            self.asked += 1
            return self.EMPTY if self.asked % 6 == 0 else super().next()

    from h5flow.core import H5FlowManager

    run = H5FlowManager.run
    modes.monkeypatch.setattr(H5FlowManager, "run", lambda manager: (run(manager), run(manager)))
    config, classes = flow(Writes, looking(LOOKS["a column"]), generator=Pauses)
    _, manager = modes.same(config, classes)
    assert manager.done.slices == 10


def test_rows_of_python_objects(modes):
    """Texts are not kept in pages, but written and read with h5py."""
    import h5py

    class Texts(H5FlowStage):
        def init(self, source_name):
            self.data_manager.create_dset("texts", h5py.string_dtype())
            self.data_manager.create_ref(source_name, "texts")

        def run(self, source_name, source_slice, cache):
            time.sleep(0.002)
            rows = self.data_manager.reserve_data("texts", 2)
            self.data_manager.write_data("texts", rows, [f"row {row}" for row in range(rows.start, rows.stop)])
            refs = [(source_slice.start, row) for row in range(rows.start, rows.stop)]
            self.data_manager.write_ref(source_name, "texts", refs)

    lengths = looking(lambda self, dm, source, rows: sum(map(len, dm[source, "texts", rows].compressed())))
    config, classes = flow(Texts, lengths)
    manager = modes.run("pipelined", config, classes)
    expected = modes.run("sequential", config, classes)
    with h5py.File(manager.path) as found, h5py.File(expected.path) as wanted:
        for name in ("texts/data", "looks/data"):
            assert found[name][:].tolist() == wanted[name][:].tolist()


@pytest.mark.parametrize("who", ["stage", "generator"])
def test_an_await_that_is_cancelled_ends_the_run(modes, who):
    """As with any other exception that users' code raises."""

    class Awaits(H5FlowStage):
        async def run(self, source_name, source_slice, cache):
            if who == "stage" and source_slice.start == 4 * SIZE:
                raise asyncio.CancelledError

    class Cancelled(Before):
        async def next(self):
            if who == "generator" and self.number == 4:
                raise asyncio.CancelledError
            return super().next()

    changed = {
        "flow": {"source": "gen", "stages": ["awaits"]},
        "gen": {"classname": "Cancelled", "dset_name": "raw"},
        "awaits": {"classname": "Awaits"},
    }
    for mode in ("sequential", "pipelined"):
        with pytest.raises(asyncio.CancelledError):
            modes.run(mode, changed, [Cancelled, Awaits])


LATE_LOOKS = {
    "exists": lambda dm: dm.exists("late"),
    "ref_exists": lambda dm: dm.ref_exists("raw", "two"),
    "attr_exists": lambda dm: dm.attr_exists("late", "a"),
    "get_attrs": lambda dm: dm.get_attrs("late")["a"],
    "get_dset": lambda dm: dm.get_dset("late").name,
    "rows": lambda dm: dm["late", 0:2].tolist(),
    "path": lambda dm: dm["late"].name,
    "create": lambda dm: dm.create_dset("late", "i8"),
}


@pytest.mark.parametrize("look", LATE_LOOKS)
def test_a_generator_that_begins_late_to_look_sees_what_a_lone_stage_has_made(cheap_modes, monkeypatch, look):
    monkeypatch.setattr(f"{__name__}.SLICES", 1000)

    class Looks(Before):
        def init(self):
            super().init()
            self.data_manager.create_dset("two", "i8")

        def next(self):
            if self.number == 600:
                self.seen = LATE_LOOKS[look](self.data_manager)
            return super().next()

    class Makes(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            if source_slice.start == 590 * SIZE:
                self.data_manager.create_dset("late", "i8")
                self.data_manager.reserve_data("late", 5)
                self.data_manager.set_attrs("late", a=1)
                self.data_manager.create_ref("raw", "two")

    changed = {
        "flow": {"source": "gen", "stages": ["makes"]},
        "gen": {"classname": "Looks", "dset_name": "raw"},
        "makes": {"classname": "Makes"},
    }
    expected = cheap_modes.run("sequential", changed, [Looks, Makes]).generator.seen
    assert cheap_modes.run("pipelined", changed, [Looks, Makes]).generator.seen == expected


@pytest.mark.parametrize(("limit", "most"), [(3, 3), ("4MiB", 5)])
def test_a_batch_of_cheap_slices_keeps_to_the_budget(cheap_modes, monkeypatch, limit, most):
    monkeypatch.setattr(f"{__name__}.SLICES", 600)

    class Counts(Before):
        most = done = 0

        def next(self):
            if self.number > 100:
                Counts.most = max(Counts.most, self.number + 1 - Counts.done)
            return super().next()

    class Holds(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            cache["large"] = np.empty(1 << 20, "u1")

    class Last(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            Counts.done += 1

    changed = {
        "flow": {"source": "gen", "stages": ["holds", "last"]},
        "gen": {"classname": "Counts", "dset_name": "raw"},
        "holds": {"classname": "Holds"},
        "last": {"classname": "Last"},
    }
    cheap_modes.run("pipelined", changed, [Counts, Holds, Last], max_in_flight=limit)
    assert 1 <= Counts.most <= most


def test_rows_reserved_while_the_input_is_read_by_chunks(modes, tmp_path):
    """Chunks are read past HDF5, where they were found; rows that came later have none there."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in ("x", "y"):
            rows = np.arange(10.0 * 16384)
            file.create_dataset(f"{name}/data", data=rows, chunks=(16384,), maxshape=(None,))

    class Grows(H5FlowStage):
        def init(self, source_name):
            self.data_manager.create_dset("sums", "f8")

        def run(self, source_name, source_slice, cache):
            dm = self.data_manager
            total = dm["y", 0:131072].sum()
            rows = dm.reserve_data("y", 32768)
            total += dm.get_dset("y")[::1000].sum() + dm["y", rows].sum()
            dm.write_data("sums", dm.reserve_data("sums", 1), total)

    changed = {
        "flow": {"source": "loop", "stages": ["grows"]},
        "loop": {"classname": "H5FlowDatasetLoopGenerator", "dset_name": "x", "params": {"chunk_size": 65536}},
        "grows": {"classname": "Grows"},
    }
    modes.same(changed, [H5FlowDatasetLoopGenerator, Grows], str(tmp_path / "in.h5"))
