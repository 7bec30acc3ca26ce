"""The vocabulary, and its schema."""

from __future__ import annotations

import json

import jsonschema
import pytest

from h5flow.telemetry.events import EVENTS, Log, SliceDone
from h5flow.telemetry.journal import Identity
from h5flow.telemetry.rendering import Lines
from h5flow.telemetry.schema import PATH, schema, text

WHO = Identity("20260131-235959-1f2e3d", 3, 4, "host", 17, "w.yaml")


def line(event, level=20):
    lines = []
    Lines(lines.append).write(event, level, WHO)
    (written,) = lines
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    return json.loads(written)


def test_the_schema_in_the_package_is_that_of_the_vocabulary():
    assert PATH.read_text(encoding="utf-8") == text()


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_each_event_says_what_it_is():
    assert {"run.start", "workflow.start", "workflow.done", "component.init", "component.finish"} <= EVENTS.keys()
    assert {"slice.done", "requirement.reloaded", "requirement.missing", "slices.serialized"} <= EVENTS.keys()
    assert {"queue.stats", "queue.deepened", "collective.stalled", "file.opened", "file.published"} <= EVENTS.keys()
    assert {"run.failed", "run.stopped", "run.done", "log", "progress"} <= EVENTS.keys()
    for event in EVENTS.values():
        assert event.__doc__


@pytest.mark.parametrize("message", ["plain", "two\nlines", 'quo"tes', "ünïcode", "\udcff not text", "\x00"])
def test_any_message_is_a_line(message):
    written = line(Log(logger="l", message=message))
    jsonschema.validate(written, schema())
    assert written["message"] == (message if "\udcff" not in message else "\\udcff not text")
    assert written["rank"] == 3


def test_levels_between_the_standard_ones_are_named_for_the_one_below():
    assert [line(Log(logger="l", message="m"), level)["level"] for level in (5, 10, 25, 30, 55)] == [
        "debug",
        "debug",
        "info",
        "warning",
        "critical",
    ]


@pytest.mark.parametrize("field", ["rows", "timestamp", "run_id", "stages"])
def test_a_line_without_a_field_does_not_fit(field):
    event = SliceDone(
        slice_index=0, start=0, stop=1, rows=1, began_s=0, generator_s=0, prefetch_s=0, in_flight_s=0, stages={}
    )
    written = line(event)
    jsonschema.validate(written, schema())
    del written[field]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, schema())
