"""Running workflows as users do: files in a folder, one command."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from h5flow.data import H5FlowDataManager

HIT = np.dtype([("id", "u4"), ("q", "f4")])


@dataclass
class Finished:
    """A command that has run."""

    code: int
    out: str
    err: str


class Folder:
    """A working directory with a user's files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> str:
        """Write a text file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    def input(self, name: str = "in.h5", rows: int = 20) -> str:
        """Write a file with `raw` rows, two `hits` for each even row, and `calib` for each hit."""
        with H5FlowDataManager(str(self.path / name)) as dm:
            dm.create_dset("raw", HIT)
            dm.reserve_data("raw", rows)
            raw = np.zeros(rows, HIT)
            raw["id"] = np.arange(rows)
            raw["q"] = np.arange(rows) / 2
            dm.write_data("raw", slice(0, rows), raw)
            hits = 2 * len(range(0, rows, 2))
            for other in ("hits", "calib"):
                dm.create_dset(other, HIT)
                dm.reserve_data(other, hits)
                values = np.zeros(hits, HIT)
                values["id"] = np.arange(hits)
                values["q"] = np.arange(hits) * (10 if other == "hits" else 100)
                dm.write_data(other, slice(0, hits), values)
            dm.create_ref("raw", "hits")
            dm.write_ref("raw", "hits", np.c_[np.repeat(np.arange(0, rows, 2), 2), np.arange(hits)])
            dm.create_ref("hits", "calib")
            dm.write_ref("hits", "calib", np.c_[np.arange(hits), np.arange(hits)])
        return name

    def run(self, *arguments: str, module: bool = True, timeout: float = 50) -> Finished:
        """Run the command here."""
        command = [sys.executable, "-m", "h5flow"] if module else [str(Path(sys.executable).parent / "h5flow-async")]
        done = subprocess.run([*command, *arguments], cwd=self.path, capture_output=True, text=True, timeout=timeout)
        return Finished(done.returncode, done.stdout, done.stderr)

    def rows(self, name: str, file: str = "out.h5") -> np.ndarray:
        """A dataset of an output, by its full path."""
        with h5py.File(self.path / file) as opened:
            return opened[name][()]

    def names(self) -> set[str]:
        """What files there are."""
        return {path.name for path in self.path.iterdir() if path.name != "__pycache__"}


def everything_in(path: Path) -> dict[str, object]:
    """All datasets and attributes of a file, but for what says when it was made, to compare with those of another."""
    found: dict[str, object] = {}

    def note(name: str, item: h5py.HLObject) -> None:
        if name.partition("/")[0] == "h5flow":
            return
        found[name + "@"] = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype, item.shape, item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(note)
    return found
