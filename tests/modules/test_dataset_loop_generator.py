"""The built-in loop over the rows of the input: which slices it takes, and what subclasses build on."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager

MODULE = """
    import h5py
    import numpy as np
    from h5flow.core import H5FlowStage
    from h5flow.modules import H5FlowDatasetLoopGenerator

    class Slices(H5FlowStage):
        def init(self, source_name):
            self.seen = []
        def run(self, source_name, source_slice, cache):
            if source_slice.start >= 0:
                self.seen.append((source_slice.start, source_slice.stop, len(cache[source_name])))
        def finish(self, source_name):
            self.data_manager.set_attrs('seen', **{f'rank{self.rank}': np.array(self.seen).reshape(-1, 3)})

    class EveryOther(H5FlowDatasetLoopGenerator):
        def setup_slices(self):
            super().setup_slices()
            self.slices = self.slices[::2]
            self.iteration = 1
        def next(self):
            assert self.slices[self.iteration:][:1] == [slice(4, 6)] or self.iteration > 1, self.iteration
            return super().next()

    class OwnSlices(H5FlowDatasetLoopGenerator):
        def setup_slices(self):
            self.slices = [slice(3, 5), slice(0, 1)]

    class CopiesSome(H5FlowDatasetLoopGenerator):
        def copy(self, f0, f1, block=True):
            with h5py.File(f0, 'r') as source, h5py.File(f1, 'w') as target:
                source.copy('raw', target)

    class CopiesAndMore(H5FlowDatasetLoopGenerator):
        def copy(self, f0, f1, block=True):
            super().copy(f0, f1, block=block)
            super().copy(f0, 'another.h5')
    """

WORKFLOW = """
    flow: {source: raw, stages: [slices]}
    slices: {classname: Slices}
    """


def seen(folder, file: str = "out.h5") -> list[tuple[int, int]]:
    with h5py.File(folder.path / file) as opened:
        return [(start, stop) for start, stop, _ in opened["seen"].attrs["rank0"].tolist()]


def cut(rows: int, length: int) -> list[tuple[int, int]]:
    return [(start, min(start + length, rows)) for start in range(0, rows, length)]


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
@pytest.mark.parametrize(("bytes_of_a_row", "length"), [(8, 1024), (684, 16), (2324, 8), (65536, 1)])
def test_auto_takes_the_slices_that_h5py_would_have_made_chunks(folder, mode, bytes_of_a_row, length):
    """Though the file's own chunks are longer, and also after they have been compressed."""
    rows = 3 * length + 1 + 200_000 // bytes_of_a_row
    with H5FlowDataManager(str(folder.path / "in.h5")) as dm:
        dm.create_dset("raw", f"V{bytes_of_a_row}")
        dm.reserve_data("raw", rows)
    folder.write("mod.py", MODULE)
    folder.write("flow.yaml", WORKFLOW)
    arguments = ("--set", f"runtime.mode={mode}", "-q")
    assert folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5", *arguments).code == 0
    assert seen(folder) == cut(rows, length)
    # What comes of the loop is looped over by the next one, in place or not.
    assert folder.run("flow.yaml", "-i", "out.h5", "-o", "again.h5", *arguments).code == 0
    assert seen(folder, "again.h5") == cut(rows, length)


def test_auto_takes_the_chunks_of_others(folder):
    with h5py.File(folder.path / "in.h5", "w") as file:
        file.create_dataset("raw/data", data=np.arange(100.0), chunks=(7,), maxshape=(None,))
    folder.write("mod.py", MODULE)
    folder.write("flow.yaml", WORKFLOW)
    assert folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5").code == 0
    assert seen(folder) == cut(100, 7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("EveryOther", [(4, 6), (8, 10)]), ("OwnSlices", [(3, 5), (0, 1)]), ("CopiesSome", cut(10, 2))],
)
def test_subclasses_build_on_its_parts(folder, name, expected):
    folder.input(rows=10)
    folder.write("mod.py", MODULE)
    folder.write(
        "flow.yaml",
        f"""
        flow: {{source: loop, stages: [slices]}}
        loop: {{classname: {name}, dset_name: raw, params: {{chunk_size: 2}}}}
        slices: {{classname: Slices}}
        """,
    )
    done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
    assert done.code == 0, done.err
    assert seen(folder) == expected
    with h5py.File(folder.path / "out.h5") as file:
        assert ("hits" in file) == (name != "CopiesSome")


def test_a_copy_that_does_more(folder):
    folder.input(rows=10)
    folder.write("mod.py", MODULE)
    flow = "{flow: {source: loop}, loop: {classname: CopiesAndMore, dset_name: raw}}"
    folder.write("flow.yaml", flow)
    assert folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5").code == 0
    assert (folder.path / "another.h5").read_bytes() == (folder.path / "in.h5").read_bytes()
    with h5py.File(folder.path / "out.h5") as file:
        assert {"raw", "hits", "calib"} <= set(file)
