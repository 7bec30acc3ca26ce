"""Sizes as people write them: `512MiB`, `2 GB`."""

from __future__ import annotations

import re

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)}
_UNITS |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)}
_SIZE = r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*"

#: What a size looks like, as a regular expression for JSON Schema.
PATTERN = r"^\s*\d+(\.\d+)?\s*([kKmMgGtT][iI]?)?[bB]\s*$"


def parse_size(text: str) -> int:
    """Return the number of bytes that a text such as `512MiB` means; kB are 1000 bytes, KiB 1024.

    Raises `ValueError`.
    """
    found = re.fullmatch(_SIZE, text)
    if found is None or found[2].lower() not in _UNITS:
        raise ValueError(f"'{text}' is no size such as 512MiB")
    return round(float(found[1]) * _UNITS[found[2].lower()])
