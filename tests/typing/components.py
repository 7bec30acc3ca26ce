"""Components and calls as users write them. A line that is marked must be an error, and is one for both checkers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np

import h5flow
from h5flow.core import H5FlowGenerator, H5FlowManager, H5FlowResource, H5FlowStage
from h5flow.data import H5FlowDataManager, dereference, dereference_chain

Array = np.ndarray[Any, np.dtype[Any]]
Masked = np.ma.MaskedArray[Any, np.dtype[Any]]


class Generates(H5FlowGenerator):
    class_version = "1.0.0"

    def __init__(self, parts: int = 10, **params: Any) -> None:
        super().__init__(**params)
        self.parts: Iterator[slice] = iter([slice(0, parts)])

    def next(self) -> slice:
        return next(self.parts)


class GeneratesLater(H5FlowGenerator):
    async def next(self) -> slice:
        rows = await self.data_manager.awaitable.reserve_data(self.dset_name, 10)
        return slice(rows.start, rows.stop) if self.rank == 0 else self.EMPTY


class GeneratesNumbers(H5FlowGenerator):
    def next(self) -> int:  # type: ignore[override]
        return 3


class Runs(H5FlowStage):
    def init(self, source_name: str) -> None:
        self.data_manager.create_dset("hits", dtype=[("id", "u4")], shape=3)
        self.data_manager.create_ref(source_name, "hits")

    def run(self, source_name: str, source_slice: slice, cache: dict[str, Any]) -> None:
        rows = self.data_manager.reserve_data("hits", len(cache[source_name]))
        assert_type(rows, slice)
        self.data_manager.write_data("hits", rows, cache[source_name])
        self.data_manager.write_ref(source_name, "hits", np.c_[np.r_[source_slice], np.r_[rows]])

    def finish(self, source_name: str) -> None:
        self.data_manager.set_attrs("hits", made=True)


class RunsLater(H5FlowStage):
    async def run(self, source_name: str, source_slice: slice, cache: dict[str, Any]) -> None:
        await self.data_manager.awaitable.write_data("hits", source_slice, cache["hits"])


class RunsWithout(H5FlowStage):
    def run(self, source_name: str, source_slice: slice) -> None:  # type: ignore[override]
        pass


class Shares(H5FlowResource):
    def init(self, source_name: str) -> None:
        self.names = [source_name]


def reserve(dm: H5FlowDataManager) -> None:
    assert_type(dm.reserve_data("a", 5), slice)
    assert_type(dm.reserve_data("a", np.int64(5)), slice)
    rows: slice = dm.reserve_data("a", slice(0, 5))
    assert_type(dm.reserve_data("a", [1, 2]), list[int])
    several: list[slice] = dm.reserve_data("a", [rows, rows])
    several.append(rows)
    dm.reserve_data("a", 2.5)  # type: ignore[call-overload]
    dm.reserve_data("a", "5")  # type: ignore[type-var]
    dm.reserve_data(5, 5)  # type: ignore[call-overload]


def read(dm: H5FlowDataManager, rows: Array) -> None:
    assert dm["a/data"].name == "/a/data"
    assert dm[("a",)].shape
    assert_type(dm["a", 5], Array)
    assert_type(dm["a", 0:5], Array)
    assert_type(dm["a", [1, 1, 0]], Array)
    assert_type(dm["a", rows], Array)
    assert_type(dm["a", "b"], Masked)
    assert_type(dm["a", "b", 0:5], Masked)
    assert_type(dm["a", "b", "c", rows], Masked)
    dm[5]  # type: ignore[call-overload]
    dm[0:5]  # type: ignore[call-overload]
    dm["a", 2.5]  # type: ignore[index]
    dm[5, "a"]  # type: ignore[index]


def follow(dm: H5FlowDataManager, whole: bool) -> None:
    pairs, direction = dm.get_ref("a", "b")
    assert_type(dereference(slice(0, 5), pairs, ref_direction=direction), Masked)
    assert_type(dereference([1, 2], pairs, dm.get_dset("b"), as_masked=True), Masked)
    assert_type(dereference(5, pairs, as_masked=False), list[Array])
    assert_type(dereference(5, pairs, as_masked=whole), Masked | list[Array])
    assert_type(dereference_chain(slice(0, 5), [pairs, pairs]), Masked)
    dereference(5, pairs, as_masked="no")  # type: ignore[call-overload]


def start() -> None:
    h5flow.run(["a.yaml"], "out.h5", input_filename="in.h5", start_position=5, drop=["a"])
    h5flow.run(["a.yaml"], "out.h5", start="5")  # type: ignore[call-arg]
    manager = H5FlowManager({"flow": {}}, "out.h5", None, 0, 5)
    manager.init()
    manager.run()
    manager.finish()


async def start_on_a_loop(manager: H5FlowManager) -> None:
    await manager.run_async()
