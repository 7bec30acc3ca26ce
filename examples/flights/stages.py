"""The stages: what made flights late?"""

from __future__ import annotations

import numpy as np

from examples.flights.generator import NOT_A_TIME
from h5flow.core import H5FlowStage

LEG = np.dtype(
    [
        ("dep_delay", "i2"),  # minutes
        ("arr_delay", "i2"),  # minutes
        ("made_up", "i2"),  # minutes made up in the air, negative if more were lost
        ("plane_age", "i2"),  # years, -1 if unknown
    ]
)
MEAN = np.dtype([("flights", "u4"), ("arr_delay", "f8")])


def arrival_delay(flights: np.ndarray) -> np.ma.MaskedArray:
    """Minutes, masked for flights that never arrived."""
    return np.ma.masked_equal(flights["arr_delay"], NOT_A_TIME)


class Legs(H5FlowStage):
    """Writes `legs`: one row for each flight that arrived, with a reference from the flight."""

    class_version = "1.0.0"

    def init(self, source_name):
        super().init(source_name)
        self.data_manager.create_dset("legs", LEG)
        self.data_manager.create_ref(source_name, "legs")
        self.data_manager.set_attrs("legs", classname=self.classname, class_version=self.class_version)

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        flights = cache[source_name]
        arrived = np.flatnonzero(flights["arr_delay"] != NOT_A_TIME)
        built = cache["planes"]["year"][arrived, 0].filled(0).astype(int)

        legs = np.zeros(len(arrived), LEG)
        legs["dep_delay"] = flights["dep_delay"][arrived]
        legs["arr_delay"] = flights["arr_delay"][arrived]
        legs["made_up"] = legs["dep_delay"] - legs["arr_delay"]
        legs["plane_age"] = np.where(built > 0, 2013 - built, -1)

        rows = self.data_manager.reserve_data("legs", len(legs))
        self.data_manager.write_data("legs", rows, legs)
        refs = np.c_[source_slice.start + arrived, np.arange(rows.start, rows.stop)]
        self.data_manager.write_ref(source_name, "legs", refs)


class MeanDelay(H5FlowStage):
    """Averages the delay at arrival over groups of flights; subclasses say which.

    Writes one row a group to the dataset that is called like the stage.
    """

    class_version = "1.0.0"

    def init(self, source_name):
        super().init(source_name)
        self.flights = np.zeros(0)
        self.minutes = np.zeros(0)

    def add(self, group: np.ndarray, delay: np.ma.MaskedArray) -> None:
        """Count flights, each in its group (-1: in none) and with its delay (masked: it never arrived)."""
        counted = (group >= 0) & ~np.ma.getmaskarray(delay)
        size = max(len(self.flights), group.max(initial=-1) + 1)
        self.flights.resize(size, refcheck=False)
        self.minutes.resize(size, refcheck=False)
        self.flights += np.bincount(group[counted], minlength=size)
        self.minutes += np.bincount(group[counted], delay.data[counted], minlength=size)

    def finish(self, source_name):
        super().finish(source_name)
        means = np.zeros(len(self.flights), MEAN)
        means["flights"] = self.flights
        means["arr_delay"] = np.divide(
            self.minutes, self.flights, out=np.full(len(means), np.nan), where=self.flights > 0
        )
        self.data_manager.create_dset(self.name, MEAN)
        self.data_manager.write_data(self.name, self.data_manager.reserve_data(self.name, len(means)), means)
        self.data_manager.set_attrs(self.name, classname=self.classname, class_version=self.class_version)


class DelaysByWeather(MeanDelay):
    """Groups: 0 a dry hour with a view of at least 2 miles, 1 rain, 2 fog (a view of less than 2 miles)."""

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        weather = cache["weather"][:, 0]
        group = np.where(weather["visib"].filled(np.inf) < 2, 2, (weather["precip"].filled(0) > 0).astype(int))
        group[np.ma.getmaskarray(weather["visib"])] = -1
        self.add(group, cache["legs"]["arr_delay"][:, 0])


class DelaysByMaker(MeanDelay):
    """Groups: the rows of `makers`."""

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        maker = cache["maker"][:, 0, 0].astype(int).filled(-1)
        self.add(maker, arrival_delay(cache[source_name]))


class DelaysByAirport(MeanDelay):
    """Groups: the rows of `airports` that flights go to; the one they come from is among their references, too."""

    def init(self, source_name):
        super().init(source_name)
        self.codes = self.data_manager["airports", :]["faa"]

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        flights, rows = cache[source_name], cache["airport_rows"]
        is_destination = self.codes[rows.filled(0)] == flights["dest"][:, np.newaxis]
        is_destination &= ~np.ma.getmaskarray(rows)
        group = np.where(is_destination, rows.filled(0).astype(int), -1).max(axis=1, initial=-1)
        self.add(group, arrival_delay(flights))
