"""The generator: straight tracks, and the waveforms that their ionisation makes on the pixels."""

from __future__ import annotations

import numpy as np

from h5flow import resources
from h5flow.core import H5FlowGenerator

TICKS = 128
WAVEFORM = np.dtype([("event", "u4"), ("channel", "u2"), ("samples", "i2", (TICKS,))])
TRACK = np.dtype([("event", "u4"), ("start", "f4", (3,)), ("end", "f4", (3,)), ("dqdx", "f4")])
NOISE = np.dtype([("samples", "i2", (2048,))])

_PULSE_WIDTH = 2.0  # ticks
_SIGMA = 4.0  # of the noise


class DetectorSimulation(H5FlowGenerator):
    """Simulates `events` tracks, `events_per_slice` at a time; equal seeds give equal tracks.

    Several ranks take turns: the first simulates the first slice, the second the next, and so on.
    Writes the waveforms of hit channels, `mc/tracks` with references to the waveforms that each track made,
    and `raw/noise`, what the channel of each waveform showed before there was a track.
    """

    class_version = "1.0.0"

    default_seed = 0
    default_events = 100
    default_events_per_slice = 8

    def __init__(self, **params):
        super().__init__(**params)
        self.seed = params.get("seed", self.default_seed)
        self.events_per_slice = params.get("events_per_slice", self.default_events_per_slice)
        if self.end_position is None:
            self.end_position = params.get("events", self.default_events)
        first = (self.start_position or 0) + self.rank * self.events_per_slice
        self.firsts = range(first, self.end_position, self.size * self.events_per_slice)
        self.made = 0

    def __len__(self):
        return len(self.firsts)

    def init(self):
        super().init()
        dm = self.data_manager
        dm.create_dset(self.dset_name, WAVEFORM)
        dm.create_dset("raw/noise", NOISE)
        dm.create_dset("mc/tracks", TRACK)
        dm.create_ref(self.dset_name, "raw/noise")
        dm.create_ref("mc/tracks", self.dset_name)
        recorded = np.random.default_rng(self.seed).normal(0, _SIGMA, 1 << 20).round().astype("i2")
        self.stretches = np.lib.stride_tricks.sliding_window_view(recorded, NOISE["samples"].shape)
        dm.set_attrs(self.dset_name, classname=self.classname, class_version=self.class_version, seed=self.seed)

    def next(self):
        if self.made == len(self.firsts):
            return self.EMPTY
        first = self.firsts[self.made]
        self.made += 1
        events = range(first, min(first + self.events_per_slice, self.end_position))
        tracks, waveforms, noise = zip(*(self._simulate(event) for event in events), strict=True)

        dm = self.data_manager
        rows = dm.reserve_data(self.dset_name, sum(len(made) for made in waveforms))
        dm.write_data(self.dset_name, rows, np.concatenate(waveforms))
        numbers = np.arange(rows.start, rows.stop)

        noise_rows = dm.reserve_data("raw/noise", len(numbers))
        dm.write_data("raw/noise", noise_rows, np.concatenate(noise))
        dm.write_ref(self.dset_name, "raw/noise", np.c_[numbers, np.arange(noise_rows.start, noise_rows.stop)])

        track_rows = dm.reserve_data("mc/tracks", len(tracks))
        dm.write_data("mc/tracks", track_rows, np.array(list(tracks), TRACK))
        made_by = np.repeat(np.arange(track_rows.start, track_rows.stop), [len(made) for made in waveforms])
        dm.write_ref("mc/tracks", self.dset_name, np.c_[made_by, numbers])
        return rows

    def _simulate(self, event: int) -> tuple[tuple, np.ndarray, np.ndarray]:
        """A track, the waveforms of the channels below it, and their noise."""
        geometry = resources["Geometry"]
        random = np.random.default_rng([self.seed, event])
        depth = (TICKS - 20) * geometry.drift_velocity
        start, end = random.uniform(0, 1, (2, 3)) * (geometry.width, geometry.width, depth)
        dqdx = random.uniform(120, 200)

        steps = np.linspace(0, 1, 100)[:, np.newaxis]
        x, y, z = (start + (end - start) * steps).T
        charge = dqdx * np.linalg.norm(end - start) / len(steps)
        at = geometry.channel(x, y)
        order = np.argsort(at, kind="stable")
        channels, first = np.unique(at[order], return_index=True)

        arrival = z[order, np.newaxis] / geometry.drift_velocity + 10
        pulses = np.exp(-0.5 * ((np.arange(TICKS) - arrival) / _PULSE_WIDTH) ** 2)
        samples = charge / (_PULSE_WIDTH * np.sqrt(2 * np.pi)) * np.add.reduceat(pulses, first, axis=0)

        waveforms = np.zeros(len(channels), WAVEFORM)
        waveforms["event"] = event
        waveforms["channel"] = channels
        waveforms["samples"] = np.round(samples + random.normal(0, _SIGMA, samples.shape))
        noise = np.zeros(len(channels), NOISE)
        noise["samples"] = self.stretches[random.integers(len(self.stretches), size=len(channels))]
        return (event, start, end, dqdx), waveforms, noise
