"""A stage on events: fits a line to each, and compares it with the simulated track."""

from __future__ import annotations

import math

import numpy as np

from examples.detector.charge import present
from h5flow import resources
from h5flow.core import H5FlowStage

FIT = np.dtype([("event", "u4"), ("direction", "f4", (3,)), ("length", "f4"), ("angle", "f4")])


class TrackFit(H5FlowStage):
    """Writes `reco/tracks`: direction and length of each event's track, and its angle to the truth in degrees."""

    class_version = "1.0.0"

    def __init__(self, **params):
        super().__init__(**params)
        self.picture = params.get("picture")

    def init(self, source_name):
        super().init(source_name)
        self.data_manager.create_dset("reco/tracks", FIT)
        self.data_manager.create_ref(source_name, "reco/tracks")

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        events, hits, truth = cache[source_name], cache["hits"], cache["truth"]
        fits = np.zeros(len(events), FIT)
        fits["event"] = events["id"]
        # On many ranks there are slices without events in the end, of which -1 would be any number.
        truth = truth.reshape(len(events), math.prod(truth.shape[1:]))
        for fit, of_event, true in zip(fits, hits, truth, strict=True):
            points = present(of_event)
            xyz = np.stack([points["x"], points["y"], points["z"]], axis=1).astype(float)
            xyz -= xyz.mean(axis=0)
            direction = np.linalg.svd(xyz, full_matrices=False)[2][0]
            fit["direction"] = direction
            fit["length"] = np.ptp(xyz @ direction)
            track = present(true)[0]
            expected = track["end"] - track["start"]
            cosine = abs(direction @ expected) / np.linalg.norm(expected)
            fit["angle"] = np.degrees(np.arccos(min(cosine, 1)))

        rows = self.data_manager.reserve_data("reco/tracks", len(fits))
        self.data_manager.write_data("reco/tracks", rows, fits)
        self.data_manager.write_ref(
            source_name,
            "reco/tracks",
            np.c_[np.arange(source_slice.start, source_slice.stop), np.arange(rows.start, rows.stop)],
        )

    def finish(self, source_name):
        super().finish(source_name)
        fits = self.data_manager["reco/tracks", :]
        self.data_manager.set_attrs(
            "reco/tracks",
            classname=self.classname,
            class_version=self.class_version,
            median_angle=np.median(fits["angle"]),
        )
        if self.picture and self.rank == 0:
            self._draw(fits)

    def _draw(self, fits: np.ndarray) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        display, angles = figure.subplots(1, 2)
        width = resources["Geometry"].width
        for event in range(min(6, len(fits))):
            hits = present(self.data_manager["charge/events", "charge/calib_hits", event])
            display.scatter(hits["x"], hits["z"], s=hits["q"] / 40)
        display.set(title="Hits of six events", xlabel="x [mm]", ylabel="drift [mm]", xlim=(0, width))
        angles.hist(fits["angle"], bins=np.linspace(0, 10, 51), color="#4c72b0")
        angles.set(title="Angle between fit and truth", xlabel="degrees", ylabel="events")
        figure.savefig(self.picture, dpi=110)
