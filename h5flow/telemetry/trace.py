"""Traces in Chrome's format, which Perfetto opens: one process for each rank, one track for each actor.

Each rank writes a part as it goes, `<name>.rank-0000.part`, so that memory is bounded and a run that is killed leaves
something to look at: a part is a trace by itself. `merged` joins them, in the order of time.
"""

from __future__ import annotations

import array
import contextlib
import heapq
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from h5flow.telemetry.encoding import encoded

#: Events wait no longer than this to be written, in seconds.
FLUSH = 0.25
_MANY = 1 << 18


def part_of(path: str, rank: int) -> str:
    """Return the name of the file of one rank's part of a trace."""
    return f"{path}.rank-{rank:04d}.part"


class Trace:
    """One rank's part. Moments are those of `time.perf_counter`; `zero` is the moment at which the trace begins.

    `complain` is called when it can't be written, as on a full disk, which ends the trace, not the run.
    """

    def __init__(self, path: str, rank: int, zero: float, label: str, complain: Callable[[str], None]) -> None:
        self.path = path
        self._complain = complain
        self.rank = rank
        self._zero = zero
        self._tracks = 0
        self._gathered: list[bytes] = []
        self._size = 0
        self._adding = threading.Lock()
        self._writing = threading.Lock()
        self._ended = threading.Event()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = Path(part_of(path, rank)).open("wb")  # noqa: SIM115 - see close
        self._file.write(b"[\n")
        self.add({"ph": "M", "name": "process_name", "pid": rank, "ts": 0, "args": {"name": label}})
        self.add({"ph": "M", "name": "process_sort_index", "pid": rank, "ts": 0, "args": {"sort_index": rank}})
        self._thread = threading.Thread(target=self._work, name="h5flow trace", daemon=True)
        self._thread.start()

    def tracks(self, count: int) -> int:
        """Keep so many new tracks, which are shown in the order of their numbers; the number of the first."""
        with self._adding:
            first = self._tracks + 1
            self._tracks += count
        return first

    def name(self, track: int, name: str) -> None:
        """Give a track its name; one without is not shown."""
        for key, value in (("thread_name", {"name": name}), ("thread_sort_index", {"sort_index": track})):
            self.add({"ph": "M", "name": key, "pid": self.rank, "tid": track, "ts": 0, "args": value})

    def span(self, track: int, name: str, began: float, ended: float, **args: Any) -> None:
        """Note something that took from one moment to another."""
        start = self._at(began)
        duration = round(max(0.0, self._at(ended) - start), 3)
        event = {"ph": "X", "name": name, "pid": self.rank, "tid": track, "ts": start, "dur": duration}
        self.add(event | {"args": args} if args else event)

    def arrow(self, track: int, phase: str, workflow: int, number: int, began: float, ended: float) -> None:
        """Draw an arrow from a slice's last span: it starts (`s`), goes through (`t`) or ends (`f`) at this one."""
        event = {
            "ph": phase,
            "name": "slice",
            "cat": "slice",
            "id": (self.rank << 40) + (workflow << 32) + number,  # viewers in JavaScript have 53 bits
            "pid": self.rank,
            "tid": track,
            "ts": round((self._at(began) + self._at(ended)) / 2, 3),
        }
        self.add(event if phase == "s" else event | {"bp": "e"})

    def count(self, name: str, moment: float, **values: float) -> None:
        """Note the values of a counter at a moment."""
        self.add({"ph": "C", "name": name, "pid": self.rank, "ts": self._at(moment), "args": values})

    def add(self, event: dict[str, Any]) -> None:
        """Add an event as it is."""
        line = encoded(event) + b",\n"
        with self._adding:
            self._gathered.append(line)
            self._size += len(line)
            many = self._size > _MANY
        if many:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        with self._writing:
            with self._adding:
                gathered, self._gathered, self._size = self._gathered, [], 0
            if self._file is not None:
                try:
                    self._file.write(b"".join(gathered))
                    self._file.flush()
                except OSError as error:
                    with contextlib.suppress(OSError):
                        self._file.close()
                    self._file = None
                    self._complain(f"trace '{self.path}' ends here, it can't be written: {error.strerror}")

    def close(self) -> None:
        """Write everything."""
        self._ended.set()
        self._thread.join()
        self.flush()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _at(self, moment: float) -> float:
        return round(1e6 * (moment - self._zero), 3)

    def _work(self) -> None:
        while not self._ended.wait(FLUSH):
            self.flush()


def merge(path: str, size: int, *, keep: bool = False) -> None:
    """Make one trace of the parts of `size` ranks, which are removed unless they are to be kept. Raises `OSError`."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with contextlib.ExitStack() as stack:
            parts = []
            for rank in range(size):
                with contextlib.suppress(FileNotFoundError):
                    parts.append(stack.enter_context(Path(part_of(path, rank)).open("rb")))
            merged = stack.enter_context(Path(temporary).open("wb"))
            merged.write(b'{"displayTimeUnit":"ms","traceEvents":[')
            separator = b"\n"
            for _, _, line in heapq.merge(*(_in_order(part, rank) for rank, part in enumerate(parts))):
                merged.write(separator + line)
                separator = b",\n"
            merged.write(b"\n]}\n")
        os.replace(temporary, path)  # noqa: PTH105
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    for rank in () if keep else range(size):
        with contextlib.suppress(FileNotFoundError):
            Path(part_of(path, rank)).unlink()


class _Stamped(msgspec.Struct):
    ts: float


def _in_order(part: IO[bytes], rank: int) -> Iterator[tuple[float, int, bytes]]:
    """Yield the lines of a part by time; in memory are their places only."""
    decoder = msgspec.json.Decoder(_Stamped)
    stamps, places = array.array("d"), array.array("q")
    place = len(part.readline())
    for line in part:
        if not line.endswith(b",\n"):
            break  # its rank was killed while it was written
        stamps.append(decoder.decode(line[:-2]).ts)
        places.append(place)
        place += len(line)
    for index in sorted(range(len(stamps)), key=stamps.__getitem__):
        part.seek(places[index])
        yield stamps[index], rank, part.readline()[:-2]


def clocks_apart(ask: Sequence[tuple[float, float, float]]) -> float:
    """Say how far another clock is ahead of this one, in seconds.

    Of each exchange: when the question was sent and the answer received, by this clock, and what the other one
    showed in between. The quickest exchange tells most: it is wrong by half of what it took at most.
    """
    sent, received, shown = min(ask, key=lambda exchange: exchange[1] - exchange[0])
    return shown - (sent + received) / 2


def now() -> float:
    """Return the time by the clock of traces, in seconds."""
    return time.perf_counter()
