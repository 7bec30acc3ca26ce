"""The examples on several ranks."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(100)
@pytest.mark.parametrize("size", [2, 3])
def test_the_detector_finds_the_same_tracks(ranks, tmp_path, size):
    workflows = [str(ROOT / "examples/detector" / name) for name in ("workflow.yaml", "tracks.yaml")]
    settings = ["--set", "simulation.params.events=100", "--set", "track_fit.params.picture=null"]

    def fits(count):
        ended = ranks(count, "-m", "h5flow", *workflows, "-o", f"on{count}.h5", *settings, PYTHONPATH=str(ROOT))
        assert ended.code == 0, ended
        with h5py.File(tmp_path / f"on{count}.h5") as file:
            found = file["reco/tracks/data"][()]
        return np.sort(found, order="event")

    alone = fits(1)
    assert len(alone) == 100
    assert fits(size).tobytes() == alone.tobytes()
