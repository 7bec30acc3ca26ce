"""A resource: where the channels are, and how fast electrons drift to them."""

from __future__ import annotations

import numpy as np

from h5flow.core import H5FlowResource


class Geometry(H5FlowResource):
    """A plane of square pixels at z = 0; electrons drift towards it from above."""

    class_version = "1.0.0"

    default_pixels = 32
    default_pitch = 4.0  # mm
    default_drift_velocity = 1.6  # mm per tick

    def __init__(self, **params):
        super().__init__(**params)
        self.pixels = params.get("pixels", self.default_pixels)
        self.pitch = params.get("pitch", self.default_pitch)
        self.drift_velocity = params.get("drift_velocity", self.default_drift_velocity)

    @property
    def width(self) -> float:
        """Length of a side of the plane, mm."""
        return self.pixels * self.pitch

    def channel(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The channel under a point."""
        column, row = (np.clip(v // self.pitch, 0, self.pixels - 1).astype(int) for v in (x, y))
        return row * self.pixels + column

    def position(self, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the middle of a channel's pixel, mm."""
        row, column = np.divmod(channel, self.pixels)
        return (column + 0.5) * self.pitch, (row + 0.5) * self.pitch
