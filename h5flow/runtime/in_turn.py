"""Slices in turn: one after the other through all components, on one thread, as in sequential mode.

Handing over to another thread costs a millisecond where that runs on another core, whose caches have to be filled
again: a tenth of the time of real chains. So where slices don't overlap they go from component to component on the
thread on which all of them were made, and the others hear of a batch of them when it is done.
"""

from __future__ import annotations

from collections.abc import Sequence

from h5flow.runtime.component_turns import GeneratorTurns, Parcel, StageTurns
from h5flow.runtime.pipeline_state import PipelineState


class InTurn:
    """Has the generator take slices, and all stages process each of them before the next one."""

    def __init__(self, generator: GeneratorTurns, stages: Sequence[StageTurns], state: PipelineState) -> None:
        self._generator = generator
        self._stages = stages
        self._state = state
        #: How many slices are on their way.
        self.in_flight = 0

    def take(self, count: int) -> Parcel:
        """Take up to so many slices, on the thread of all components; they have passed all stages."""
        done: Parcel = []
        while len(done) < count and not self._state.over:
            item = self._generator.take_one()
            if item is None:
                break
            self.in_flight = 1
            for stage in self._stages:
                stage.process_one(item, sized=len(done) + 1 == count)
            self.in_flight = 0
            done.append(item)
            self._state.settle()
        return done

    def account(self, parcel: Parcel) -> None:
        """Enter slices that have been taken into the budget."""
        budget = self._state.budget
        for item in parcel:
            budget.enter(item.number)
            if item.size is not None:
                budget.charge(item.number, item.most)
