"""Draws who is at work when while the detector workflow runs, in both modes.

python examples/detector/timeline.py timeline.png
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from h5flow.core import H5FlowManager
from h5flow.runtime.loading import RequirementLoader
from h5flow.workflow import check, load

WORKFLOW = Path(__file__).with_name("workflow.yaml")
FIRST, LAST = 12, 20  # slices that are shown


class Timeline:
    """Notes when calls begin and end: (row of the picture, slice, begin, end)."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int, float, float]] = []
        self.slices: dict[int, int] = {}

    def timed(self, row: Callable[[], str], call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, noted under the slice that is among its arguments, or that it returns."""

        def timing(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            result = call(*args, **kwargs)
            rows = next((value for value in (*args, result) if isinstance(value, slice)), slice(-1, -1))
            number = self.slices.setdefault(rows.start, len(self.slices))
            self.notes.append((row(), number, begin, time.perf_counter()))
            return result

        return timing


def run(mode: str) -> Timeline:
    """Run the workflow and note who is at work."""
    timeline = Timeline()
    with tempfile.TemporaryDirectory() as folder:
        config = check(load(str(WORKFLOW)), [f"runtime.mode={mode}"])
        manager = H5FlowManager(config, f"{folder}/detector.h5", mpi=False)
        manager.init()
        manager.generator.next = timeline.timed(lambda: "generator", manager.generator.next)
        for stage in manager.stages:
            stage.run = timeline.timed(lambda name=stage.name: name, stage.run)
        unpatched = RequirementLoader.load

        def where() -> str:
            thread = threading.current_thread().name
            return "loading ahead" if "loader" in thread else "loading at its moment"

        RequirementLoader.load = timeline.timed(where, unpatched)
        try:
            manager.run()
        finally:
            RequirementLoader.load = unpatched
        manager.finish()
    return timeline


def draw(axes: Any, mode: str, timeline: Timeline, rows: list[str]) -> float:
    """One line for each actor, one colour for each slice; returns how long the slices took."""
    shown = [note for note in timeline.notes if FIRST <= note[1] < LAST]
    start = min(begin for _, _, begin, _ in shown)
    colours = plt.get_cmap("tab10")
    for row, number, begin, end in shown:
        place = rows.index(row)
        axes.barh(place, 1e3 * (end - begin), left=1e3 * (begin - start), color=colours(number % 10), height=0.8)
        if end - begin > 1.5e-3:
            axes.text(1e3 * ((begin + end) / 2 - start), place, str(number), ha="center", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_title(f"runtime.mode: {mode}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return 1e3 * (max(end for *_, end in shown) - start)


def main(path: str) -> None:
    """Draw the picture."""
    rows = ["generator", "loading ahead", "loading at its moment", "hit_finder", "calibration", "event_builder"]
    modes = ["sequential", "pipelined"]
    figure, both = plt.subplots(2, 1, figsize=(10, 5), sharex=True, layout="constrained")
    longest = max(draw(axes, mode, run(mode), rows) for axes, mode in zip(both, modes, strict=True))
    both[-1].set_xlim(0, 1.02 * longest)
    both[-1].set_xlabel(f"milliseconds (slices {FIRST} to {LAST - 1}, one colour each)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "timeline.png")
