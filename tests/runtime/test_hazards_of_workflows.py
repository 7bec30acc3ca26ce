"""What real workflows do to a runtime, one by one: the file must be that of sequential mode.

Each test says which mistake it catches. Sleeps make a naive pipeline go wrong; they are no part of what is asserted.
"""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np
import pytest

from h5flow import resources
from h5flow.core import H5FlowGenerator, H5FlowResource, H5FlowStage
from h5flow.data import dereference

ROW = np.dtype([("id", "u4"), ("value", "f8")])
SLICES, SIZE = 12, 4


def rows_of(count, start=0):
    rows = np.zeros(count, ROW)
    rows["id"] = np.arange(start, start + count)
    rows["value"] = rows["id"] / 8
    return rows


class Gen(H5FlowGenerator):
    """Appends the rows of each slice to the source."""

    number = 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, ROW)

    def next(self):
        if self.number == SLICES:
            return self.EMPTY
        rows = self.data_manager.reserve_data(self.dset_name, SIZE)
        self.data_manager.write_data(self.dset_name, rows, rows_of(SIZE, rows.start))
        self.number += 1
        return rows


class Slow(H5FlowStage):
    """A stage that writes a row for each of its source rows, after a while."""

    def init(self, source_name):
        self.data_manager.create_dset(self.name, ROW)
        self.data_manager.create_ref(source_name, self.name)

    def run(self, source_name, source_slice, cache):
        time.sleep(0.003)
        self.write(source_name, source_slice, self.made(cache[source_name], cache))

    def made(self, source, cache):
        made = np.array(source)
        made["value"] += 1
        return made

    def write(self, source_name, source_slice, made):
        rows = self.data_manager.reserve_data(self.name, len(made))
        self.data_manager.write_data(self.name, rows, made)
        self.data_manager.write_ref(source_name, self.name, np.c_[source_slice, rows])


class Sums(H5FlowStage):
    """Notes what it sees of its requirements: a row for each slice, with their sums."""

    def init(self, source_name):
        self.data_manager.create_dset(self.name, "f8", shape=(8,))

    def run(self, source_name, source_slice, cache):
        sums = np.zeros(8)
        for place, key in enumerate(sorted(key for key in cache if key != source_name)):
            values = cache[key]
            if values is None:
                sums[place] = -1
            else:
                values = values["value"] if values.dtype.names else values
                sums[place] = 1000 * np.ma.count(values) + np.ma.sum(values).astype(float) if np.ma.count(values) else 0
        self.data_manager.write_data(self.name, self.data_manager.reserve_data(self.name, 1), sums)


def flow(*stages, **sections):
    """A config whose stages are named like their classes, in lower case."""
    config = {"flow": {"source": "gen", "stages": [stage.__name__.lower() for stage in stages]}}
    config["gen"] = {"classname": "Gen", "dset_name": "raw"}
    for stage in stages:
        config[stage.__name__.lower()] = {"classname": stage.__name__}
    for key, section in sections.items():
        config[key] = {**config.get(key, {}), **section}
    return config


def test_01_cumulative_requirements(modes):
    """A stage reads what only an earlier one requires. Caught: loading for each stage only what it lists itself."""

    class First(H5FlowStage):
        pass

    class Last(Sums):
        pass

    config = flow(Slow, First, Last, first={"requires": ["slow"]})
    found, _ = modes.same(config, [Gen, Slow, First, Last])
    sums = np.frombuffer(found["last/data"][3]).reshape(-1, 8)
    assert (sums[:, 0] > 1000 * SIZE).all()


def test_02_loaded_once(modes):
    """What stage 2 required and stage 4 wrote stays what stage 2 saw. Caught: loading again for later stages."""

    class Before(Sums):
        pass

    class After(Sums):
        pass

    config = flow(Before, Slow, After, before={"requires": ["slow"]}, after={"requires": ["slow"]})
    found, _ = modes.same(config, [Gen, Before, Slow, After])
    for name in ("before", "after"):
        assert not np.frombuffer(found[f"{name}/data"][3]).any(), "the requirement was loaded when nothing was there"


def test_03_existence_proves_nothing(modes):
    """`init` has made empty datasets and references. Caught: taking a load that came too early for the truth."""

    class Last(Sums):
        pass

    requires = ["slow", {"name": "numbers", "path": ["slow"], "index_only": True}, {"name": "row", "path": ["slow"]}]
    found, _ = modes.same(flow(Slow, Last, last={"requires": requires}), [Gen, Slow, Last])
    assert (np.frombuffer(found["last/data"][3]).reshape(-1, 8)[:, :3] > 1000 * SIZE).all()


def test_04_mutation(modes):
    """Stages change cached arrays in place. Caught: caches or buffers that slices or later loads share."""

    class Changes(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            time.sleep(0.001)
            cache[source_name]["value"] *= -1
            cache["slow"][0] = np.ma.masked
            cache["more"] = np.array(cache["slow"]["value"])

    class Last(Sums):
        def run(self, source_name, source_slice, cache):
            assert (cache[source_name]["value"] <= 0).all()
            assert cache["slow"].mask["value"][0].all()
            super().run(source_name, source_slice, cache)

    class Again(Sums):
        def run(self, source_name, source_slice, cache):
            cache.pop("slow")
            super().run(source_name, source_slice, cache)

    config = flow(Slow, Changes, Last, Again, changes={"requires": ["slow"]}, again={"requires": ["slow"]})
    found, _ = modes.same(config, [Gen, Slow, Changes, Last, Again])
    values = np.frombuffer(found["raw/data"][3], ROW)["value"]
    assert (values >= 0).all(), "the file is not what a cache is changed to"


def test_05_none(modes):
    """What can't be loaded is None, in every slice. Caught: a loader thread's error that ends the run."""

    class Last(Sums):
        pass

    requires = [{"name": "truth", "path": "mc_truth/events"}, {"name": "deep", "path": ["slow", "mc_truth/events"]}]
    found, _ = modes.same(flow(Slow, Last, last={"requires": requires}), [Gen, Slow, Last])
    assert (np.frombuffer(found["last/data"][3]).reshape(-1, 8)[:, :2] == -1).all()


def test_06_past_the_cache(modes):
    """Stages read the file themselves. Caught: reads that see what later slices have written already."""

    class Reads(Sums):
        def init(self, source_name):
            super().init(source_name)
            self.handle = self.data_manager.get_dset("slow")

        def run(self, source_name, source_slice, cache):
            dm = self.data_manager
            ref, direction = dm.get_ref(source_name, "slow")
            region = dm.get_ref_region(source_name, "slow")
            joined = dereference(source_slice, ref, self.handle, region=region, ref_direction=direction)
            seen = [
                len(self.handle),
                self.handle.shape[0],
                dm["slow", source_slice]["value"].sum(),
                dm[source_name, "slow", source_slice]["value"].sum(),
                joined["value"].sum(),
                len(ref),
                dm.get_dset(source_name).shape[0],
                sum(dm.dset_exists(name) for name in ("slow", "raw", "nothing") for _ in range(300)),
            ]
            dm.write_data(self.name, dm.reserve_data(self.name, 1), np.array(seen, "f8"))

        def finish(self, source_name):
            whole = self.data_manager.get_dset("slow")[:]["value"]
            self.data_manager.set_attrs(self.name, total=whole.sum(), rows=len(whole))

    class Tail(Slow):
        pass

    found, _ = modes.same(flow(Slow, Reads, Tail), [Gen, Slow, Reads, Tail])
    seen = np.frombuffer(found["reads/data"][3]).reshape(-1, 8)
    so_far = SIZE * np.arange(1, SLICES + 1)
    for column in (0, 1, 5, 6):
        assert seen[:, column].tolist() == so_far.tolist()
    assert found["reads"][0] == {"total": seen[:, 2].sum(), "rows": SLICES * SIZE}


def test_06_a_generator_that_follows_references(modes):
    """`next()` reads what stages write. Caught: a generator that runs ahead of what it reads."""

    class Feedback(Gen):
        def init(self):
            super().init()
            self.data_manager.create_dset("seen", "f8")

        def next(self):
            dm = self.data_manager
            if self.number:
                total = dm[self.dset_name, "slow", SIZE * self.number - SIZE : SIZE * self.number]["value"].sum()
                dm.write_data("seen", dm.reserve_data("seen", 1), total)
            return super().next()

    config = flow(Slow, gen={"classname": "Feedback"})
    found, _ = modes.same(config, [Feedback, Slow])
    assert (np.frombuffer(found["seen/data"][3]) > 0).all()


def test_07_update_of_another_components_rows(modes):
    """A stage corrects rows that the generator appends. Caught: relying on who has created what."""

    class Fixes(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            time.sleep(0.002)
            wrong = np.flatnonzero(cache[source_name]["id"] % 2) + source_slice.start
            rows = self.data_manager[source_name, wrong]
            rows["value"] = -rows["value"]
            self.data_manager.write_data(source_name, wrong, rows)

    class Copies(Slow):
        def made(self, source, cache):
            return np.array(cache["again"])

    config = flow(Fixes, Copies, copies={"requires": [{"name": "again", "path": "raw"}]})
    found, _ = modes.same(config, [Gen, Fixes, Copies])
    values = np.frombuffer(found["copies/data"][3], ROW)["value"]
    assert (values[1::2] < 0).all()


def test_07_updates_that_look_back(modes):
    """A stage changes rows of the slice before. Caught: a prefetched source that is outdated."""

    class Smooths(H5FlowStage):
        before = None

        def run(self, source_name, source_slice, cache):
            time.sleep(0.002)
            if self.before is not None:
                rows = self.data_manager[source_name, self.before]
                rows["value"] += cache[source_name]["value"].sum()
                self.data_manager.write_data(source_name, self.before, rows)
            self.before = source_slice

    class Copies(Slow):
        def made(self, source, cache):
            return self.data_manager["raw", slice(0, self.data_manager.get_dset("raw").shape[0])][-6:]

        def write(self, source_name, source_slice, made):
            self.data_manager.write_data(self.name, self.data_manager.reserve_data(self.name, len(made)), made)

    modes.same(flow(Smooths, Copies), [Gen, Smooths, Copies])


def test_08_creation_inside_run(modes):
    """Datasets, references and attributes made on the first slice. Caught: slice 1 before slice 0."""

    class Lazy(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            dm = self.data_manager
            if not dm.dset_exists("lazy"):
                dm.create_dset("lazy", cache[source_name].dtype)
                dm.create_ref(source_name, "lazy")
                dm.set_attrs("lazy", first=source_slice.start)
            rows = dm.reserve_data("lazy", SIZE)
            dm.write_data("lazy", rows, cache[source_name])
            dm.write_ref(source_name, "lazy", np.c_[source_slice, rows])

    class Last(Sums):
        pass

    found, _ = modes.same(flow(Lazy, Last, last={"requires": ["lazy"]}), [Gen, Lazy, Last])
    assert found["lazy"][0] == {"first": 0}


def test_09_writes_of_all_kinds(modes):
    """Slices, row numbers, masks, floats, empty arrays. Caught: accesses that are noted as something else."""

    class Writes(H5FlowStage):
        def init(self, source_name):
            dm = self.data_manager
            dm.create_dset("flags", "?", shape=(2, 3))
            dm.create_dset("pairs", ROW)
            dm.create_ref("pairs", source_name)
            dm.create_ref("flags", "pairs")

        def run(self, source_name, source_slice, cache):
            dm = self.data_manager
            here = np.arange(source_slice.start, source_slice.stop)
            dm.reserve_data("pairs", here)
            dm.write_data("pairs", here[::-1], np.ma.masked_array(cache[source_name], mask=False))
            dm.write_data("pairs", here[:0], cache[source_name][:0])
            flags = dm.reserve_data("flags", SIZE)
            dm.write_data("flags", flags, np.ones((SIZE, 2, 3), "?"))
            dm.write_ref(source_name, "pairs", np.c_[here, here].astype("f8"))
            dm.write_ref("flags", "pairs", np.ma.masked_array(np.c_[flags, source_slice], mask=[[0, 0], [1, 1]] * 2))
            dm.write_ref("flags", "pairs", np.empty((0, 2)))

    class Last(Sums):
        pass

    requires = ["pairs", {"name": "chain", "path": ["pairs", "flags"], "index_only": True}]
    modes.same(flow(Writes, Last, last={"requires": requires}), [Gen, Writes, Last])


def test_10_attributes(modes):
    """Attributes of all kinds, also set and read in `run`. Caught: attributes that later slices have set already."""

    class Sets(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            dm = self.data_manager
            dm.set_attrs("notes")
            before = dm.get_attrs("counts").get("last", -1) if dm.exists("counts") else -1
            dm.set_attrs("notes", text="a", yes=True, list=["a", "b"], array=np.arange(3), seen=before)
            assert before == source_slice.start - SIZE if source_slice.start else before == -1

    class Counts(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            time.sleep(0.002)
            self.data_manager.set_attrs("counts", last=source_slice.start)

    modes.same(flow(Sets, Counts), [Gen, Sets, Counts])


def test_11_row_numbers_as_ids(modes):
    """Two stages append to one dataset, and note the rows they got. Caught: appends in another order."""

    class Odd(Slow):
        def init(self, source_name):
            self.data_manager.create_dset("both", ROW)

        def write(self, source_name, source_slice, made):
            rows = self.data_manager.reserve_data("both", 2)
            made["id"] = np.arange(rows.start, rows.start + len(made))
            self.data_manager.write_data("both", rows, made[:2])

    class Even(Odd):
        pass

    found, _ = modes.same(flow(Odd, Sums, Even), [Gen, Odd, Sums, Even])
    ids = np.frombuffer(found["both/data"][3], ROW)["id"]
    assert ids.tolist() == list(range(4 * SLICES))


def test_12_state_across_slices(modes):
    """Running means, carry-over, one instance, one thread at a time. Caught: slices out of order or side by side."""

    class Mean(Slow):
        mean, count = 0.0, 0
        threads: list[int]

        def __init__(self, **params):
            super().__init__(**params)
            import threading

            self.thread, self.inside = threading.get_ident, 0
            self.threads = [self.thread()]

        def made(self, source, cache):
            self.inside += 1
            assert self.inside == 1
            for value in source["value"]:
                self.count += 1
                self.mean += (value - self.mean) / self.count * 0.1
            self.threads.append(self.thread())
            made = np.array(source)
            made["value"] = self.mean
            self.inside -= 1
            return made

        def finish(self, source_name):
            self.threads.append(self.thread())

    class Other(Mean):
        pass

    _, manager = modes.same(flow(Mean, Other), [Gen, Mean, Other])
    (home,) = {stage.threads[place] for stage in manager.stages for place in (0, -1)}
    first, second = (set(stage.threads) - {home} for stage in manager.stages)
    assert len(first) == len(second) == 1, "each stage has one thread where slices overlap"
    assert first != second


class Draws(Slow):
    """Writes what it draws."""

    def made(self, source, cache):
        made = np.array(source)
        made["value"] = np.random.normal(size=len(made))
        return made


class DrawsToo(Draws):
    """Another one."""


@pytest.fixture
def seeded():
    np.random.seed(7)


def test_13_shared_random_generator(modes, monkeypatch, caplog):
    """Two stages draw from `np.random`. Caught: draws in another order; two stages that nobody was warned of."""

    class Seeds(Gen):
        def init(self):
            super().init()
            np.random.seed(7)

    config = flow(Draws, DrawsToo, gen={"classname": "Seeds"})
    modes.same(config, [Seeds, Draws, DrawsToo])
    assert "stage 'draws' and stage 'drawstoo' draw from the same random generator" in caplog.text


def test_13_random_generator_of_each_stage(modes, caplog):
    """`runtime.random: per-stage`. Caught: draws that depend on what other stages draw, or when."""
    found, _ = modes.same(flow(Draws, DrawsToo), [Gen, Draws, DrawsToo], random="per-stage")
    alone, _ = modes.same(flow(Draws), [Gen, Draws], random="per-stage")
    assert found["draws/data"] == alone["draws/data"]
    assert found["draws/data"] != found["drawstoo/data"]
    assert "random" not in caplog.text


def test_14_init_in_series(modes):
    """Resources, generator and stages find what those before them have set up. Caught: `init` side by side."""

    class Table(H5FlowResource):
        values: ClassVar[dict[str, int]] = {}

        def init(self, source_name):
            time.sleep(0.01)
            self.values["gain"] = 3
            self.data_manager.set_attrs("setup", order="table")

    class User(H5FlowResource):
        def init(self, source_name):
            self.gain = resources["Table"].values["gain"] + 1

    class First(Slow):
        def init(self, source_name):
            super().init(source_name)
            time.sleep(0.01)
            attrs = self.data_manager.get_attrs("setup")
            self.data_manager.set_attrs("setup", order=attrs["order"] + " first", gain=resources["User"].gain)

    class Second(Slow):
        def init(self, source_name):
            super().init(source_name)
            attrs = self.data_manager.get_attrs("setup")
            self.data_manager.set_attrs("setup", order=attrs["order"] + " second")

        def made(self, source, cache):
            made = np.array(source)
            made["value"] *= resources["User"].gain * Table.values["gain"]
            return made

    config = flow(First, Second)
    config["resources"] = [{"classname": "Table"}, {"classname": "User"}]
    found, _ = modes.same(config, [Gen, Table, User, First, Second])
    assert found["setup"][0] == {"order": "table first second", "gain": 4}


def test_15_empty_in_the_middle(modes):
    """`EMPTY` ends the loop, also when more could follow. Caught: a generator that is asked again."""

    class Stops(Gen):
        asked = 0

        def __len__(self):
            return 1000

        def next(self):
            self.asked += 1
            return self.EMPTY if self.asked == 6 else super().next()

    _, manager = modes.same(flow(Slow, gen={"classname": "Stops"}), [Stops, Slow])
    assert manager.generator.asked == 6
    assert manager.done.slices == 5


def test_16_generators_that_write_their_source(modes):
    """The source grows while stages read earlier rows of it. Caught: stages that see rows of later slices."""

    class Looks(Sums):
        def run(self, source_name, source_slice, cache):
            time.sleep(0.002)
            dm = self.data_manager
            seen = [
                len(dm.get_dset(source_name)),
                dm[source_name, :]["value"].sum(),
                dm[source_name, -1]["value"].sum(),
                dm[source_name, max(0, source_slice.start - 2) : source_slice.stop + 10]["value"].sum(),
                *[0.0] * 4,
            ]
            dm.write_data(self.name, dm.reserve_data(self.name, 1), np.array(seen))

    found, _ = modes.same(flow(Looks), [Gen, Looks])
    seen = np.frombuffer(found["looks/data"][3]).reshape(-1, 8)
    assert seen[:, 0].tolist() == (SIZE * np.arange(1, SLICES + 1)).tolist()
