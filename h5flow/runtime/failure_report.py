"""What is told of a failure: its line, and its traceback."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from h5flow.errors import H5FlowError
from h5flow.runtime.failure import entries_of, located, place_of
from h5flow.runtime.measures import bounds
from h5flow.telemetry.events import RunFailed

_PACKAGE = str(Path(__file__).parents[1])
_STANDARD_LIBRARY = str(Path(os.__file__).parent)


def line(error: BaseException) -> str:
    """Return what went wrong and, where that is known, in which component, and below which line of its code."""
    where = located(error)
    message = str(error)
    if not isinstance(error, H5FlowError):
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if where is None:
        return message
    own = _own_entry(error)
    return f"{where}: {message}" + (f" ({place_of(own)})" if own is not None else "")


def _own_entry(error: BaseException) -> TracebackType | None:
    """Find the innermost entry in the component's code, if the error comes from a library that is called there."""
    entries = list(entries_of(error))
    component = next((_file(entry) for entry in entries if _is_of_component(entry.tb_frame)), None)
    if component is None:
        return None
    folder = str(Path(component).parent)
    own = [entry for entry in entries if _is_own(_file(entry), folder)]
    if own[-1] is entries[-1]:
        return None
    # Code that is executed as a text has lines of its own, which say nothing.
    return next((entry for entry in reversed(own) if not _file(entry).startswith("<")), None)


def _file(entry: TracebackType) -> str:
    return entry.tb_frame.f_code.co_filename


def _is_of_component(frame: FrameType) -> bool:
    """Say whether a frame is that of a method of a component, and not of a base class of ours."""
    code = frame.f_code
    if not code.co_argcount or code.co_filename.startswith(_PACKAGE):
        return False
    kind = type(frame.f_locals.get(code.co_varnames[0]))
    return hasattr(kind, "class_version") and not kind.__module__.startswith("h5flow.")


def _is_own(file: str, folder: str) -> bool:
    """Say whether a file is beside or below that of the component, or at least nobody's that is installed."""
    if file.startswith((_PACKAGE, "<frozen")):
        return False
    if file.startswith(folder + os.sep):
        return True
    return not (file.startswith(_STANDARD_LIBRARY) or {"site-packages", "dist-packages"} & set(Path(file).parts))


def failure_event(error: BaseException) -> RunFailed:
    """Make the event that tells of a failure."""
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
    """Format a traceback that begins in the user's code, if the error comes from there."""
    own = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        own = own.tb_next
    if own is not None:
        error.__traceback__ = own
    return "".join(traceback.format_exception(error))
