"""The generator: writes flights, and links each to its plane, its weather and its airports."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from examples.flights.tables import table
from h5flow import resources
from h5flow.core import H5FlowGenerator

NOT_A_TIME = -32768

FLIGHT = np.dtype(
    [
        ("month", "u1"),
        ("day", "u1"),
        ("hour", "u1"),  # scheduled hour of departure
        ("dep_delay", "i2"),  # minutes, NOT_A_TIME if it never left
        ("arr_delay", "i2"),  # minutes, NOT_A_TIME if it didn't arrive where it should
        ("air_time", "i2"),  # minutes
        ("distance", "u2"),  # miles
        ("carrier", "u1"),  # number of the airline among the codes in alphabetical order
        ("number", "u2"),
        ("origin", "S3"),
        ("dest", "S3"),
    ]
)
PLANE = np.dtype([("tailnum", "S6"), ("year", "u2"), ("seats", "u2"), ("engines", "u1")])
MAKER = np.dtype([("name", "S32")])
WEATHER = np.dtype(
    [
        ("origin", "S3"),
        ("temp", "f4"),  # °F
        ("wind_speed", "f4"),  # miles per hour
        ("precip", "f4"),  # inches in this hour
        ("visib", "f4"),  # miles
    ]
)
AIRPORT = np.dtype([("faa", "S3"), ("lat", "f4"), ("lon", "f4"), ("alt", "i4")])


class FlightsGenerator(H5FlowGenerator):
    """Reads flights, `rows_per_slice` at a time.

    The small tables (planes and who makes them, hourly weather, airports) are written whole by `init`.
    """

    class_version = "1.0.0"

    default_rows_per_slice = 16384

    def __init__(self, **params):
        super().__init__(**params)
        self.rows_per_slice = params.get("rows_per_slice", self.default_rows_per_slice)

    def init(self):
        super().init()
        dm = self.data_manager
        dm.create_dset(self.dset_name, FLIGHT)
        dm.set_attrs(
            self.dset_name,
            classname=self.classname,
            class_version=self.class_version,
            carriers=resources["Airlines"].codes(),
        )
        self._write_planes()
        self._write_weather()
        self._write_airports()
        for other in ("planes", "weather", "airports"):
            dm.create_ref(self.dset_name, other)
        self._carriers = {code: number for number, code in enumerate(resources["Airlines"].codes())}
        self._opened = table("flights")
        self._flights = itertools.islice(self._opened.__enter__(), self.start_position or 0, self.end_position)

    def next(self):
        rows = list(itertools.islice(self._flights, self.rows_per_slice))
        if not rows:
            return self.EMPTY
        dm = self.data_manager
        here = dm.reserve_data(self.dset_name, len(rows))
        dm.write_data(self.dset_name, here, np.array([self._flight(row) for row in rows], FLIGHT))
        numbered = list(enumerate(rows, start=here.start))
        self._link("planes", ((n, self._planes.get(row["tailnum"])) for n, row in numbered))
        self._link("weather", ((n, self._hours.get((row["origin"], row["time_hour"]))) for n, row in numbered))
        ends = ((n, self._airports.get(row[end])) for n, row in numbered for end in ("origin", "dest"))
        self._link("airports", ends)
        return here

    def finish(self):
        super().finish()
        self._opened.__exit__(None, None, None)

    def _link(self, other: str, pairs: Iterable[tuple[int, int | None]]) -> None:
        """Store references for what was found; planes and airports are missing for some flights."""
        found = [(flight, row) for flight, row in pairs if row is not None]
        self.data_manager.write_ref(self.dset_name, other, np.array(found).reshape(-1, 2))

    def _flight(self, row: dict[str, str]) -> tuple:
        return (
            int(row["month"]),
            int(row["day"]),
            int(row["hour"]),
            _minutes(row["dep_delay"]),
            _minutes(row["arr_delay"]),
            _minutes(row["air_time"]),
            int(row["distance"]),
            self._carriers[row["carrier"]],
            int(row["flight"]),
            row["origin"].encode(),
            row["dest"].encode(),
        )

    def _write_planes(self) -> None:
        with table("planes") as rows:
            planes = list(rows)
        self._planes = {row["tailnum"]: number for number, row in enumerate(planes)}
        self._write(
            "planes",
            PLANE,
            [
                (row["tailnum"].encode(), _number(row["year"], 0), int(row["seats"]), int(row["engines"]))
                for row in planes
            ],
        )
        makers = sorted({row["manufacturer"] for row in planes})
        self._write("makers", MAKER, [(name.encode(),) for name in makers])
        self.data_manager.create_ref("planes", "makers")
        made_by = [(number, makers.index(row["manufacturer"])) for number, row in enumerate(planes)]
        self.data_manager.write_ref("planes", "makers", made_by)

    def _write_weather(self) -> None:
        with table("weather") as rows:
            hours = list(rows)
        self._hours = {(row["origin"], row["time_hour"]): number for number, row in enumerate(hours)}
        columns = ("temp", "wind_speed", "precip", "visib")
        self._write(
            "weather",
            WEATHER,
            [(row["origin"].encode(), *(_number(row[column], np.nan) for column in columns)) for row in hours],
        )

    def _write_airports(self) -> None:
        with table("airports") as rows:
            airports = list(rows)
        self._airports = {row["faa"]: number for number, row in enumerate(airports)}
        self._write(
            "airports",
            AIRPORT,
            [(row["faa"].encode(), float(row["lat"]), float(row["lon"]), int(row["alt"])) for row in airports],
        )

    def _write(self, name: str, dtype: np.dtype, rows: list[tuple]) -> None:
        self.data_manager.create_dset(name, dtype)
        here = self.data_manager.reserve_data(name, len(rows))
        self.data_manager.write_data(name, here, np.array(rows, dtype))


def _number(text: str, missing: float) -> float:
    return float(text) if text not in ("", "NA") else missing


def _minutes(text: str) -> int:
    return int(_number(text, NOT_A_TIME))
