"""The last stage: a picture."""

from __future__ import annotations

import numpy as np

from examples.flights.generator import NOT_A_TIME
from h5flow import resources
from h5flow.core import H5FlowStage


class DelayPlot(H5FlowStage):
    """Draws how delays build up over the day, and what the weather, the airline and the destination add."""

    class_version = "1.0.0"

    default_file = "flights.png"

    def __init__(self, **params):
        super().__init__(**params)
        self.file = params.get("file", self.default_file)

    def init(self, source_name):
        super().init(source_name)
        self.codes = resources["Airlines"].codes()
        self.by_hour = np.zeros((2, 24))
        self.by_carrier = np.zeros((2, len(self.codes)))

    def run(self, source_name, source_slice, cache):
        super().run(source_name, source_slice, cache)
        flights = cache[source_name]
        arrived = flights[flights["arr_delay"] != NOT_A_TIME]
        for sums, key in ((self.by_hour, "hour"), (self.by_carrier, "carrier")):
            sums[0] += np.bincount(arrived[key], minlength=sums.shape[1])
            sums[1] += np.bincount(arrived[key], arrived["arr_delay"], minlength=sums.shape[1])

    def finish(self, source_name):
        super().finish(source_name)
        # Imported here, because it takes longer than many a workflow.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 7.5), layout="constrained")
        FigureCanvasAgg(figure)
        hours, weather, airlines, airports = figure.subplots(2, 2).ravel()
        figure.suptitle("Flights from New York in 2013: mean delay at arrival, minutes")

        shown = np.flatnonzero(self.by_hour[0] > 100)
        hours.bar(shown, (self.by_hour[1] / np.maximum(self.by_hour[0], 1))[shown], color="#4c72b0")
        hours.set(title="It gets later during the day", xlabel="scheduled hour of departure", xticks=shown[1::3])

        groups = self.data_manager["by_weather", :]
        weather.bar(["dry", "rain", "fog"][: len(groups)], groups["arr_delay"], color="#55a868")
        weather.set(title="Weather at departure")

        means = self.by_carrier[1] / np.maximum(self.by_carrier[0], 1)
        order = np.argsort(means)
        names = [resources["Airlines"].name(self.codes[number]) for number in order]
        airlines.barh(names, means[order], color="#c44e52")
        airlines.set(title="Airlines")
        airlines.tick_params(axis="y", labelsize=8)

        groups, places = self.data_manager["by_airport", :], self.data_manager["airports", :]
        many = np.flatnonzero(groups["flights"] > 500)
        worst = many[np.argsort(groups["arr_delay"][many])[-12:]]
        airports.barh([places["faa"][row].decode() for row in worst], groups["arr_delay"][worst], color="#8172b2")
        airports.set(title="Destinations where one arrives latest")
        for axes in (hours, weather, airlines, airports):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(self.file, dpi=110)
