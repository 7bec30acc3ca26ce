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
