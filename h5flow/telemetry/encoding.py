"""JSON of what is told, whatever is in its texts."""

from __future__ import annotations

from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(enc_hook=str)


def encoded(value: Any) -> bytes:
    """Return a value as JSON, encoded."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(encodable(value))


def encodable(value: Any) -> Any:
    """Return a value with its texts made encodable: the name of a file, say, needn't be text."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, list | tuple) else value
