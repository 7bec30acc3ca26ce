"""Runs that end by what is no ordinary error: the last line says so all the same."""

from __future__ import annotations

import pytest

STAGE = """
    import asyncio
    from h5flow.core import H5FlowStage

    class Own(BaseException):
        pass

    class Ending(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            {do}
    """

FLOW = """
    flow: {source: raw, stages: [ending]}
    ending: {classname: Ending, path: stage}
    """


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("asyncio.CancelledError", "CancelledError"),
        ("GeneratorExit", "GeneratorExit"),
        ("Own('word')", "Own: word"),
        ("SystemExit(0)", "SystemExit: 0"),
        ("StopIteration", "StopIteration"),
    ],
)
def test_ends(folder, raised, said):
    folder.write("stage.py", STAGE.format(do=f"raise {raised}"))
    folder.write("flow.yaml", FLOW)
    folder.input()
    done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
    last = done.err.splitlines()[-1]
    assert done.code == 1
    assert last.startswith("h5flow-async: stage 'ending' (flow.yaml:3), rank 0, slice ")
    assert last.endswith(f": {said}")
    assert "out.h5" not in folder.names()


def test_an_output_whose_name_is_taken(folder):
    folder.write("stage.py", STAGE.format(do="import os; os.path.exists('out.h5') or os.mkdir('out.h5')"))
    folder.write("flow.yaml", FLOW)
    folder.input()
    done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith(
        "h5flow-async: output 'out.h5' can't be given its name: Is a directory;"
    )


def test_a_generator_that_an_iterator_ends_where_python_keeps_no_columns(folder, monkeypatch):
    """Then all of a line counts."""
    monkeypatch.setenv("PYTHONNODEBUGRANGES", "1")
    folder.write(
        "source.py",
        """
        from h5flow.core import H5FlowGenerator

        class Source(H5FlowGenerator):
            stray = False
            def init(self):
                self.data_manager.create_dset(self.dset_name, "i4")
                self.data_manager.reserve_data(self.dset_name, 4)
                self.slices = iter([slice(0, 2), slice(2, 4)])
            def next(self):
                return next(self.slices)

        class Stray(Source):
            def next(self):
                return next(iter([]))
        """,
    )
    for name, code in (("Source", 0), ("Stray", 1)):
        folder.write("flow.yaml", f"flow: {{source: s, stages: []}}\ns: {{classname: {name}, dset_name: raw}}\n")
        done = folder.run("flow.yaml", "-o", "out.h5")
        assert done.code == code
        said = "2 slices, 4 rows" if name == "Source" else "StopIteration has left next() from source.py:15"
        assert said in done.err
