"""Actors, shares and times as sentences have them."""

from __future__ import annotations

from collections.abc import Sequence

from h5flow.report.run import COMMITTER, GENERATOR, PREFETCHER

_NAMES = {GENERATOR: "the generator", PREFETCHER: "loading ahead", COMMITTER: "the committer"}


def named(actor: str) -> str:
    """Name an actor in a sentence."""
    return _NAMES.get(actor, f"stage '{actor}'")


def percent(share: float) -> str:
    """Word a share, as in `95 %`."""
    return f"{100 * share:.0f} %"


def times(factor: float) -> str:
    """Word a factor, as in `1.7 times`."""
    return f"{factor:.1f} times" if factor < 10 else f"{factor:.0f} times"


def lasting(seconds: float) -> str:
    """Word a duration, as in `12.5 ms`, `3 min 5 s`."""
    if seconds < 1e-3:
        return f"{1e6 * seconds:.0f} µs"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{seconds / 3600:.1f} h"


def listed(names: Sequence[str]) -> str:
    """List names in a sentence, as in `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def capital(sentence: str) -> str:
    """Begin a sentence with a capital letter."""
    return sentence[:1].upper() + sentence[1:]
