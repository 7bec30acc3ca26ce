"""Chains as users have them, by h5flow in either mode and by hand: `chains.py CHAIN WAY FOLDER`.

A chain is a generator or a loop over rows, and stages of Python loops and small numpy, each of which requires what is
before it and writes as much again. By hand it is a loop with h5py that reads, computes and writes one slice after the
other. Prints a line of JSON: seconds of the loop by the clock and of the processor, the peak of memory in MiB.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import h5py
import numpy as np

EVENT = np.dtype([("id", "u8"), ("light", "f4", (579,))])  # 2,324 bytes, of which h5py makes chunks of eight
WAVE = np.dtype([("samples", "i2", (32768,))])  # 65,536 bytes
PULSE = np.dtype([("id", "u8"), ("channel", "u2"), ("charge", "f8")])
HIT = np.dtype([("id", "u8"), ("pulse", "u8"), ("charge", "f8"), ("time", "f8")])

#: Rows of a slice.
EVENTS, PULSES = 8, 256


def python_loop(values, repeat):
    """What stages do mostly: small steps in Python."""
    total = 0.0
    for _ in range(repeat):
        for value in values:
            total = 0.5 * total + value * (1.0 if value > total else 0.25)
    return total


def small_numpy(values, repeat):
    """... and numpy with arrays too small for anything to be gained by other threads."""
    for _ in range(repeat):
        kept = values[values > values.mean()]
        values = values + np.interp(values, np.sort(values), np.sort(values)[::-1]) * 1e-6 + len(kept) * 1e-9
    return values


def hits_of(pulses, work):
    """Hits of the pulses of a slice."""
    found = np.zeros(len(pulses), HIT)
    found["id"], found["pulse"] = pulses["id"], pulses["id"]
    found["charge"] = small_numpy(pulses["charge"], work)
    found["time"] = python_loop(pulses["charge"].tolist(), work)
    return found


def filtered(waves, work):
    """Waveforms of the same shape."""
    result = np.zeros(len(waves), WAVE)
    for number, samples in enumerate(waves["samples"]):
        result["samples"][number] = samples + np.int16(python_loop(samples[:256].tolist(), work)) % np.int16(3)
    return result


def make_waves(path, slices, per_event):
    """An input as another command makes it: events, each with some waveforms."""
    from h5flow.data import H5FlowDataManager

    count = EVENTS * slices
    random = np.random.default_rng(1)
    with H5FlowDataManager(str(path), mpi=False) as dm:
        dm.create_dset("events", EVENT)
        dm.create_dset("waves", WAVE)
        dm.create_ref("events", "waves")
        for start in range(0, count, EVENTS):
            rows = dm.reserve_data("events", EVENTS)
            events = np.zeros(EVENTS, EVENT)
            events["id"] = np.arange(start, start + EVENTS)
            dm.write_data("events", rows, events)
            waves = np.zeros(EVENTS * per_event, WAVE)
            waves["samples"] = random.integers(-50, 50, (len(waves), 32768))
            rows = dm.reserve_data("waves", len(waves))
            dm.write_data("waves", rows, waves)
            dm.write_ref("events", "waves", np.c_[np.repeat(events["id"], per_event), np.arange(rows.start, rows.stop)])


def components():
    """The classes of the chains, in a module of their own."""
    from types import ModuleType

    from h5flow.core import H5FlowGenerator, H5FlowStage

    class Pulses(H5FlowGenerator):
        def __init__(self, slices, **params):
            super().__init__(**params)
            self.left, self.number = slices, 0

        def init(self):
            self.data_manager.create_dset(self.dset_name, PULSE)

        def next(self):
            if not self.left:
                return self.EMPTY
            self.left -= 1
            rows = self.data_manager.reserve_data(self.dset_name, PULSES)
            self.data_manager.write_data(self.dset_name, rows, pulses_of(rows.start))
            return rows

    class Hits(H5FlowStage):
        def __init__(self, of, into, work, **params):
            super().__init__(**params)
            self.of, self.into, self.work = of, into, work

        def init(self, source_name):
            self.data_manager.create_dset(self.into, HIT)
            self.data_manager.create_ref(source_name, self.into)

        def run(self, source_name, source_slice, cache):
            before = np.ma.getdata(cache[self.of])
            found = hits_of((before if before.ndim == 1 else before[:, 0]).copy(), self.work)
            rows = self.data_manager.reserve_data(self.into, len(found))
            self.data_manager.write_data(self.into, rows, found)
            self.data_manager.write_ref(source_name, self.into, np.c_[source_slice, rows])

    class Filter(H5FlowStage):
        def __init__(self, of, into, work, **params):
            super().__init__(**params)
            self.of, self.into, self.work = of, into, work

        def init(self, source_name):
            self.data_manager.create_dset(self.into, WAVE)
            self.data_manager.create_ref(source_name, self.into)

        def run(self, source_name, source_slice, cache):
            before = cache[self.of]
            found = filtered(before.data.reshape(-1), self.work)
            rows = self.data_manager.reserve_data(self.into, len(found))
            self.data_manager.write_data(self.into, rows, found)
            parents = np.repeat(np.r_[source_slice], before.shape[1])
            self.data_manager.write_ref(source_name, self.into, np.c_[parents, np.r_[rows]])

    module = ModuleType("chain_components")
    vars(module).update(Pulses=Pulses, Hits=Hits, Filter=Filter)
    sys.modules[module.__name__] = module


def pulses_of(start):
    """What the generator makes."""
    made = np.zeros(PULSES, PULSE)
    made["id"] = np.arange(start, start + PULSES)
    made["charge"] = np.random.default_rng(start).exponential(size=PULSES)
    return made


def stage(kind, of, into, work, requires):
    return {
        "classname": kind,
        "path": "chain_components",
        "params": {"of": of, "into": into, "work": work},
        "requires": requires,
    }


def pulses_chain(slices, work):
    return {
        "flow": {"source": "gen", "stages": ["first", "second", "third"]},
        "gen": {
            "classname": "Pulses",
            "path": "chain_components",
            "dset_name": "pulses",
            "params": {"slices": slices},
        },
        "first": stage("Hits", "pulses", "hits/raw", work, []),
        "second": stage("Hits", "hits/raw", "hits/calib", work, ["hits/raw"]),
        "third": stage("Hits", "hits/calib", "hits/final", work, ["hits/calib"]),
    }


def waves_chain(work):
    return {
        "flow": {"source": "events", "stages": ["first", "second", "third"]},
        "first": stage("Filter", "waves", "filtered", work, ["waves"]),
        "second": stage("Filter", "filtered", "deconvolved", work, ["filtered"]),
        "third": stage("Filter", "deconvolved", "summed", work, ["deconvolved"]),
    }


def append(file, name, rows, **options):
    """Add rows to a dataset, as one does by hand; says which."""
    if name not in file:
        file.create_dataset(
            name, shape=(0, *rows.shape[1:]), maxshape=(None, *rows.shape[1:]), dtype=rows.dtype, **options
        )
    dataset = file[name]
    start = len(dataset)
    dataset.resize(start + len(rows), axis=0)
    dataset[start:] = rows
    return start


def pulses_by_hand(out, slices, work):
    with h5py.File(out, "w") as file:
        for number in range(slices):
            before = pulses_of(number * PULSES)
            append(file, "pulses/data", before, chunks=True)
            for name in ("hits/raw", "hits/calib", "hits/final"):
                before = hits_of(before.copy(), work)
                start = append(file, f"{name}/data", before, chunks=True)
                pairs = np.c_[np.arange(PULSES) + number * PULSES, np.arange(start, start + PULSES)].astype("u4")
                append(file, f"pulses/ref/{name}/ref", pairs, chunks=True)


def waves_by_hand(source, out, slices, work):
    import shutil

    shutil.copyfile(source, out)
    with h5py.File(out, "r+") as file:
        per_event = len(file["waves/data"]) // len(file["events/data"])
        for number in range(slices):
            events = file["events/data"][number * EVENTS : (number + 1) * EVENTS]
            pairs = file["events/ref/waves/ref"][number * EVENTS * per_event : (number + 1) * EVENTS * per_event]
            before = file["waves/data"][int(pairs[0, 1]) : int(pairs[-1, 1]) + 1]
            found = {"waves": before}  # as in a cache, or in variables of one function
            for name in ("filtered", "deconvolved", "summed"):
                before = found[name] = filtered(before, work)
                start = append(file, f"{name}/data", before, chunks=True)
                pairs = np.c_[np.repeat(events["id"], per_event), np.arange(start, start + len(before))].astype("u4")
                append(file, f"events/ref/{name}/ref", pairs, chunks=True)


#: What `chains.py` can run: slices, work, waveforms of an event.
CHAINS = {
    "pulses-5ms": (300, 40, 0),
    "pulses-50ms": (40, 500, 0),
    "pulses-300ms": (16, 3000, 0),
    "second-command": (40, 500, 0),
    "waves-64kB": (60, 3, 1),
    "waves-196kB": (60, 3, 3),
    "waves-2MB": (30, 1, 32),
}


def peak_memory():
    """In MiB; what getrusage has begins with that of the process that has started this one."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


def checksum(path, names):
    with h5py.File(path) as file:
        return hashlib.sha256(b"".join(file[f"{name}/data"][()].tobytes() for name in names)).hexdigest()[:12]


def main(chain, way, folder):
    slices, work, per_event = CHAINS[chain]
    source, out = Path(folder, f"{chain}.source.h5"), Path(folder, f"{chain}.{way}.h5")
    out.unlink(missing_ok=True)
    if way == "make":
        if per_event:
            make_waves(source, slices, per_event)
        elif chain == "second-command":
            from h5flow.core import H5FlowManager

            components()
            manager = H5FlowManager(pulses_chain(slices, 1), str(source), mpi=False)
            manager.init(), manager.run(), manager.finish()
        return
    if way == "by-hand":
        began, worked = time.perf_counter(), time.process_time()
        if per_event:
            waves_by_hand(source, out, slices, work)
        elif chain == "second-command":
            import shutil

            shutil.copyfile(source, out)
            with h5py.File(out, "r+") as file:
                for start in range(0, len(file["pulses/data"]), PULSES):
                    before = file["pulses/data"][start : start + PULSES]
                    for name in ("more/raw", "more/calib", "more/final"):
                        before = hits_of(before.copy(), work)
                        first = append(file, f"{name}/data", before, chunks=True)
                        pairs = np.c_[np.arange(PULSES) + start, np.arange(first, first + PULSES)].astype("u4")
                        append(file, f"pulses/ref/{name}/ref", pairs, chunks=True)
        else:
            pulses_by_hand(out, slices, work)
    else:
        from h5flow.core import H5FlowManager

        components()
        if per_event:
            config = waves_chain(work)
        elif chain == "second-command":
            config = {
                "flow": {"source": "loop", "stages": ["first", "second", "third"]},
                "loop": {
                    "classname": "H5FlowDatasetLoopGenerator",
                    "dset_name": "pulses",
                    "params": {"chunk_size": PULSES},
                },
                "first": stage("Hits", "pulses", "more/raw", work, []),
                "second": stage("Hits", "more/raw", "more/calib", work, ["more/raw"]),
                "third": stage("Hits", "more/calib", "more/final", work, ["more/calib"]),
            }
        else:
            config = pulses_chain(slices, work)
        config["runtime"] = {"mode": way}
        began, worked = time.perf_counter(), time.process_time()
        manager = H5FlowManager(config, str(out), str(source) if source.exists() else None, mpi=False)
        manager.init()
        manager.run()
        manager.finish()
    seconds, processor = time.perf_counter() - began, time.process_time() - worked
    last = "summed" if per_event else "more/final" if chain == "second-command" else "hits/final"
    sys.stdout.write(
        json.dumps(
            {
                "seconds": round(seconds, 3),
                "processor": round(processor, 3),
                "peak": peak_memory(),
                "result": checksum(out, [last]),
            }
        )
    )
    out.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
