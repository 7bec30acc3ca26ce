"""What commands are given, and print: one input; texts, JSON, diagrams, sizes."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import msgspec

from h5flow.errors import UsageError

# What ends a text in mermaid, or is taken for HTML, an entity, markdown or a formula.
_MEANT = re.compile(r'["&<>#;`\\\x00-\x1f\x7f\ud800-\udfff]')

# What stands for signs of ours where there is only ASCII.
_PLAIN = {"─▶": "->", "→": "->", "│": "|", "…": "...", "–": "-", "×": "x", "µ": "u", "≤": "<="}  # noqa: RUF001


def single(source: str | None) -> str | None:
    """Return an input that is one file. Raises `UsageError` for a pattern of several."""
    if source is not None and any(sign in source for sign in "*?["):
        raise UsageError(f"input '{source}' is a pattern: give one of its files, -i FILE")
    return source


def show(text: str) -> None:
    """Print lines, in signs that the standard output has; where nobody reads on, as `head` doesn't, that is no error.

    Raises `UsageError` where it can't be written otherwise, as to a full disk.
    """
    if not _printed_as(text):
        for sign, plain in _PLAIN.items():
            text = text.replace(sign, plain)
        text = text.encode("ascii", "backslashreplace").decode()
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _write_to_nobody()
    except OSError as error:
        _write_to_nobody()
        raise UsageError(f"the standard output can't be written: {error.strerror}") from error


def _write_to_nobody() -> None:
    """Send what is still to be written, when Python exits, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printed_as(text: str) -> bool:
    """Say whether the standard output has all signs of a text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_json(value: Any) -> str:
    """Return a value as JSON for people and programs, with escapes for signs that the standard output doesn't have."""
    try:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except UnicodeEncodeError:
        text = "\ud800"  # the name of a file, say, that is no text, as it is
    return text if _printed_as(text) else json.dumps(msgspec.to_builtins(value), indent=2)


def printable(line: str) -> str:
    """Return a line with escapes for what isn't printed but obeyed, such as the end of a line in a name."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def quoted(*lines: str) -> str:
    """Quote lines as the text of a box or of an arrow in a mermaid diagram, whatever is in them."""
    return '"' + "<br/>".join(_MEANT.sub(lambda found: f"#{ord(found[0])};", line) for line in lines) + '"'


def shown_size(size: int) -> str:
    """Word a number of bytes, as in `12.5 MiB`."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
