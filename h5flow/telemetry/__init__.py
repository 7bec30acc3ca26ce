"""What a run tells while it runs: events, logs, metrics and traces.

`emit(event)` tells an event of `h5flow.telemetry.events` to whoever listens. Nothing here imports other packages of
h5flow, so that all of them may use it.
"""

from h5flow.telemetry.journal import Identity, Journal, emit, journal_of

__all__ = ["Identity", "Journal", "emit", "journal_of"]
