"""What a misspelled name may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Return the end of an error message, ` (did you mean 'path'?)`; empty if nothing known is close."""
    import difflib

    close = difflib.get_close_matches(str(name), sorted({str(word) for word in known}), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
