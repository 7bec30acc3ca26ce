"""Attributes that ranks set together: what all of them want, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

#: The attributes that a rank wants to set, by the path of their group.
Wish = tuple[str, Mapping[str, Any]]

_MOST_SHOWN = 4


class Difference(NamedTuple):
    """An attribute of which ranks have different values; those that have the same one stand together."""

    path: str
    name: str
    values: tuple[tuple[Any, tuple[int, ...]], ...]

    def __str__(self) -> str:
        shown = [f"{_shown(value)} on {_ranks(ranks)}" for value, ranks in self.values[:_MOST_SHOWN]]
        more = len(self.values) - len(shown)
        others = [f"{more} others on other ranks"] if more else []
        return f"attribute '{self.name}' of '{self.path}' is {', '.join([*shown, *others])}"

    @property
    def kept(self) -> int:
        """Return the rank whose value is kept."""
        return self.values[0][1][0]


def agreed(wishes: Mapping[int, Wish]) -> tuple[dict[str, dict[str, Any]], list[Difference]]:
    """Return what all ranks together set, by path, and the differences; the lowest rank's value is kept."""
    values: dict[tuple[str, str], list[tuple[Any, list[int]]]] = {}
    merged: dict[str, dict[str, Any]] = {}
    for rank in sorted(wishes):
        path, attributes = wishes[rank]
        group = merged.setdefault(path, {})
        for name, value in attributes.items():
            group.setdefault(name, value)
            known = values.setdefault((path, name), [])
            same = next((ranks for other, ranks in known if alike(other, value)), None)
            if same is None:
                known.append((value, [rank]))
            else:
                same.append(rank)
    differences = [
        Difference(path, name, tuple((value, tuple(ranks)) for value, ranks in found))
        for (path, name), found in values.items()
        if len(found) > 1
    ]
    return merged, differences


def alike(one: Any, other: Any) -> bool:
    """Say whether two values of an attribute are the same; NaN equals NaN."""
    try:
        first, second = np.asarray(one), np.asarray(other)
    except ValueError:  # lists of lists of different lengths
        return bool(one == other)
    if first.shape != second.shape or first.dtype.names != second.dtype.names:
        return False
    if first.dtype.names is not None:
        return all(alike(first[name], second[name]) for name in first.dtype.names)
    equal = first == second
    if first.dtype.kind in "fc" and second.dtype.kind in "fc":
        equal |= np.isnan(first) & np.isnan(second)
    return bool(np.all(equal))


def _shown(value: Any) -> str:
    text = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def _ranks(ranks: tuple[int, ...]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    shown = ", ".join(map(str, ranks[:_MOST_SHOWN]))
    return f"ranks {shown}" + (", …" if len(ranks) > _MOST_SHOWN else "")
