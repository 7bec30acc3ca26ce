"""Sequential mode: one slice at a time, one stage after the other. It defines what any other mode must do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5flow.data import H5FlowDataManager
from h5flow.errors import H5FlowError
from h5flow.runtime.failure import Where, locate
from h5flow.runtime.loading import RequirementLoader
from h5flow.workflow import Requirement

if TYPE_CHECKING:
    from h5flow.core import H5FlowGenerator, H5FlowStage


@dataclass(frozen=True, slots=True)
class Step:
    """A stage, and what the cache shall hold when it runs: all that it and the stages before it require."""

    stage: H5FlowStage
    where: Where
    requirements: tuple[Requirement, ...]
    kept: frozenset[str]


def steps(stages: Iterable[tuple[H5FlowStage, Where, Iterable[Requirement]]], source: str) -> tuple[Step, ...]:
    """The steps of a loop over dataset `source`."""
    result: list[Step] = []
    so_far: tuple[Requirement, ...] = ()
    for stage, where, requirements in stages:
        so_far += tuple(requirements)
        kept = frozenset(requirement.name for requirement in so_far) | {source}
        result.append(Step(stage, where, so_far, kept))
    return tuple(result)


@dataclass(slots=True)
class Done:
    """How far a loop got."""

    slices: int = 0
    rows: int = 0


def run_slices(
    generator: H5FlowGenerator,
    generator_where: Where,
    steps: Iterable[Step],
    loader: RequirementLoader,
    data_manager: H5FlowDataManager,
    done: Done,
) -> None:
    """Take slices from the generator until there are no more, and run all steps on each; counts in `done`."""
    source = generator.dset_name
    iterator = iter(generator)
    while True:
        try:
            rows: object = next(iterator, None)
        except BaseException as error:
            locate(error, generator_where)
            raise
        if rows is None:
            return
        if not isinstance(rows, slice):
            wrong = H5FlowError(f"next() must return a slice, got {rows!r}")
            locate(wrong, generator_where)
            raise wrong
        cache: dict[str, Any] = {}
        for step in steps:
            try:
                for name in [name for name in cache if name not in step.kept]:
                    del cache[name]
                loader.update(cache, source, rows, step.requirements)
                step.stage.run(source, rows, cache)
            except BaseException as error:
                locate(error, step.where.on(rows))
                raise
        data_manager.settle()
        done.slices += 1
        if rows.start is not None and rows.stop is not None:
            done.rows += max(0, rows.stop - rows.start)
