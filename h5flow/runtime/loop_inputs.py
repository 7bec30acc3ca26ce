"""What a loop over slices is made of, and how it is to be run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import msgspec

from h5flow.data.file.data_file import DataFile
from h5flow.runtime.components import Generator
from h5flow.runtime.failure import Where
from h5flow.runtime.loading import RequirementLoader
from h5flow.runtime.measures import Measures, Unmeasured
from h5flow.runtime.randomness import Randomness
from h5flow.runtime.steps import Done, Step

_AUTOMATIC_DEPTH = 2


class Depths(msgspec.Struct, frozen=True):
    """How many parcels the mailboxes hold: that of the generator, of the prefetcher, and of each stage."""

    default: int = 4
    #: By the name of who fills the mailbox: `generator`, `prefetch`, or a stage.
    named: Mapping[str, int] = msgspec.field(default_factory=dict)
    #: Whether mailboxes grow whose consumers starve.
    automatic: bool = False

    def of(self, name: str) -> int:
        """Return the depth of a mailbox at the beginning."""
        return self.named.get(name, _AUTOMATIC_DEPTH if self.automatic else self.default)


class LoopInputs(msgspec.Struct, frozen=True):
    """Components, the file, and what is counted and measured; the same in all modes."""

    generator: Generator
    generator_where: Where
    steps: tuple[Step, ...]
    loader: RequirementLoader
    file: DataFile
    done: Done
    randomness: Randomness
    #: What slices take, where somebody wants to know.
    measures: Measures | Unmeasured

    @property
    def source(self) -> str:
        """Return the dataset that slices are of."""
        return self.generator.dset_name

    @property
    def asynchronous(self) -> bool:
        """Say whether any component runs on an event loop."""
        functions = [self.generator.next, *(step.stage.run for step in self.steps)]
        return any(inspect.iscoroutinefunction(function) for function in functions)

    @property
    def names(self) -> list[str]:
        """Name the components, the generator first."""
        return [self.generator_where.component, *(step.where.component for step in self.steps)]


class RunOptions(msgspec.Struct, frozen=True):
    """How slices overlap: `max_in_flight` is a number of slices, a size such as `"1 GiB"`, or `"auto"`."""

    depths: Depths
    loaders: int
    max_in_flight: str | int
    #: Which event loop is made: `uvloop`, `asyncio`, or `auto`.
    loop: str
