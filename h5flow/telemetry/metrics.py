"""Metrics of a run for Prometheus: a text file that is rewritten now and then, and an endpoint.

Figures are read from the state of the loop when somebody asks for them, so slices pay for what is measured and nothing
else. prometheus_client is the extra `metrics`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from h5flow.telemetry.encoding import encodable
from h5flow.telemetry.forks import renewed_in_forks
from h5flow.telemetry.journal import Journal
from h5flow.telemetry.state import RunState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

#: How often the text file is written, in seconds.
PERIOD = 5.0

#: What an actor spends its seconds with: labels, and the fields of its totals.
KINDS = ("wait", "prefetch", "load", "run", "write", "held")


class Metrics:
    """The metrics of one `rank`, as a collector of prometheus_client."""

    def __init__(self, journal: Journal, rank: int) -> None:
        self._journal = journal
        self._rank = str(rank)
        self._started = time.time()
        self._failed = False
        self._ended = False

    def fail(self) -> None:
        """Note that the run has failed or was stopped."""
        self._failed = True

    def end(self) -> None:
        """Note that the run is over."""
        self._ended = True

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        who, rank = self._journal.identity, self._rank
        info = InfoMetricFamily("h5flow_run", "The run.", labels=["rank"])
        info.add_metric([rank], {"run_id": who.run_id or "", "host": who.host, "size": str(who.size)})
        yield info
        for name, text, value in (
            ("h5flow_up", "1 while the run is going on.", float(not self._ended)),
            ("h5flow_failed", "1 when the run has failed or was stopped.", float(self._failed)),
            ("h5flow_start_time_seconds", "When the run began, in seconds since 1970.", self._started),
            # A text file outlives a run that was killed, which can't say that it isn't up any more.
            ("h5flow_updated_time_seconds", "When these figures were read, in seconds since 1970.", time.time()),
            ("h5flow_resident_memory_bytes", "Memory that the process has.", float(resident_memory())),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["rank"])
            gauge.add_metric([rank], value)
            yield gauge
        states = {encodable(workflow): state for workflow, state in self._journal.states().items()}
        for name, text, field in (
            ("h5flow_slices", "Slices that are done.", "slices"),
            ("h5flow_rows", "Rows of the source that are done.", "rows"),
            ("h5flow_reloads", "Values that were loaded ahead and had changed at their moment.", "reloads"),
            ("h5flow_loaded_bytes", "What slices that are done held in their caches.", "bytes"),
        ):
            counter = CounterMetricFamily(name, text, labels=["rank", "workflow"])
            for workflow, state in states.items():
                counter.add_metric([rank, workflow], getattr(state, field))
            yield counter
        for name, text, field in (
            ("h5flow_in_flight_slices", "Slices on their way.", "in_flight"),
            ("h5flow_in_flight_bytes", "What they are charged for.", "in_flight_bytes"),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["rank", "workflow"])
            for workflow, state in states.items():
                gauge.add_metric([rank, workflow], getattr(state, field))
            yield gauge
        yield from _of_actors(rank, states)
        yield from _of_queues(rank, states)


def _of_actors(rank: str, states: dict[str, RunState]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    seconds = CounterMetricFamily(
        "h5flow_actor_seconds",
        "Seconds of an actor, by what it spends them with.",
        labels=["rank", "workflow", "actor", "kind"],
    )
    for workflow, state in states.items():
        for actor, totals in state.actors.items():
            for kind in KINDS:
                seconds.add_metric([rank, workflow, encodable(actor), kind], getattr(totals, f"{kind}_s"))
    yield seconds


def _of_queues(rank: str, states: dict[str, RunState]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ["rank", "workflow", "queue"]
    occupancy = GaugeMetricFamily("h5flow_queue_occupancy", "Parcels of slices that wait in a queue.", labels=labels)
    depth = GaugeMetricFamily("h5flow_queue_depth", "How many there is room for.", labels=labels)
    waited = CounterMetricFamily(
        "h5flow_queue_wait_seconds", "What a queue's producer and consumer have waited.", labels=[*labels, "side"]
    )
    for workflow, state in states.items():
        for queue in state.queues:
            values = [rank, workflow, encodable(queue.name)]
            occupancy.add_metric(values, queue.occupancy)
            depth.add_metric(values, queue.depth)
            waited.add_metric([*values, "producer"], queue.put_wait)
            waited.add_metric([*values, "consumer"], queue.get_wait)
    yield occupancy
    yield depth
    yield waited


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """Return a registry with nothing but these metrics."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry


def write(registry: CollectorRegistry, path: str) -> None:
    """Write a text file as a whole, in the format that node_exporter reads. Raises `OSError`."""
    from prometheus_client import generate_latest

    file, temporary = Path(path), Path(f"{path}.{os.getpid()}")
    if file.exists() and not file.is_file():
        # Such as /dev/stdout, in whose place there would be a file then.
        raise OSError(errno.EINVAL, "it is no file that could be replaced", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(generate_latest(registry))
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def served(registry: CollectorRegistry, port: int, address: str) -> Iterator[int]:
    """Serve metrics at an address for the duration of the block; gives the port. Raises `OSError`."""
    from prometheus_client import start_http_server

    server, thread = start_http_server(port, address, registry)
    _serving.sockets.add(server.socket)
    try:
        yield int(server.server_port)
    finally:
        _serving.sockets.discard(server.socket)
        server.shutdown()
        server.server_close()
        thread.join()


class _Serving:
    """All of the process that listen."""

    def __init__(self) -> None:
        self.sockets: set[socket.socket] = set()
        renewed_in_forks(self)

    def forked(self) -> None:
        """Close them in a fork, which answers nobody and would keep the port when the run has ended."""
        for listening in self.sockets:
            listening.close()
        self.sockets.clear()


_serving = _Serving()


def resident_memory() -> int:
    """Return the memory of the process, in bytes; where only its peak is known, that."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return pages * resource.getpagesize()
