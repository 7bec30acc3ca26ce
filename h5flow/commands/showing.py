"""What commands print: texts, JSON, sizes."""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec


def show(text: str) -> None:
    """Print lines; where nobody reads on, as `head` doesn't, that is no error."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_json(value: Any) -> str:
    """Structures as JSON for people and programs."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def shown_size(size: int) -> str:
    """A number of bytes, as in `12.5 MiB`."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
