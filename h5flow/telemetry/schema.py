"""The JSON Schema of log lines, made from the vocabulary.

`python -m h5flow.telemetry.schema` writes `events.schema.json` anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from h5flow.telemetry.events import EVENTS, SCHEMA_VERSION, Envelope

#: Where the package has it.
PATH = Path(__file__).with_name("events.schema.json")

_TIMESTAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"


def schema() -> dict[str, Any]:
    """Return a schema that every line of a log fits."""
    events = tuple(EVENTS.values())
    _, parts = msgspec.json.schema_components((Envelope, *events), ref_template="#/$defs/{name}")
    envelope = parts.pop("Envelope")
    envelope["properties"]["timestamp"]["pattern"] = _TIMESTAMP
    envelope["properties"]["level"]["enum"] = ["debug", "info", "warning", "error", "critical"]
    envelope["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    for event in events:
        part = parts[event.__name__]
        message = {"message": {"type": "string"}} if event.SHOWN is None else {}
        part["properties"] = {**envelope["properties"], **message, **part["properties"]}
        # Defaults are written like all other values.
        part["required"] = list(part["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of a log of h5flow-async",
        "oneOf": [{"$ref": f"#/$defs/{event.__name__}"} for event in events],
        "$defs": parts,
    }


def text() -> str:
    """Return the schema as it is in the package."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
