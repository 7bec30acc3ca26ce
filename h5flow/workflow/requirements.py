"""What a stage requires, as written in a workflow and as used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from h5flow.errors import ConfigError, Problem


class Requirement(msgspec.Struct, frozen=True):
    """Something to be loaded into the cache under `name`: the end of a `path` of datasets from the source.

    With `index_only`, the row numbers instead of the rows.
    """

    name: str
    path: tuple[str, ...]
    index_only: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The form in which stages and managers know it."""
        return {"name": self.name, "path": list(self.path), "index_only": self.index_only}


def format_requirements(entries: Iterable[Any]) -> list[Requirement]:
    """Requirements from the entries of a `requires` list. Raises `ConfigError`."""
    entries = list(entries)
    problems = [
        Problem("", f"requires[{number}]", message)
        for number, entry in enumerate(entries)
        for _, message in problems_of(entry)
    ]
    if problems:
        raise ConfigError(problems)
    return [requirement(entry) for entry in entries]


def requirement(entry: Any) -> Requirement:
    """The requirement that an entry without problems means."""
    if isinstance(entry, str):
        return Requirement(entry, (entry,))
    path = entry.get("path") or entry["name"]
    return Requirement(
        entry["name"], (path,) if isinstance(path, str) else tuple(path), bool(entry.get("index_only", False))
    )


def problems_of(entry: Any) -> Iterator[tuple[str | None, str]]:
    """What is wrong with an entry of a `requires` list: the key that is concerned, and a sentence."""
    if isinstance(entry, str):
        if not entry:
            yield None, "the name is empty"
        return
    if not isinstance(entry, dict):
        yield None, f"expected a name, or a mapping with 'name' and 'path', got {kind(entry)}"
        return
    known = ("name", "path", "index_only")
    for key in entry:
        if key not in known:
            yield str(key), unknown_key(key, known)
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        yield None if name is None else "name", "key 'name' is missing" if name is None else "'name' is a text"
    path = entry.get("path")
    parts = [path] if isinstance(path, str) or path is None else path
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(p, str | None) for p in parts):
        yield "path", "'path' is the name of a dataset or a list of names"
    if not isinstance(entry.get("index_only", False), bool | None):
        yield "index_only", f"'index_only' is true or false, got {kind(entry['index_only'])}"


def unknown_key(key: object, known: Iterable[str]) -> str:
    """What to say of a key that nobody knows."""
    from difflib import get_close_matches

    close = get_close_matches(str(key), list(known), n=1)
    return f"unknown key '{key}'" + (f" (did you mean '{close[0]}'?)" if close else "")


def kind(value: object) -> str:
    """What a value of a workflow file is, in a user's words."""
    if value is None:
        return "nothing"
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", int: "a number"}
    return names.get(type(value), f"a {type(value).__name__}") + (
        f" ({value!r})" if isinstance(value, str | int | float) else ""
    )
