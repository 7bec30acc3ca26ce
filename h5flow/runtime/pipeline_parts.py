"""The parts of a pipeline, which slices pass in turn or all at once."""

from __future__ import annotations

import msgspec

from h5flow.runtime.component_turns import GeneratorTurns, Parcel, StageTurns
from h5flow.runtime.in_turn import InTurn
from h5flow.runtime.mailbox import Mailbox
from h5flow.runtime.pipeline_state import PipelineState
from h5flow.runtime.prefetching import Loading
from h5flow.runtime.worker import Worker


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Components and threads, made once for a loop; actors are made of them where slices overlap."""

    state: PipelineState
    generator: GeneratorTurns
    stages: list[StageTurns]
    #: What has slices pass in turn, `None` where components run on an event loop.
    in_turn: InTurn | None
    loading: Loading
    #: Filled by the generator, the prefetcher, and each stage.
    mailboxes: list[Mailbox[Parcel]]
    #: The threads of the generator and of each stage, those that load ahead, and the one that writes.
    workers: list[Worker]
    loaders: list[Worker]
    writer: Worker
    #: Whether mailboxes become deeper whose consumers starve.
    tunes: bool
