"""The metrics of a job: a text file of each rank, and an endpoint of the first one."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from h5flow import mpi
from h5flow.errors import UsageError
from h5flow.telemetry.naming import filled
from h5flow.telemetry.ticker import Ticker

if TYPE_CHECKING:
    from h5flow.telemetry import Journal
    from h5flow.telemetry.journal import Identity
    from h5flow.workflow import MetricsConfig

_log = logging.getLogger(__name__)


@contextmanager
def metered(journal: Journal, settings: MetricsConfig) -> Iterator[None]:
    """Collect metrics of a job for the duration of the block. Raises `UsageError` where it can't, before all else."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise UsageError("metrics need prometheus_client: pip install 'h5flow-async[metrics]'")
    from h5flow.telemetry.metrics import PERIOD, Metrics, registry_of, served, write

    journal.measure()
    # In a farm each rank is the first one of its own job, and has a file of its own nevertheless.
    rank = mpi.launched_rank() or journal.identity.rank
    metrics = Metrics(journal, rank)
    registry = registry_of(metrics)
    path = None if settings.textfile is None else _path_of_rank(settings.textfile, journal.identity._replace(rank=rank))
    complained = False

    def update() -> None:
        nonlocal complained
        if path is not None:
            try:
                write(registry, path)
            except OSError as error:
                if not complained:
                    complained = True
                    _log.warning("metrics file '%s' can't be written: %s", path, error.strerror)

    with ExitStack() as stack:
        if settings.port is not None and rank == 0:
            where = f"{settings.address}:{settings.port}"
            try:
                port = stack.enter_context(served(registry, settings.port, settings.address))
            except OSError as error:
                raise UsageError(
                    f"metrics can't be served at {where}: {error.strerror}; choose another metrics.port (0: one that is"
                    " free, which is logged) or metrics.address"
                ) from error
            _log.info("metrics are served at http://%s:%d/metrics", settings.address, port)
        update()
        try:
            with Ticker(journal, [(PERIOD, lambda _state: update())]).running():
                yield
        except BaseException:
            metrics.fail()
            raise
        finally:
            metrics.end()
            update()


def _path_of_rank(pattern: str, who: Identity) -> str:
    path = filled(pattern, who)
    others = max(who.size, mpi.launched_ranks()) > 1
    if others and path == filled(pattern, who._replace(rank=who.rank + 1, pid=who.pid + 1)):
        raise UsageError(f"metrics.textfile '{pattern}' is the same file for all ranks: put {{rank}} into its name")
    return path
