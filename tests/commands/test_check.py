"""Checking workflows and their input before a run."""

from __future__ import annotations

import h5py
import numpy as np
import pytest


def check(folder, *arguments, workflow="workflow.yaml"):
    return folder.run("check", workflow, "-i", "in.h5", *arguments)


def test_nothing_wrong(folder):
    before = folder.names()
    done = check(folder)
    assert done.code == 0, done
    assert done.err == "workflow.yaml: nothing is wrong; 1 stages, in.h5\n"
    assert check(folder, "-q").err == ""
    assert folder.names() == before


def test_each_mistake_has_its_line(folder):
    folder.write(
        "wrong.yaml",
        """\
        flow: {source: raw, stages: [sum]}
        sum:
          classname: Sum
          path: mine
          requires:
          - hits
          - nowhere
          - {name: far, path: [calib, raw]}
        """,
    )
    done = check(folder, workflow="wrong.yaml")
    assert done.code == 2
    first, second = done.err.splitlines()
    assert first.startswith("h5flow-async: wrong.yaml:7:5: sum.requires[1]: dataset 'nowhere' isn't there")
    assert second.startswith("h5flow-async: wrong.yaml:8:5: sum.requires[2]: there are no references between 'calib'")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sum.classname=Smu", "workflow.yaml:3: module 'mine' has no class 'Smu'"),
        ("flow.stages=[smu]", "no section 'smu'"),
        ("runtime.loaders=0", "runtime.loaders"),
        ("flow.source=rwa", "--set flow.source=rwa: the source, dataset 'rwa', isn't in 'in.h5'"),
    ],
)
def test_what_else_can_be_wrong(folder, override, says):
    done = check(folder, "--set", override)
    assert done.code == 2, done
    assert says in done.err
    assert "Traceback" not in done.err


def test_what_an_init_may_make_that_needs_rows_is_not_wrong(folder):
    """The first stage looks at rows of the input before it makes its dataset; the check has none."""
    folder.write(
        "looks.py",
        """
        from h5flow.core import H5FlowStage

        class Looks(H5FlowStage):
            def init(self, source_name):
                if not self.data_manager['raw', :]['id'].any():
                    raise ValueError('no ids')
                self.data_manager.create_dset('looked', 'f4')

        class Next(H5FlowStage):
            pass
        """,
    )
    folder.write(
        "looks.yaml",
        """\
        flow: {source: raw, stages: [looks, next]}
        looks: {classname: Looks, path: looks, requires: [hits]}
        next: {classname: Next, path: looks, requires: [looked]}
        """,
    )
    done = check(folder, workflow="looks.yaml")
    assert done.code == 0, done
    assert "its init could not be tried without rows: stage 'looks'" in done.err
    assert "not wrong if an init that could not be tried makes it: looks.yaml:3:" in done.err
    assert folder.run("looks.yaml", "-i", "in.h5", "-o", "looks.h5").code == 0


def test_mistakes_of_stages_with_quotes_in_their_names_have_their_lines(folder):
    folder.write(
        "quotes.yaml",
        """\
        flow: {source: raw, stages: ["it's'"]}
        "it's'":
          {classname: Sum, path: mine, requires: [hits, none]}
        """,
    )
    done = check(folder, workflow="quotes.yaml")
    assert done.code == 2
    assert done.err.startswith("h5flow-async: quotes.yaml:3:49: it's'.requires[1]: dataset 'none' isn't there")


def test_a_pattern_of_inputs(folder):
    done = check(folder, "-i", "*.h5")
    assert done.code == 2
    assert "input '*.h5' is a pattern: give one of its files" in done.err


def test_an_input_that_is_missing(folder):
    done = folder.run("check", "workflow.yaml", "-i", "gone.h5")
    assert done.code == 2
    assert "'gone.h5' doesn't exist" in done.err


def test_an_input_whose_objects_have_several_names(folder):
    with h5py.File(folder.path / "in.h5", "a") as file:
        file["raw/all"] = file["/"]
        file["again/data"] = file["calib/data"]
        file["soft"] = h5py.SoftLink("/")
    folder.write(
        "workflow.yaml", "flow: {source: raw, stages: [sum]}\nsum: {classname: Sum, path: mine, requires: [again]}\n"
    )
    done = check(folder)
    assert done.code == 0, done


def beyond(file):
    file["raw/ref/hits/ref"][3] = (1, 99)


def lost_dataset(file):
    del file["calib/data"]


def lost_regions(file):
    del file["hits/ref/raw/ref_region"]


def too_wide(file):
    file["raw/ref/hits/ref_region"][4] = (0, 1000)


def too_narrow(file):
    regions = file["raw/ref/hits/ref_region"][:]
    regions["stop"][4] = regions["start"][4]
    file["raw/ref/hits/ref_region"][:] = regions


def too_short(file):
    regions = file["hits/ref/calib/ref_region"][:10]
    del file["hits/ref/calib/ref_region"]
    file["hits/ref/calib/ref_region"] = regions


def no_pairs(file):
    del file["raw/ref/hits/ref"]
    file["raw/ref/hits/ref"] = np.zeros(4)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (beyond, "references 'raw' → 'hits': 1 of 20 point past the 20 rows of 'hits', first entry 3"),
        (lost_dataset, "references 'hits' → 'calib': dataset 'calib' isn't there"),
        (lost_regions, "references 'raw' → 'hits': there is no region table for the rows of 'hits'"),
        (too_wide, "references 'raw' → 'hits': the region of row 4 of 'raw' is 0:1000, there are 20 entries"),
        (too_narrow, "references 'raw' → 'hits': entry 4 lies outside the region of row 4 of 'raw'"),
        (too_short, "references 'hits' → 'calib': the region table of 'hits' has 10 rows, and none for row 10"),
        (no_pairs, "references 'raw' → 'hits': '/raw/ref/hits/ref' has shape (4,) and type float64"),
    ],
)
def test_damaged_references(folder, damage, says):
    folder.write("other.yaml", "flow: {source: raw, stages: []}\n")
    with h5py.File(folder.path / "in.h5", "r+") as file:
        damage(file)
    done = check(folder, workflow="other.yaml")
    assert done.code == 2, done
    assert says in done.err
    assert check(folder, "--no-references", workflow="other.yaml").code == 0


BROKEN = """
    import sys
    from h5flow.core import H5FlowStage

    class Made(H5FlowStage):
        def __init__(self, **params):
            raise KeyError('x')

    class Left(H5FlowStage):
        def init(self, source_name):
            sys.exit(4)
"""


def test_modules_that_can_not_be_imported_are_all_told(folder):
    folder.write("exits.py", "import sys\nsys.exit(3)\n")
    folder.write("raises.py", "raise RuntimeError('no good')\n")
    folder.write(
        "broken.yaml",
        """
        flow: {source: raw, stages: [a, b, c]}
        a: {classname: A, path: exits}
        b: {classname: B, path: raises}
        c: {classname: Gone, path: mine}
        """,
    )
    done = check(folder, workflow="broken.yaml")
    assert done.code == 2
    assert done.err.splitlines() == [
        "h5flow-async: broken.yaml:3: importing exits raises SystemExit: 3",
        "h5flow-async: broken.yaml:4: importing raises raises RuntimeError: no good",
        "h5flow-async: broken.yaml:5: module 'mine' has no class 'Gone'",
    ]


@pytest.mark.parametrize(("name", "error"), [("Made", "KeyError: 'x'"), ("Left", "SystemExit: 4")])
def test_components_that_can_not_be_made(folder, name, error):
    folder.write("broken.py", BROKEN)
    folder.write("broken.yaml", f"flow: {{source: raw, stages: [a]}}\na: {{classname: {name}, path: broken}}\n")
    done = check(folder, workflow="broken.yaml")
    assert (done.code, done.err) == (2, f"h5flow-async: stage 'a' (broken.yaml:2), rank 0: {error}\n")


def test_a_source_that_is_missing_has_its_line(folder):
    folder.write("lost.yaml", "flow:\n  stages: []\n  source: nowhere\n")
    done = check(folder, workflow="lost.yaml")
    assert done.code == 2
    assert done.err == "h5flow-async: lost.yaml:3: the source, dataset 'nowhere', isn't in 'in.h5'\n"


def test_an_input_that_nobody_looks_at_is_checked_too(folder):
    folder.write("made.py", "from h5flow.core import H5FlowGenerator\nclass Made(H5FlowGenerator):\n    pass\n")
    folder.write("made.yaml", "flow: {source: g, stages: []}\ng: {classname: Made, path: made, dset_name: made}\n")
    done = folder.run("check", "made.yaml", "-i", "made.py")
    note, wrong = done.err.splitlines()
    assert note.startswith("h5flow-async: not wrong, but made.yaml:2: generator 'g' doesn't look at the input")
    assert (done.code, wrong) == (2, "h5flow-async: file 'made.py' is not an HDF5 file")
