"""Names of files with placeholders for who writes them."""

from __future__ import annotations

import string
from collections.abc import Iterable

from h5flow.telemetry.journal import Identity

#: What may stand in braces in the name of a log file, and of one for metrics.
PLACEHOLDERS = ("run_id", "rank", "size", "host", "pid")

_EXAMPLE = Identity("20260131-235959-1f2e3d", 0, 1, "host", 1)


def filled(pattern: str, who: Identity) -> str:
    """Return the name of a file of one rank of a run."""
    return pattern.format(**{name: getattr(who, name) for name in PLACEHOLDERS})


def mistake_in(pattern: str, placeholders: Iterable[str] = PLACEHOLDERS) -> str | None:
    """Say what is wrong with a name, if anything."""
    known = list(placeholders)
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        return f"'{pattern}': {error}"
    for name in names:
        if name not in known:
            return f"'{pattern}': there is no {{{name}}}, only {', '.join(f'{{{each}}}' for each in known)}"
    try:
        filled(pattern, _EXAMPLE)
    except (ValueError, TypeError) as error:
        return f"'{pattern}': {error}"
    return None


def literal(name: str) -> str:
    """Return a pattern that stands for a name as it is."""
    return name.replace("{", "{{").replace("}", "}}")
