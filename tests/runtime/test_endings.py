"""How the slices of a generator end: by `EMPTY`, or by an iterator that it holds. By nothing else."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from h5flow.core import H5FlowGenerator, H5FlowResource, H5FlowStage
from h5flow.errors import H5FlowError

SLICES = [slice(0, 2), slice(2, 4), slice(4, 6)]


class Source(H5FlowGenerator):
    """Has its rows before the loop."""

    def init(self):
        self.data_manager.create_dset(self.dset_name, "i4")
        self.data_manager.reserve_data(self.dset_name, 6)
        self.slices = iter(SLICES)
        self.number = 0

    def take(self):
        self.number += 1
        return SLICES[self.number - 1] if self.number <= len(SLICES) else self.EMPTY


class Counts(H5FlowStage):
    def __init__(self, **params):
        super().__init__(**params)
        self.seen = []

    def run(self, source_name, source_slice, cache):
        self.seen.append(source_slice)


class FromIterator(Source):
    def next(self):
        return next(self.slices)


class FromIteratorInATry(Source):
    def next(self):
        try:
            rows = next(
                self.slices,
            )
        finally:
            self.number += 1
        return rows


class FromAGeneratorFunction(Source):
    def init(self):
        super().init()
        self.slices = (rows for rows in SLICES)

    def next(self):
        return self.slices.__next__()


class Reader:
    """An iterator of one's own."""

    def __init__(self):
        self.left = list(SLICES)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop(0)


class FromAReader(Source):
    def init(self):
        super().init()
        self.files = type("Files", (), {"reader": Reader()})()

    def next(self):
        return next(self.files.reader)


class Raises(Source):
    def next(self):
        rows = self.take()
        if rows == self.EMPTY:
            raise StopIteration("no more")
        return rows


class Below(Source):
    def _following(self):
        return next(self.slices)

    def next(self):
        return self._following()


class Above(FromIterator):
    def next(self):
        return super().next()


def passed_on(method):
    def wrapper(*args, **kwargs):
        return method(*args, **kwargs)

    return wrapper


class Decorated(Source):
    @passed_on
    def next(self):
        return next(self.slices)


class Awaits(Source):
    async def next(self):
        await asyncio.sleep(0)
        return next(self.slices)


class AwaitsRaises(Source):
    async def next(self):
        rows = self.take()
        if rows == self.EMPTY:
            raise StopIteration
        return rows


class AwaitsAnAsyncGenerator(Source):
    def init(self):
        super().init()

        async def made():
            for rows in SLICES:
                yield rows

        self.slices = made()

    async def next(self):
        return await anext(self.slices)


class ByHand(Source):
    def next(self):
        return self.take()


ENDINGS = [
    FromIterator,
    FromIteratorInATry,
    FromAGeneratorFunction,
    FromAReader,
    Raises,
    Below,
    Above,
    Decorated,
    Awaits,
    AwaitsRaises,
    AwaitsAnAsyncGenerator,
    ByHand,
]


def config(source):
    return {
        "flow": {"source": "source", "stages": ["counts"]},
        "source": {"classname": source.__name__, "dset_name": "raw"},
        "counts": {"classname": "Counts"},
    }


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize("source", ENDINGS)
def test_an_end(modes, source, mode):
    manager = modes.run(mode, config(source), [source, Counts])
    assert manager.stages[0].seen == SLICES
    assert manager.done.slices == 3


def first_of(found):
    return next(iter(found))


class Strays(Source):
    """After its first slice it takes the first of nothing."""

    def next(self):
        rows = self.take()
        if self.number == 2:
            return next(iter([]))
        return rows


class StraysBelow(Source):
    def next(self):
        rows = self.take()
        if self.number == 2:
            first_of([])
        return rows


class StraysInAnExpression(Source):
    def next(self):
        rows = self.take()
        if self.number == 2:
            return next(found for found in SLICES if found.start > 10)
        return rows


class StraysWithALocalName(Source):
    def next(self):
        slices = self.slices
        return next(slices)


class StraysInAHelper:
    def first(self):
        return next(self.nothing)

    nothing = iter([])


class StraysInAnObject(Source):
    def init(self):
        super().init()
        self.helper = StraysInAHelper()

    def next(self):
        rows = self.take()
        if self.number == 2:
            return self.helper.first()
        return rows


class StraysBehindAnIterator(Source):
    """Takes from what it holds, and then the first of nothing, in one line."""

    def next(self):
        return next(self.slices) if self.number else (next(self.slices), setattr(self, "number", 1), first_of([]))[0]


class StraysInACoroutine(Source):
    async def next(self):
        rows = self.take()
        if self.number == 2:
            return next(iter([]))
        return rows


class StraysInAnotherCoroutine(Source):
    async def next(self):
        rows = self.take()
        if self.number == 2:
            return await self.other([])
        return rows

    @staticmethod
    async def other(found):
        return first_of(found)


STRAYS = [
    (Strays, "return next(iter([]))"),
    (StraysBelow, "return next(iter(found))"),
    (StraysInAnExpression, "return next(found for"),
    (StraysWithALocalName, "return next(slices)"),
    (StraysInAnObject, "return next(self.nothing)"),
    (StraysBehindAnIterator, "return next(iter(found))"),
    (StraysInACoroutine, "return next(iter([]))"),
    (StraysInAnotherCoroutine, "return next(iter(found))"),
]


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize(("source", "line"), STRAYS)
def test_no_end(modes, source, line, mode):
    with pytest.raises(H5FlowError, match=r"^StopIteration has left next.*return self.EMPTY") as raised:
        modes.run(mode, config(source), [source, Counts])
    assert "in generator 'source' (<config>), rank 0" in raised.value.__notes__
    number = re.search(r"test_endings\.py:(\d+), which isn't the end", str(raised.value))[1]
    assert line in Path(__file__).read_text().splitlines()[int(number) - 1]


def test_no_end_where_there_is_no_source(modes):
    made = {"Source": Source}
    exec("class Unseen(Source):\n    def next(self):\n        return next(self.slices)\n", made)
    with pytest.raises(H5FlowError, match=r"StopIteration has left next\(\) from <string>:3"):
        modes.run("sequential", config(made["Unseen"]), [made["Unseen"], Counts])


class Forgets(Source):
    def next(self):  # noqa: RET503
        rows = self.take()
        if rows == self.EMPTY:
            return rows
        print(rows.stop)  # noqa: T201 - and no return


class AwaitsAndForgets(Source):
    async def next(self):
        await asyncio.sleep(0)


class Array(Source):
    def next(self):
        return [0, 1]


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize(
    ("source", "says"),
    [
        (Forgets, r"^next\(\) has returned nothing: .*`return self.EMPTY`"),
        (AwaitsAndForgets, r"^next\(\) has returned nothing"),
        (Array, r"^next\(\) must return a slice, got \[0, 1\]"),
    ],
)
def test_what_is_no_slice(modes, source, says, mode):
    with pytest.raises(H5FlowError, match=says) as raised:
        modes.run(mode, config(source), [source, Counts])
    assert "in generator 'source' (<config>), rank 0" in raised.value.__notes__
    assert [path.name for path in modes.folder.iterdir()] == [f"{mode}-1.h5.partial"]


@pytest.mark.parametrize("mode", ["sequential", "pipelined"])
@pytest.mark.parametrize(
    ("what", "where"),
    [("stage", "run"), *((what, where) for what in ("stage", "resource", "generator") for where in ("init", "finish"))],
)
def test_one_from_another_method_ends_no_run_well(modes, what, where, mode):
    def strays(self, *_):
        next(iter([]))

    base = {"stage": Counts, "resource": H5FlowResource, "generator": ByHand}[what]
    made = type("Made", (base,), {where: strays})
    settings = config(made if what == "generator" else ByHand)
    if what == "stage":
        settings["counts"]["classname"] = "Made"
    elif what == "resource":
        settings["resources"] = [{"classname": "Made"}]
    with pytest.raises(StopIteration):
        modes.run(mode, settings, [ByHand, Counts, made])
    assert not (modes.folder / f"{mode}-1.h5").exists()
