"""What is told of a failure: its line, and its traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

from h5flow.errors import H5FlowError
from h5flow.runtime.failure import located
from h5flow.runtime.measures import bounds
from h5flow.telemetry.events import RunFailed

_PACKAGE = str(Path(__file__).parents[1])


def line(error: BaseException) -> str:
    """What went wrong and, where that is known, in which component."""
    where = located(error)
    message = str(error)
    if not isinstance(error, H5FlowError):
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{where}: {message}" if where else message


def failure_event(error: BaseException) -> RunFailed:
    """A failure as it is told."""
    where = located(error)
    start, stop = bounds(None if where is None else where.rows)
    requirement = error.__dict__.get("h5flow_requirement")
    return RunFailed(
        error=line(error),
        kind=type(error).__name__,
        component=None if where is None else where.component,
        place=None if where is None else where.place,
        slice_index=None if where is None else where.number,
        start=start,
        stop=stop,
        requirement=requirement if isinstance(requirement, str) else None,
        traceback=traceback_of(error),
    )


def traceback_of(error: BaseException) -> str:
    """A traceback that begins in the user's code, if the error comes from there."""
    own = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        own = own.tb_next
    if own is not None:
        error.__traceback__ = own
    return "".join(traceback.format_exception(error))
