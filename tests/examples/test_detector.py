"""The detector example: the truth that was simulated is what is reconstructed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "h5flow", *arguments], cwd=folder, check=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both workflows of the example, run in one command."""
    folder = tmp_path_factory.mktemp("detector")
    shutil.copytree(EXAMPLES, folder / "examples")
    run(
        folder,
        "examples/detector/workflow.yaml",
        "examples/detector/tracks.yaml",
        "--set",
        "track_fit.params.picture=null",
    )
    return folder


def test_tracks_are_found_where_they_were(folder):
    with h5py.File(folder / "detector.h5") as file:
        assert len(file["charge/events/data"]) == 1600
        fits = file["reco/tracks/data"][()]
        assert np.median(fits["angle"]) < 2
        assert file["reco/tracks"].attrs["median_angle"] == np.median(fits["angle"])


def test_charge_is_conserved(folder):
    with h5py.File(folder / "detector.h5") as file:
        tracks, events = file["mc/tracks/data"][()], file["charge/events/data"][()]
        length = np.linalg.norm(tracks["end"] - tracks["start"], axis=1)
        true = (tracks["dqdx"] * length)[events["id"]]
        # Each pulse loses its tails, which are below the threshold.
        assert np.median(events["q"] / true) == pytest.approx(0.95, abs=0.03)


def test_hits_of_an_event_are_those_of_its_waveforms(folder):
    with h5py.File(folder / "detector.h5") as file:
        waveforms, hits = file["raw/waveforms/data"]["event"], file["charge/hits/data"]["event"]
        events = file["charge/events/data"]["id"]
        for name, one, other in (
            ("raw/waveforms/ref/charge/hits/ref", waveforms, hits),
            ("charge/events/ref/charge/calib_hits/ref", events, hits),
        ):
            ref = file[name][()]
            assert np.array_equal(one[ref[:, 0]], other[ref[:, 1]])
        assert len(file["charge/events/ref/charge/calib_hits/ref"]) == len(hits)


def test_what_is_dropped_is_not_there(folder):
    with h5py.File(folder / "detector.h5") as file:
        assert "raw/noise" not in file
        assert list(file["raw/waveforms/ref"]) == ["charge", "mc"]


def test_equal_seeds_give_equal_files(folder):
    run(folder, "examples/detector/workflow.yaml", "-o", "once.h5")
    run(folder, "examples/detector/workflow.yaml", "-o", "twice.h5")

    def contents(name: str) -> dict[str, bytes]:
        found = {}
        with h5py.File(folder / name) as file:
            file.visititems(
                lambda path, item: found.update({path: item[()].tobytes()}) if hasattr(item, "dtype") else None
            )
        return found

    assert contents("once.h5") == contents("twice.h5")


def test_waveforms_of_a_file_give_the_same_hits(folder):
    """The second workflow reads what the first one made; slices are others, hits are not."""
    raw = ("--set", "flow.stages=[]", "--set", "flow.drop=[]")
    run(folder, "examples/detector/workflow.yaml", "-o", "raw.h5", "-z", "gzip", *raw)
    run(folder, "examples/detector/reconstruction.yaml", "-i", "raw.h5", "-o", "reco.h5", "--log-dir", "logs")
    with h5py.File(folder / "detector.h5") as one, h5py.File(folder / "reco.h5") as other:
        for name in ("charge/hits", "charge/calib_hits"):
            assert len(one[name]["data"]) > 1000
            assert (one[name]["data"][()] == other[name]["data"][()]).all()
    run(folder, "report", "logs", "--format", "text")


def test_waveforms_from_a_file_give_the_same_hits(folder):
    raw = ["-o", "raw.h5", "-z", "gzip", "--set", "flow.stages=[]", "--set", "flow.drop=[]"]
    run(folder, "examples/detector/workflow.yaml", *raw)
    run(folder, "examples/detector/reconstruction.yaml", "-i", "raw.h5", "-o", "reco.h5")
    with h5py.File(folder / "detector.h5") as simulated, h5py.File(folder / "reco.h5") as reconstructed:
        for name in (
            "charge/hits",
            "charge/calib_hits",
            "raw/waveforms/ref/charge/hits",
            "charge/hits/ref/charge/calib_hits",
        ):
            data = "ref" if "/ref/" in name else "data"
            assert reconstructed[name][data][()].tobytes() == simulated[name][data][()].tobytes(), name
