"""How far a run is, as people see it on a terminal while it goes on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
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
# Columns from which on there is room for bars, and that of the shortest name.
_WIDE, _SHORTEST = 72, 8
# What queue, mark of a bottleneck and the space between take, with bars and without.
_BESIDES, _BESIDES_NARROW = 29, 14


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
        """Show the view for the duration of the block. When it goes, nothing of it stays."""
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
            picture = drawn(maker.pace(state()), self._title(), *self._console.size)
            with speaking:
                live.update(picture, refresh=True)

    def _title(self) -> str:
        who = self._journal.identity
        return (who.workflow or "") + (f", rank {who.rank} of {who.size}" if who.size > 1 else "")


def drawn(pace: Pace, title: str, columns: int = 80, lines: int = 1000) -> Group:
    """Return the picture of a pace: how far it is, and a line for each actor, as many as there is room for.

    The ones that are left out are the least busy.
    """
    left = "" if pace.left_s is None else f", {clock(pace.left_s)} left"
    held = f"{pace.in_flight} in flight, {pace.in_flight_bytes / (1 << 20):,.0f} MiB"
    head = Text.assemble((title, "bold"), f"  {clock(pace.seconds)} so far{left}  {held}")
    bar = _BAR if columns >= _WIDE else 0
    line = Text("  ")
    if pace.share is not None:
        line.append(_bar(pace.share, bar), "green")
        line.append(f" {pace.share:4.0%}  ".lstrip() if not bar else f" {pace.share:4.0%}  ")
    line.append(f"{pace.slices:,}" + ("" if pace.total is None else f" of {pace.total:,}") + " slices")
    line.append(f"  {pace.slices_per_s:,.1f} slices/s  {pace.rows_per_s:,.0f} rows/s")
    actors, others = _busiest(pace.actors, max(1, lines - 3))
    room = (
        columns - len(_row(pace.actors[0], bar, 1)[1]) - (_BESIDES if bar else _BESIDES_NARROW)
        if pace.actors
        else columns
    )
    table = Table.grid(padding=(0, 2))
    for actor in actors:
        table.add_row(*_row(actor, bar, max(_SHORTEST, room)))
    rest = [Text(f"  … and {others} that are less busy")] if others else []
    # A line that is broken in two would push others out.
    for text in (head, line, *rest):
        text.no_wrap, text.overflow = True, "ellipsis"
    return Group(head, line, table, *rest)


def _busiest(actors: Sequence[ActorPace], count: int) -> tuple[list[ActorPace], int]:
    """Choose at most so many lines of actors, in their order, and count the others, for which one line is kept."""
    if len(actors) <= count:
        return list(actors), 0
    chosen = sorted(actors, key=lambda actor: (actor.is_bottleneck, actor.busy), reverse=True)[: max(1, count - 1)]
    return [actor for actor in actors if actor in chosen], len(actors) - len(chosen)


def _row(actor: ActorPace, bar: int, room: int) -> tuple[Text, Text, Text, Text]:
    style = "bold yellow" if actor.is_bottleneck else ""
    queue = "" if actor.depth is None else f"{'queue ' if bar else ''}{actor.occupancy}/{actor.depth}"
    name = Text(f"  {actor.name}", style=style)
    name.truncate(room, overflow="ellipsis")
    sign = "◀ bottleneck" if bar else "◀"
    cells = (
        name,
        Text(f"{_bar(actor.busy, bar)} {actor.busy:4.0%} busy".lstrip(), style=style or "cyan"),
        Text(queue),
        Text(sign if actor.is_bottleneck else "", style=style),
    )
    for cell in cells:
        cell.no_wrap = True
    return cells


def _bar(share: float, length: int) -> str:
    full = round(share * length)
    return "━" * full + "╌" * (length - full)


def clock(seconds: float) -> str:
    """Return a duration as people read it: `1:02:03`, `4:05`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
