"""The stages of charge reconstruction: waveforms → hits → calibrated hits → events."""

from __future__ import annotations

import numpy as np

from h5flow import resources
from h5flow.core import H5FlowStage

HIT = np.dtype([("id", "u4"), ("event", "u4"), ("channel", "u2"), ("tick", "f4"), ("adc", "f4")])
CALIBRATED_HIT = np.dtype([("id", "u4"), ("x", "f4"), ("y", "f4"), ("z", "f4"), ("q", "f4")])
EVENT = np.dtype([("id", "u4"), ("nhit", "u4"), ("q", "f8")])


def present(rows: np.ma.MaskedArray) -> np.ndarray:
    """The rows that are not masked, as a flat array; of structured rows every field has a mask."""
    return rows.data[~np.ma.getmaskarray(rows[rows.dtype.names[0]])]


class HitFinder(H5FlowStage):
    """Writes `charge/hits`: each pulse of a waveform that exceeds `threshold` times its noise, after a filter."""

    class_version = "1.0.0"

    default_threshold = 5.0
    default_pulse_width = 2.0  # ticks

    def __init__(self, **params):
        super().__init__(**params)
        self.threshold = params.get("threshold", self.default_threshold)
        self.pulse_width = params.get("pulse_width", self.default_pulse_width)

    def init(self, source_name):
        super().init(source_name)
        self.data_manager.create_dset("charge/hits", HIT)
        self.data_manager.create_ref(source_name, "charge/hits")
        self.data_manager.set_attrs(
            "charge/hits",
            classname=self.classname,
            class_version=self.class_version,
            threshold=self.threshold,
            pulse_width=self.pulse_width,
        )

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        waveforms = cache[source_name]
        noise = cache["raw/noise"]["samples"].data[:, 0]
        samples, noise = self._filtered(waveforms["samples"]), self._filtered(noise)
        above = samples > self.threshold * noise.std(axis=1, keepdims=True)
        edges = np.diff(above.astype("i1"), axis=1, prepend=0, append=0)
        row, first = np.nonzero(edges == 1)
        last = np.nonzero(edges == -1)[1]

        # Sums over a pulse are differences of running sums.
        ticks = np.arange(samples.shape[1])
        sums, moments = (np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0))) for values in (samples, samples * ticks))
        adc = sums[row, last] - sums[row, first]

        hits = np.zeros(len(row), HIT)
        hits["event"] = waveforms["event"][row]
        hits["channel"] = waveforms["channel"][row]
        hits["adc"] = adc
        hits["tick"] = (moments[row, last] - moments[row, first]) / adc

        rows = self.data_manager.reserve_data("charge/hits", len(hits))
        hits["id"] = np.arange(rows.start, rows.stop)
        self.data_manager.write_data("charge/hits", rows, hits)
        self.data_manager.write_ref(source_name, "charge/hits", np.c_[source_slice.start + row, hits["id"]])

    def _filtered(self, samples: np.ndarray) -> np.ndarray:
        """Samples without the noise that is quicker than pulses are; sums stay the same."""
        spectrum = np.fft.rfft(samples, axis=1)
        frequency = np.fft.rfftfreq(samples.shape[1])
        response = np.exp(-2 * (np.pi * self.pulse_width * frequency) ** 2)
        return np.fft.irfft(spectrum * response, samples.shape[1], axis=1)


class Calibration(H5FlowStage):
    """Writes `charge/calib_hits`: hits with their place and charge, one for each hit."""

    class_version = "1.0.0"

    default_gain = 1.0

    def __init__(self, **params):
        super().__init__(**params)
        self.gain = params.get("gain", self.default_gain)

    def init(self, source_name):
        super().init(source_name)
        self.data_manager.create_dset("charge/calib_hits", CALIBRATED_HIT)
        self.data_manager.create_ref("charge/hits", "charge/calib_hits")
        self.data_manager.set_attrs(
            "charge/calib_hits", classname=self.classname, class_version=self.class_version, gain=self.gain
        )

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        geometry = resources["Geometry"]
        hits = present(cache["charge/hits"])
        calibrated = np.zeros(len(hits), CALIBRATED_HIT)
        calibrated["x"], calibrated["y"] = geometry.position(hits["channel"].astype(int))
        calibrated["z"] = (hits["tick"] - 10) * geometry.drift_velocity
        calibrated["q"] = hits["adc"] * self.gain

        rows = self.data_manager.reserve_data("charge/calib_hits", len(hits))
        calibrated["id"] = np.arange(rows.start, rows.stop)
        self.data_manager.write_data("charge/calib_hits", rows, calibrated)
        refs = np.c_[cache["hit_rows"].compressed(), calibrated["id"]]
        self.data_manager.write_ref("charge/hits", "charge/calib_hits", refs)


class EventBuilder(H5FlowStage):
    """Writes `charge/events`, each with references to its calibrated hits."""

    class_version = "1.0.0"

    def init(self, source_name):
        super().init(source_name)
        self.data_manager.create_dset("charge/events", EVENT)
        self.data_manager.create_ref("charge/events", "charge/calib_hits")
        self.data_manager.set_attrs("charge/events", classname=self.classname, class_version=self.class_version)

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        # From waveforms to hits to calibrated hits: shape (waveforms, hits of one, calibrated hits of one).
        calibrated = cache["calibrated"]
        event_of_hit = np.broadcast_to(cache[source_name]["event"][:, np.newaxis, np.newaxis], calibrated.shape)
        hits, event_of_hit = present(calibrated), event_of_hit[~calibrated["id"].mask]

        ids, which = np.unique(event_of_hit, return_inverse=True)
        events = np.zeros(len(ids), EVENT)
        events["id"] = ids
        events["nhit"] = np.bincount(which, minlength=len(ids))
        events["q"] = np.bincount(which, hits["q"], minlength=len(ids))

        rows = self.data_manager.reserve_data("charge/events", len(events))
        self.data_manager.write_data("charge/events", rows, events)
        self.data_manager.write_ref("charge/events", "charge/calib_hits", np.c_[rows.start + which, hits["id"]])
