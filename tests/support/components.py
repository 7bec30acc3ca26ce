"""Components as they run on several ranks."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from h5flow.core import H5FlowGenerator, H5FlowStage
from h5flow.modules import H5FlowDatasetLoopGenerator

ROW = np.dtype([("id", "i8"), ("rank", "i4"), ("value", "f8")])


def rows_of(rows, rank):
    made = np.zeros(rows.stop - rows.start, ROW)
    made["id"], made["rank"], made["value"] = np.arange(rows.start, rows.stop), rank, np.arange(len(made)) / 4
    return made


class Source(H5FlowGenerator):
    """Appends slices, on each rank another number of them, of other sizes."""

    def __init__(self, slices=6, sleep=0.0, **params):
        super().__init__(**params)
        self.slices, self.sleep = slices, sleep
        self.number = 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, ROW)

    def next(self):
        if self.number >= self.slices - self.rank:
            return self.EMPTY
        self.number += 1
        time.sleep(self.sleep * ((self.number + self.rank) % 3))
        rows = self.data_manager.reserve_data(self.dset_name, 1 + (self.number + self.rank) % 4)
        self.data_manager.write_data(self.dset_name, rows, rows_of(rows, self.rank))
        return rows


class Ring(Source):
    """Passes the number of its slices around between `next` calls, as generators do that hand rows over."""

    def next(self):
        passed = self.comm.sendrecv(self.number, dest=(self.rank + 1) % self.size, source=(self.rank - 1) % self.size)
        assert passed in (self.number, self.number - 1, self.number + 1)
        if self.number == 5:
            return self.EMPTY
        self.number += 1
        rows = self.data_manager.reserve_data(self.dset_name, 2)
        self.data_manager.write_data(self.dset_name, rows, rows_of(rows, self.rank))
        return rows


class Iterates(Source):
    """Takes its slices from an iterator, the end of which is all that it says in the end."""

    def init(self):
        super().init()
        sizes = [1 + (number + self.rank) % 4 for number in range(1, self.slices - self.rank + 1)]
        self.parts = iter([self.data_manager.reserve_data(self.dset_name, size) for size in sizes])

    def next(self):
        return next(self.parts)


class Meets(Source):
    """Has all its rows before the loop; ranks wait for each other in each `next`, and nobody else knows of that."""

    def init(self):
        super().init()
        self.parts = [self.data_manager.reserve_data(self.dset_name, 2) for _ in range(self.slices)]

    def next(self):
        if self.number == len(self.parts):
            return self.EMPTY
        self.comm.barrier()
        self.number += 1
        return self.parts[self.number - 1]


class Hits(H5FlowStage):
    """Appends hits to some of the slices, and links them; on other slices it makes no call at all."""

    def __init__(self, every=2, sleep=0.0, **params):
        super().__init__(**params)
        self.every, self.sleep = every, sleep
        self.number = 0

    def init(self, source_name):
        self.data_manager.create_dset(self.name, ROW)
        self.data_manager.create_ref(source_name, self.name)

    def run(self, source_name, source_slice, cache):
        self.number += 1
        time.sleep(self.sleep * ((self.number + 2 * self.rank) % 4))
        found = cache[source_name]
        if len(found) and (self.number + self.rank) % self.every == 0:
            rows = self.data_manager.reserve_data(self.name, 2 * len(found))
            self.data_manager.write_data(self.name, rows, rows_of(rows, self.rank))
            parents = np.repeat(np.arange(source_slice.start, source_slice.stop), 2)
            self.data_manager.write_ref(source_name, self.name, np.c_[parents, np.arange(rows.start, rows.stop)])


class Sums(H5FlowStage):
    """Appends a row for each row of the slice, made of what it requires."""

    number = 0

    def init(self, source_name):
        self.data_manager.create_dset(self.name, "f8")
        self.data_manager.create_ref(self.name, source_name)

    def run(self, source_name, source_slice, cache):
        self.number += 1
        if self.number == 7:
            Path("seventh").touch()
        own = cache[source_name]
        required = [np.ma.filled(cache[entry["name"]]["value"], 0) for entry in self.requires]
        values = sum((part.sum(axis=tuple(range(1, part.ndim)))[: len(own)] for part in required), np.zeros(len(own)))
        rows = self.data_manager.reserve_data(self.name, len(own))
        self.data_manager.write_data(self.name, rows, values)
        # what has just been written is there at once
        assert (self.data_manager[self.name, rows] == values).all()
        parents = np.arange(source_slice.start, source_slice.stop) if len(own) else np.zeros(0, int)
        self.data_manager.write_ref(source_name, self.name, np.c_[parents, np.r_[rows]])

    def finish(self, source_name):
        counted = self.comm.allreduce(len(self.data_manager.get_dset(self.name))) if self.comm else 0
        everything = zlib.crc32(np.ascontiguousarray(self.data_manager[self.name, :]).tobytes())
        self.data_manager.set_attrs(self.name, counted=counted, everything=everything, made_by=[0, 1])


class Marks(H5FlowStage):
    """Changes its own rows of the source, and appends to a dataset that it makes with its first rows."""

    def run(self, source_name, source_slice, cache):
        rows = cache[source_name]
        if not len(rows):
            return
        rows["value"] += 100
        self.data_manager.write_data(source_name, source_slice, rows)
        if not self.data_manager.dset_exists("made"):
            self.data_manager.create_dset("made", rows.dtype)
        where = self.data_manager.reserve_data("made", 1)
        self.data_manager.write_data("made", where, rows[:1])
        self.data_manager.set_attrs("made", kind="first rows")


class Crosswise(H5FlowStage):
    """Makes calls in another order on each rank, and waits for some of them, so that ranks wait for each other."""

    def init(self, source_name):
        self.data_manager.create_dset("extra", "i4")
        self.data_manager.create_dset("hits", ROW)
        self.data_manager.create_ref(source_name, "hits")

    def run(self, source_name, source_slice, cache):
        dm, own = self.data_manager, cache[source_name]
        numbers = np.arange(source_slice.start, source_slice.stop)[: len(own)]
        hits = dm.reserve_data("hits", len(own))
        dm.write_data("hits", hits, own)
        if self.rank == 2:
            dm.reserve_data("extra", 1)
        dm.write_ref(source_name, "hits", np.c_[numbers, np.r_[hits]])
        if self.rank == 1 and len(own):
            assert (dm[source_name, "hits", source_slice][:, 0] == own).all()


class Barrier(H5FlowStage):
    """Waits for the other ranks in each `run`."""

    def run(self, source_name, source_slice, cache):
        self.comm.barrier()


class Fails(H5FlowStage):
    """Does something on the last rank that no rank should do, from the third slice on."""

    def __init__(self, how, **params):
        super().__init__(**params)
        self.how, self.number = how, 0

    def run(self, source_name, source_slice, cache):
        self.number += 1
        if self.rank == self.size - 1 and self.number >= 3:
            getattr(self, self.how)()

    def raises(self):
        raise ValueError("this rank's own mistake")

    def exits(self):
        sys.exit(3)

    def interrupts(self):
        raise KeyboardInterrupt

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def sleeps(self):
        time.sleep(1000)

    def receives(self):
        self.comm.recv(source=0)

    def reserves(self):
        self.data_manager.reserve_data("extra", 1)

    def init(self, source_name):
        self.data_manager.create_dset("extra", "i4")


class Signalled(H5FlowStage):
    """Has its last rank told to stop, `during` its `init`, its third `run`, its `last` one, or its `finish`."""

    def __init__(self, during, **params):
        super().__init__(**params)
        self.during, self.number = during, 0

    def told(self, now):
        if now == self.during and self.rank == self.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)  # until the main thread, which Python hands it to, has heard of it

    def init(self, source_name):
        self.told("init")

    def run(self, source_name, source_slice, cache):
        self.number += 1
        time.sleep(0.05)
        self.told({3: "run", 6: "last"}.get(self.number))

    def finish(self, source_name):
        self.told("finish")


class Handles(H5FlowStage):
    """Reads and writes rows through h5py's objects in all the ways that there are."""

    def init(self, source_name):
        self.data_manager.create_dset("by_hand", ROW)
        self.data_manager.create_dset("wide", "i4", shape=(3,))
        self.rows = self.data_manager.get_dset("by_hand")
        self.wide = self.data_manager.get_dset("wide")

    def run(self, source_name, source_slice, cache):
        dm, rows = self.data_manager, self.rows
        made = dm.reserve_data("by_hand", 6)
        first = made.start
        rows[made] = rows_of(made, self.rank)
        rows[first, "rank"] = 10
        rows["rank", first + 1 : first + 3] = [11, 12]
        rows[[first + 3, first + 5]] = np.zeros(2, ROW)
        rows.write_direct(rows_of(slice(7, 8), 13), np.s_[0:1], np.s_[first + 4 : first + 5])
        assert rows[made]["rank"].tolist() == [10, 11, 12, 0, 13, 0]
        assert rows[first : first + 6 : 2]["id"].tolist() == [first, first + 2, 7]
        assert rows[[first, first + 4]]["rank"].tolist() == [10, 13]
        assert rows["id", made].tolist() == [first, first + 1, first + 2, 0, 7, 0]
        assert rows.fields(["id", "value"])[made]["value"].tolist() == [0, 0.25, 0.5, 0, 0, 0]
        into = np.zeros(6, ROW)
        rows.read_direct(into, np.s_[first : first + 6])
        assert into["rank"].tolist() == [10, 11, 12, 0, 13, 0]
        assert dm.fh["by_hand/data"][first]["rank"] == 10
        assert dm["by_hand/data"].dtype == ROW
        for refused in (2**40, -(2**40), np.nan):
            try:
                rows["rank", first] = refused
            except ValueError as error:
                assert "by_hand" in str(error)  # noqa: PT017
            else:
                raise AssertionError(refused)
        own = dm.reserve_data("wide", 2)
        mask = np.zeros(self.wide.shape, bool)
        mask[own] = [[True, False, True], [False, True, False]]
        self.wide[mask] = [7, 8, 9]
        assert self.wide[mask].tolist() == [7, 8, 9]
        assert self.wide[own].tolist() == [[7, 0, 8], [0, 9, 0]]
        source = dm.get_dset(source_name)
        assert source[source_slice].tolist() == cache[source_name].tolist()
        assert dm[source_name].attrs["made"] == "for a test"

    def finish(self, source_name):
        mask = self.wide[:] > 7
        assert self.wide[mask].tolist() == [8, 9] * (len(self.wide) // 2)
        assert self.rows[::6]["rank"].tolist() == [10] * (len(self.rows) // 6)
        assert self.rows[:]["rank"].tolist() == [10, 11, 12, 0, 13, 0] * (len(self.rows) // 6)


class ByHand(H5FlowStage):
    """Makes and changes objects with h5py itself, on all ranks alike or on `only` one of them."""

    def __init__(self, only=None, **params):
        super().__init__(**params)
        self.only, self.number = only, 0

    def run(self, source_name, source_slice, cache):
        self.number += 1
        if self.only not in (None, self.rank) or self.number > 4:
            return
        file = self.data_manager.fh
        group = file.require_group("mine")
        group.create_dataset(f"table {self.number}", data=np.arange(5))
        group.attrs["tables"] = self.number
        group[f"table {self.number}"].attrs["unit"] = "mm"
        if self.number == 3:
            del group["table 2"]
            file.move("mine/table 1", "mine/first")


class Attributes(H5FlowStage):
    """Reads texts and references among the attributes of the input, which are the same on each rank."""

    def run(self, source_name, source_slice, cache):
        attributes = self.data_manager.get_attrs(source_name)
        assert attributes["texts"].tolist() == ["one", "and another one"]
        assert self.data_manager.fh[attributes["table"]].name == f"/{source_name}/data"


class Bulk(Source):
    """Appends slices of so many rows that files get room for more again and again."""

    def next(self):
        if self.number >= self.slices - self.rank:
            return self.EMPTY
        self.number += 1
        rows = self.data_manager.reserve_data(self.dset_name, 7000 + 100 * self.rank + self.number)
        self.data_manager.write_data(self.dset_name, rows, rows_of(rows, self.rank))
        return rows


class Links(H5FlowStage):
    """Links each row of a slice to a row of `hits`, and some to rows that come later, or never."""

    def init(self, source_name):
        self.data_manager.create_dset("hits", ROW)
        self.data_manager.create_ref(source_name, "hits")

    def run(self, source_name, source_slice, cache):
        count = len(cache[source_name])
        rows = self.data_manager.reserve_data("hits", count)
        self.data_manager.write_data("hits", rows, rows_of(rows, self.rank))
        parents = np.arange(source_slice.start, source_slice.stop)[:count]
        pairs = np.c_[parents, np.arange(rows.start, rows.stop)]
        self.data_manager.write_ref(source_name, "hits", pairs)
        pairs[:] = 0  # an array of the stage's own, which it may use again
        if count:
            assert (self.data_manager[source_name, "hits", source_slice]["id"][:, 0] == np.r_[rows]).all()
            self.data_manager.write_ref(source_name, "hits", [(source_slice.start, rows.stop + 70000)])


class Compresses(H5FlowStage):
    """Reads compressed rows of the input, and writes to them if it `writes`."""

    def __init__(self, writes=False, **params):
        super().__init__(**params)
        self.writes = writes

    def run(self, source_name, source_slice, cache):
        rows = cache[source_name]
        assert (rows["id"] == np.arange(source_slice.start, source_slice.stop)[: len(rows)]).all()
        if self.writes:
            rows["rank"] = 7
            self.data_manager.write_data(source_name, source_slice, rows)


class Texts(H5FlowStage):
    """Makes a dataset of texts of any length."""

    def init(self, source_name):
        import h5py

        self.data_manager.create_dset("texts", h5py.string_dtype())

    def run(self, source_name, source_slice, cache):
        rows = self.data_manager.reserve_data("texts", 1)
        self.data_manager.write_data("texts", rows, [f"{self.rank} of {self.size}"])


class CopiesItself(H5FlowDatasetLoopGenerator):
    """Makes the copy of the input by hand, or as it is made for it."""

    def __init__(self, by_hand, **params):
        self.by_hand = by_hand
        super().__init__(**params)

    def copy(self, f0, f1, block=True):
        if not self.by_hand:
            super().copy(f0, f1, block)
            return
        if self.rank == 0 and f0 != f1:
            shutil.copyfile(f0, f1)
        if self.size > 1:
            self.comm.barrier()


class LeadsTo(H5FlowStage):
    """The last rank alone writes references of HDF5 to a dataset that becomes long afterwards."""

    def init(self, source_name):
        import h5py

        self.data_manager.create_dset("long", "f8")
        self.data_manager.create_dset("leads", h5py.ref_dtype)
        self.told = False

    def run(self, source_name, source_slice, cache):
        dm, last = self.data_manager, self.rank == self.size - 1
        rows = dm.reserve_data("long", 4000)
        dm.write_data("long", rows, 1.0)
        row = dm.reserve_data("leads", int(last and not self.told))
        if row.start < row.stop:
            self.told = True
            lead = np.empty(1, dm.get_dset("leads").dtype)
            lead[0] = dm.get_dset("long").ref
            dm.write_data("leads", row, lead)


class HandsOver(H5FlowGenerator):
    """One rank, each time another one, makes rows with what belongs to them, and tells each rank which are its own."""

    def __init__(self, slices=6, reserves="together", **params):
        super().__init__(**params)
        self.slices, self.reserves, self.number = slices, reserves, 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, ROW)
        self.data_manager.create_dset("waves", ROW)
        self.data_manager.create_ref(self.dset_name, "waves")

    def next(self):
        if self.number == self.slices:
            return self.EMPTY
        dm, maker = self.data_manager, self.number % self.size
        self.number += 1
        count = 3 * self.size - 1 if self.rank == maker else 0
        rows = dm.reserve_data(self.dset_name, count)
        waves = dm.reserve_data("waves", 2 * count)
        dm.write_data(self.dset_name, rows, rows_of(rows, self.rank))
        dm.write_data("waves", waves, rows_of(waves, self.rank))
        parents = np.repeat(np.arange(rows.start, rows.stop), 2)
        dm.write_ref(self.dset_name, "waves", np.c_[parents, np.arange(waves.start, waves.stop)])
        rows = self.comm.bcast(rows, root=maker)
        first = rows.start + 3 * self.rank
        return slice(first, min(first + 3, rows.stop))


class Squares(H5FlowStage):
    """Appends a row for each row of the slice, whoever has made that, and changes the row itself."""

    def init(self, source_name):
        self.data_manager.create_dset("squares", "f8")
        self.data_manager.create_ref("squares", source_name)

    def run(self, source_name, source_slice, cache):
        dm, own = self.data_manager, cache[source_name].copy()
        numbers = np.arange(source_slice.start, source_slice.stop)[: len(own)]
        assert own["id"].tolist() == numbers.tolist()
        assert cache["waves"].shape == (len(own), 2 if len(own) else 1)
        assert cache["waves"]["id"].tolist() == [[2 * number, 2 * number + 1] for number in numbers]
        rows = dm.reserve_data("squares", len(own))
        dm.write_data("squares", rows, own["id"] ** 2.0)
        dm.write_ref("squares", source_name, np.c_[np.r_[rows], numbers][: len(own)])
        own["rank"] = 100 + self.rank
        dm.write_data(source_name, source_slice, own)


class Sees(H5FlowStage):
    """Looks, in all the ways that there are, at what stages before it have made of rows of other ranks."""

    def run(self, source_name, source_slice, cache):
        dm, own = self.data_manager, cache[source_name]
        numbers = np.arange(source_slice.start, source_slice.stop)[: len(own)]
        if not len(own):
            return
        assert cache["squares"][:, 0].tolist() == (numbers**2.0).tolist()
        assert (dm[source_name, source_slice]["rank"] == 100 + self.rank).all()
        assert (dm[source_name, numbers[::-1]]["rank"] == 100 + self.rank).all()
        assert dm.get_dset(source_name)["id", source_slice].tolist() == numbers.tolist()
        assert dm["squares", source_name, "waves", :].shape[1:] == (1, 2)
        there = dm[source_name, 0 : source_slice.stop]
        assert there["id"].tolist() == list(range(source_slice.stop))


class Looks(H5FlowStage):
    """Follows references of rows that other ranks have made, in all the ways that there are."""

    def init(self, source_name):
        dm = self.data_manager
        self.ref, self.data = dm.get_ref(source_name, "waves")[0], dm.get_dset("waves")
        self.region, self.back = dm.get_ref_region(source_name, "waves"), dm.get_ref_region("waves", source_name)

    def run(self, source_name, source_slice, cache):
        if len(cache[source_name]):
            self.look(source_name, 0, source_slice.stop)
            self.look(source_name, source_slice.start, source_slice.stop)

    def finish(self, source_name):
        self.look(source_name, 0, len(self.data_manager.get_dset(source_name)))

    def look(self, source_name, start, stop):
        from h5flow.data import dereference, dereference_chain

        dm, sel, ref, data = self.data_manager, slice(start, stop), self.ref, self.data
        numbers = np.arange(start, stop)
        children = np.c_[2 * numbers, 2 * numbers + 1]
        fresh = dm.get_ref("waves", source_name)[0]
        ways = {
            # The first has to bring what the others could find as it is.
            "a handle": lambda: dereference(sel, ref, data),
            "a new handle": lambda: dereference(sel, fresh, data),
            "one of get_refs": lambda: dereference(sel, dm.get_refs("waves")[0], data),
            "an array": lambda: dereference(sel, ref[:], data),
            "the handle as an array": lambda: dereference(sel, np.asarray(ref), data),
            "a region": lambda: dereference(sel, ref, data, self.region),
            "an array and a region": lambda: dereference(sel, ref[:], data, self.region),
            "arrays": lambda: dereference(sel, ref[:], data, self.region[:]),
            "a region as an array": lambda: dereference(sel, ref, data, self.region[:]),
            "a chain": lambda: dereference_chain(sel, [ref], data),
            "a name": lambda: dm[source_name, "waves", sel],
            "rows by number": lambda: dereference(numbers, ref, data),
        }
        turns = list(ways)
        first = (self.rank + start) % len(turns)
        for way in turns[first:] + turns[:first]:
            found = ways[way]()
            assert found["id"].tolist() == children.tolist(), (way, found["id"])
        parents = dereference(slice(2 * start, 2 * stop), ref, ref_direction=(1, 0))
        assert parents.tolist() == np.repeat(numbers, 2)[:, np.newaxis].tolist()
        for pairs in (ref[:], ref[len(ref) // 2 :], ref[:][::-1], np.array(list(ref)), ref[()], ref[[0, len(ref) - 1]]):
            assert pairs.max() < 1 << 31
            assert (pairs[:, 0] == pairs[:, 1] // 2).all()
        assert ref[-1].max() < 1 << 31
        into = np.zeros(ref.shape, "u4")
        ref.read_direct(into)
        assert into.tolist() == ref[:].tolist()
        assert set(map(tuple, np.c_[np.repeat(numbers, 2), children.ravel()])) <= set(map(tuple, ref[:].tolist()))


class LooksFirst(Looks):
    """Looks in one way only, so that nothing else has brought what it needs."""

    def __init__(self, way, **params):
        super().__init__(**params)
        self.way = way

    def finish(self, source_name):
        pass

    def look(self, source_name, start, stop):
        from h5flow.data import dereference

        numbers = np.arange(start, stop)
        if self.way == "handle":
            found = dereference(slice(start, stop), self.ref, self.data)["id"]
        elif self.way == "backwards":
            found = dereference(slice(2 * start, 2 * stop), self.ref, ref_direction=(1, 0))
            assert found[:, 0].tolist() == np.repeat(numbers, 2).tolist()
            return
        else:
            pairs = self.ref[:] if self.way == "array" else np.array(list(self.ref))
            assert pairs.max() < 1 << 31
            found = dereference(slice(start, stop), pairs, self.data)["id"]
        assert found.tolist() == np.c_[2 * numbers, 2 * numbers + 1].tolist()


class Counts(H5FlowStage):
    """Sets attributes of all kinds, of which some differ on each rank."""

    def init(self, source_name):
        dm = self.data_manager
        dm.create_dset("hits", "i4")
        dm.set_attrs("hits", same=1, nan=float("nan"), array=np.arange(3), rank=self.rank)
        dm.set_attrs("hits", **{f"of_{self.rank}": self.rank})
        dm.set_attrs(f"group_{self.rank}", mine=self.rank)
        self.count = 0

    def run(self, source_name, source_slice, cache):
        self.count += len(cache[source_name])
        self.data_manager.set_attrs("hits", rank=self.rank)  # told once

    def finish(self, source_name):
        dm = self.data_manager
        dm.set_attrs("hits", count=self.count)
        dm.get_attrs("hits")["live"] = np.array([self.rank, np.nan])
        dm.set_attrs("hits", total=self.comm.allreduce(self.count) if self.comm else self.count)
        attrs = dict(dm.get_attrs("hits"))
        assert attrs["rank"] == 0
        assert sorted(key for key in attrs if key.startswith("of_")) == [f"of_{rank}" for rank in range(self.size)]
        if self.rank == self.size - 1:
            dm.set_attrs("hits", last=self.rank)


class EndsBadly(Source):
    """On the last rank `next` ends as no generator may, after three slices."""

    def __init__(self, how, **params):
        super().__init__(**params)
        self.how = how

    def next(self):
        if self.rank == self.size - 1 and self.number == 3:
            return None if self.how == "forgets" else next(iter([]))
        return super().next()
