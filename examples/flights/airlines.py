"""A resource: the names of the airlines."""

from __future__ import annotations

from examples.flights.tables import table
from h5flow.core import H5FlowResource


class Airlines(H5FlowResource):
    """Airline names by two-letter code."""

    class_version = "1.0.0"

    def init(self, source_name: str) -> None:
        super().init(source_name)
        with table("airlines") as rows:
            self._names = {row["carrier"]: row["name"] for row in rows}

    def name(self, code: str) -> str:
        """The name of an airline."""
        return self._names[code]

    def codes(self) -> list[str]:
        """All codes, in alphabetical order."""
        return sorted(self._names)
