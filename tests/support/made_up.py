"""Components that do what a list of actions says, and whose output depends on everything that they have seen."""

from __future__ import annotations

import time

import numpy as np

from h5flow.core import H5FlowGenerator, H5FlowStage
from support.comparing import digest

ROW = np.dtype([("id", "u4"), ("digest", "u4"), ("value", "f8")])


class Source(H5FlowGenerator):
    """Yields slices of `sizes` rows, which it appends first, or which are all there before."""

    def __init__(self, sizes, appends, sleep, rewrites=False, **params):
        super().__init__(**params)
        self.sizes, self.appends, self.sleep, self.rewrites = sizes, appends, sleep, rewrites
        self.slice, self.row = 0, 0

    def init(self):
        self.data_manager.create_dset(self.dset_name, ROW)
        if not self.appends:
            total = sum(self.sizes)
            rows = self.data_manager.reserve_data(self.dset_name, total)
            self.data_manager.write_data(self.dset_name, rows, self.rows(0, total))

    def rows(self, start, stop):
        made = np.zeros(stop - start, ROW)
        made["id"] = np.arange(start, stop)
        made["value"] = np.arange(start, stop) / 8
        return made

    def next(self):
        if self.slice == len(self.sizes):
            return self.EMPTY
        time.sleep(self.sleep)
        start, stop = self.row, self.row + self.sizes[self.slice]
        if self.appends:
            rows = self.data_manager.reserve_data(self.dset_name, stop - start)
            self.data_manager.write_data(self.dset_name, rows, self.rows(start, stop))
        if self.rewrites and start:
            # what the slices before have made of the first row counts
            first = self.data_manager[self.dset_name, 0:1]
            first["value"] += 1
            self.data_manager.write_data(self.dset_name, slice(0, 1), first)
        self.slice, self.row = self.slice + 1, stop
        return slice(start, stop)


class Stage(H5FlowStage):
    """Does its actions on each slice, from slice number `since` of the action on."""

    def __init__(self, actions, sleep, **params):
        super().__init__(**params)
        self.actions, self.sleep = actions, sleep
        self.seen, self.count = 0, 0
        self.before = None

    def init(self, source_name):
        dm = self.data_manager
        dm.create_dset(self.name, ROW)
        dm.create_dset("shared", ROW)
        dm.create_ref(source_name, self.name)
        for action in self.actions:
            if action["do"] == "link":
                dm.create_ref(action["to"], self.name)

    def run(self, source_name, source_slice, cache):
        if self.sleep:
            time.sleep(self.sleep)
        self.seen = digest(cache, self.seen)
        self.rows = slice(0, 0)
        for action in self.actions:
            if self.count >= action["since"]:
                getattr(self, action["do"])(action, source_name, source_slice, cache)
        self.before = source_slice
        self.count += 1

    def made(self, count):
        made = np.zeros(count, ROW)
        made["id"], made["digest"] = np.arange(count), self.seen
        made["value"] = self.seen / 7 + np.arange(count)
        return made

    def look(self, value):
        self.seen = digest(value, self.seen)

    # writing

    def append(self, action, source_name, source_slice, cache):
        dm = self.data_manager
        count = (self.seen + action["count"]) % 4
        rows = dm.reserve_data(self.name, count)
        dm.write_data(self.name, rows, self.made(count))
        parents = np.arange(source_slice.start, source_slice.stop)
        refs = [(parent, row) for row in range(rows.start, rows.stop) for parent in parents if (parent + row) % 3]
        dm.write_ref(source_name, self.name, np.array(refs, "i8").reshape(-1, 2))
        self.rows = rows

    def link(self, action, source_name, source_slice, cache):
        count = len(self.data_manager.get_dset(action["to"]))
        if count and self.rows.stop > self.rows.start:
            refs = np.c_[[self.seen % count, count - 1], [self.rows.start, self.rows.stop - 1]]
            self.data_manager.write_ref(action["to"], self.name, refs)

    def append_shared(self, action, source_name, source_slice, cache):
        rows = self.data_manager.reserve_data("shared", 1 + action["count"] % 2)
        self.look(np.array([rows.start]))
        self.data_manager.write_data("shared", rows, self.made(rows.stop - rows.start))

    def update_source(self, action, source_name, source_slice, cache):
        rows = self.data_manager[source_name, source_slice]
        rows["digest"] += np.uint32(self.seen)
        if action["count"] % 2:
            self.data_manager.write_data(source_name, np.arange(source_slice.start, source_slice.stop), rows)
        else:
            self.data_manager.write_data(source_name, source_slice, rows)

    def update_before(self, action, source_name, source_slice, cache):
        if self.before is not None:
            rows = self.data_manager[source_name, self.before]
            rows["digest"] += np.uint32(self.seen)
            self.data_manager.write_data(source_name, self.before, rows)

    def update_other(self, action, source_name, source_slice, cache):
        count = self.data_manager.get_dset(action["to"]).shape[0]
        if count:
            at = [self.seen % count]
            self.data_manager.write_data(action["to"], at, self.made(1))

    def attributes(self, action, source_name, source_slice, cache):
        attrs = self.data_manager.get_attrs(action["to"])
        self.look(np.array([attrs.get("last", 0)], "u4"))
        self.data_manager.set_attrs(self.name, last=self.seen)

    def create(self, action, source_name, source_slice, cache):
        name = f"made/{action['count']}"
        self.look(np.array([self.data_manager.dset_exists(name)]))
        self.data_manager.create_dset(name, "u4")
        row = self.data_manager.reserve_data(name, 1)
        self.data_manager.write_data(name, row, np.array([self.seen], "u4"))

    # reading

    def read_whole(self, action, source_name, source_slice, cache):
        self.look(self.data_manager[action["to"], :])

    def read_last(self, action, source_name, source_slice, cache):
        rows = self.data_manager.get_dset(action["to"])
        self.look(rows[max(0, len(rows) - 3) : len(rows)])

    def read_rows(self, action, source_name, source_slice, cache):
        count = self.data_manager.get_dset(action["to"]).shape[0]
        if count:
            self.look(self.data_manager[action["to"], [self.seen % count, 0, -1]])

    def read_slice(self, action, source_name, source_slice, cache):
        self.look(self.data_manager[action["to"], source_slice])

    def follow(self, action, source_name, source_slice, cache):
        self.look(self.data_manager[source_name, action["to"], source_slice])

    def regions(self, action, source_name, source_slice, cache):
        self.look(self.data_manager.get_ref_region(source_name, action["to"])[source_slice])
        pairs, _ = self.data_manager.get_ref(source_name, action["to"])
        self.look(pairs[-3:])

    # the cache

    def replace(self, action, source_name, source_slice, cache):
        for key in sorted(cache):
            if cache[key] is not None and len(key) % 2 == action["count"] % 2:
                cache[key] = np.ma.getdata(cache[key]).copy()

    def change(self, action, source_name, source_slice, cache):
        for key in sorted(cache):
            if isinstance(cache[key], np.ma.MaskedArray) and len(cache[key]):
                cache[key][0] = np.ma.masked

    def discard(self, action, source_name, source_slice, cache):
        keys = sorted(cache)
        if keys:
            del cache[keys[self.seen % len(keys)]]

    def add(self, action, source_name, source_slice, cache):
        cache[action["to"]] = self.made(2)
        cache["note"] = self.made(1)

    def finish(self, source_name):
        self.data_manager.set_attrs(self.name, seen=self.seen, count=self.count)
