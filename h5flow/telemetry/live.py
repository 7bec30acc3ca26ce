"""How far a run is, as people see it on a terminal while it goes on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from h5flow.telemetry.forks import renewed_in_forks, speaking
from h5flow.telemetry.pace import ActorPace, Pace, PaceMaker

if TYPE_CHECKING:
    from h5flow.telemetry.journal import Journal

# Times a second.
_REFRESH = 4.0
_BAR = 20


class LiveView:
    """Draws the state of a journal's loop again and again, until it ends; log lines appear above."""

    def __init__(self, journal: Journal, console: Console | None = None) -> None:
        self._journal = journal
        self._console = console or Console(stderr=True)
        self._ended = threading.Event()
        self._streams = (sys.stdout, sys.stderr)

    def forked(self) -> None:
        """Go on in a fork, which writes to the terminal by itself."""
        sys.stdout, sys.stderr = self._streams

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While it is there. When it goes, nothing of it stays."""
        # What is printed goes above the view, but only what goes to the terminal.
        printed = sys.stdout.isatty()
        self._streams = (sys.stdout, sys.stderr)
        renewed_in_forks(self)
        live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=printed)
        thread = threading.Thread(target=self._draw, args=(live,), name="h5flow live view", daemon=True)
        with live:
            thread.start()
            try:
                yield
            finally:
                self._ended.set()
                thread.join()

    def _draw(self, live: Live) -> None:
        maker, loop = PaceMaker(), None
        while not self._ended.wait(1 / _REFRESH):
            state = self._journal.state
            if state is None:
                continue
            if state is not loop:
                maker, loop = PaceMaker(), state
            picture = drawn(maker.pace(state()), self._title())
            with speaking:
                live.update(picture, refresh=True)

    def _title(self) -> str:
        who = self._journal.identity
        return (who.workflow or "") + (f", rank {who.rank} of {who.size}" if who.size > 1 else "")


def drawn(pace: Pace, title: str) -> Group:
    """The picture of a pace: how far it is, and a line for each actor."""
    left = "" if pace.left_s is None else f", {clock(pace.left_s)} left"
    held = f"{pace.in_flight} in flight, {pace.in_flight_bytes / (1 << 20):,.0f} MiB"
    head = Text.assemble((title, "bold"), f"  {clock(pace.seconds)} so far{left}  {held}")
    line = Text("  ")
    if pace.share is not None:
        line.append(_bar(pace.share), "green")
        line.append(f" {pace.share:4.0%}  ")
    line.append(f"{pace.slices:,}" + ("" if pace.total is None else f" of {pace.total:,}") + " slices")
    line.append(f"  {pace.slices_per_s:,.1f} slices/s  {pace.rows_per_s:,.0f} rows/s")
    table = Table.grid(padding=(0, 2))
    for actor in pace.actors:
        table.add_row(*_row(actor))
    return Group(head, line, table)


def _row(actor: ActorPace) -> tuple[Text, Text, Text, Text]:
    style = "bold yellow" if actor.is_bottleneck else ""
    queue = "" if actor.depth is None else f"queue {actor.occupancy}/{actor.depth}"
    return (
        Text(f"  {actor.name}", style=style),
        Text(f"{_bar(actor.busy)} {actor.busy:4.0%} busy", style=style or "cyan"),
        Text(queue),
        Text("◀ bottleneck" if actor.is_bottleneck else "", style=style),
    )


def _bar(share: float) -> str:
    full = round(share * _BAR)
    return "━" * full + "╌" * (_BAR - full)


def clock(seconds: float) -> str:
    """A duration as people read it: `1:02:03`, `4:05`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
