"""Misspelled names that change nothing, so that nobody would see them: each is told, with what it may have meant."""

from __future__ import annotations

import json
import textwrap

import pytest

MODULE = """
    import numpy as np
    from h5flow.core import H5FlowGenerator, H5FlowResource, H5FlowStage

    class Base(H5FlowStage):
        def __init__(self, window=3, **params):
            super().__init__(**params)
            self.window = window

    class Good(Base):
        def __init__(self, **params):
            super(Good, self).__init__(**params)
            self.threshold = params.get('threshold', 1)
            self.gain = params['gain'] if 'gain' in params else 1
        def init(self, source_name):
            self.data_manager.create_dset('peaks', 'i4')
        def run(self, source_name, source_slice, cache):
            pass

    class Handed(H5FlowStage):
        def __init__(self, **params):
            super().__init__(**params)
            self.config = dict(**params)
        def run(self, source_name, source_slice, cache):
            pass

    class Kept(H5FlowStage):
        def __init__(self, **params):
            super().__init__(**params)
            self.params = params
        def run(self, source_name, source_slice, cache):
            pass

    class Loops(H5FlowStage):
        def __init__(self, **params):
            super().__init__(**params)
            for name, value in params.items():
                setattr(self, name, value)
        def run(self, source_name, source_slice, cache):
            pass

    class NoParams(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            pass

    class Rnu(H5FlowStage):
        def rnu(self, source_name, source_slice, cache):
            pass

    class Inti(H5FlowStage):
        def inti(self, source_name):
            pass
        def run(self, source_name, source_slice, cache):
            self.runs()
        def runs(self):
            pass
        def Finish(self, source_name):
            pass
        def unit(self):
            return 'mm'

    class NoRun(H5FlowStage):
        def init(self, source_name):
            pass

    class Inherits(Good):
        pass

    class Table(H5FlowResource):
        def __init__(self, **params):
            super().__init__(**params)
            self.scale = params.get('scale')

    class Gen(H5FlowGenerator):
        number = 0
        def init(self):
            self.data_manager.create_dset(self.dset_name, 'i4')
        def next(self):
            self.number += 1
            return self.data_manager.reserve_data(self.dset_name, 2) if self.number < 3 else self.EMPTY

    class Nxt(H5FlowGenerator):
        def nxt(self):
            return self.EMPTY

    class Whole(Gen):
        def __init__(self, **params):
            super().__init__(**params)
            self.options = [*params]
    """

#: A module of its own, since what is mentioned anywhere in a module counts as read.
READS = """
    from h5flow.core import H5FlowStage
    from mine import Gen

    class Assigned(H5FlowStage):
        def __init__(self, **params):
            super().__init__(**params)
            self.run = lambda *arguments: None

    class Reads(Gen):
        def __init__(self, **params):
            super().__init__(**params)
            self.last = self.end_position, self.start_position, self.input_filename
    """


def told(done) -> list[str]:
    assert done.code == 0, done
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["level"] == "warning" and "already exists" not in line["message"]]


@pytest.fixture
def run(folder):
    folder.write("mine.py", MODULE)
    folder.write("reads.py", READS)
    folder.input()

    def run(workflow, *arguments):
        folder.write("flow.yaml", workflow)
        done = folder.run("flow.yaml", "-o", "out.h5", *arguments)
        found = told(done)
        checked = folder.run("check", "flow.yaml", *arguments[:2])
        assert checked.code == 0, checked
        for line in found:
            assert f"h5flow-async: not wrong, but {line}" in checked.err or line not in checkable(line)
        return found

    return run


def checkable(line):
    """What `check` can know as well."""
    return [] if "dropped" in line or "that is given" in line else [line]


def stage(classname, params="{}"):
    return f"flow: {{source: raw, stages: [s]}}\ns:\n  classname: {classname}\n  path: mine\n  params: {params}\n"


IN = ("-i", "in.h5")


@pytest.mark.parametrize(
    ("workflow", "says"),
    [
        (stage("Good", "{treshold: 2, gain: 3}"), "its parameter 'treshold' (did you mean 'threshold'?)"),
        (stage("Good", "{windwo: 2}"), "its parameter 'windwo' (did you mean 'window'?)"),
        (stage("Good", "{xyz: 2}"), "its parameter 'xyz' (it reads gain, threshold, window)"),
        (stage("Inherits", "{treshold: 2}"), "its parameter 'treshold' (did you mean 'threshold'?)"),
        (stage("NoParams", "{xyz: 2}"), "nobody reads its parameter 'xyz'"),
        (stage("Rnu"), "class Rnu has no run(), and nobody calls its 'rnu' (did you mean 'run'?)"),
        (stage("NoRun"), "class NoRun has no run(), so nothing is done with its slices"),
    ],
)
def test_of_a_stage(run, workflow, says):
    (line,) = run(workflow, *IN)
    assert line.startswith("flow.yaml:2: stage 's': ")
    assert line.endswith(says)


def test_of_methods_that_are_not_called(run):
    assert run(stage("Inti"), *IN) == [
        "flow.yaml:2: stage 's': class Inti has no init(), and nobody calls its 'inti' (did you mean 'init'?)",
        "flow.yaml:2: stage 's': class Inti has no finish(), and nobody calls its 'Finish' (did you mean 'finish'?)",
    ]


@pytest.mark.parametrize(
    "workflow",
    [
        stage("Good", "{threshold: 2, gain: 3, window: 5}"),
        stage("Inherits", "{threshold: 2, gain: 3, window: 5}"),
        stage("Handed", "{anything: 1}"),
        stage("Kept", "{anything: 1}"),
        stage("Loops", "{anything: 1}"),
        stage("NoParams"),
        stage("Assigned").replace("path: mine", "path: reads"),
        "flow: {source: g}\ng: {classname: H5FlowDatasetLoopGenerator, dset_name: raw, params: {chunk_size: 3}}\n",
        "flow: {source: raw, stages: [s]}\ns: {classname: H5FlowTestStage}\n",
    ],
)
def test_nothing_to_tell(run, workflow):
    assert run(workflow, *IN, "-s", "1", "-e", "9") == []


def test_of_resources_and_generators(run):
    workflow = """
        flow: {source: g, stages: []}
        resources: [{classname: Table, path: mine, params: {scael: 2}}]
        g: {classname: Gen, path: mine, dset_name: made, params: {slices: 2}}
        """
    lines = run(workflow)
    assert [line.partition(": ")[2] for line in lines] == [
        "resource 'Table': nobody reads its parameter 'scael' (did you mean 'scale'?)",
        "generator 'g': nobody reads its parameter 'slices'",
    ]


def test_a_generator_without_next_says_what_it_has_instead(folder):
    folder.write("mine.py", MODULE)
    folder.write("flow.yaml", "flow: {source: g, stages: []}\ng: {classname: Nxt, path: mine, dset_name: made}\n")
    done = folder.run("flow.yaml", "-o", "out.h5")
    assert done.code == 1
    assert "class Nxt has no next(), and nobody calls its 'nxt' (did you mean 'next'?)" in done.err
    assert "Nxt.next() is not implemented" in done.err


@pytest.mark.parametrize(("classname", "count"), [("mine, classname: Gen", 3), ("reads, classname: Reads", 0)])
def test_of_what_the_generator_is_given(run, classname, count):
    workflow = f"flow: {{source: g, stages: []}}\ng: {{path: {classname}, dset_name: made}}\n"
    lines = run(workflow, *IN, "-s", "1", "-e", "3")
    assert len(lines) == count
    for line, what in zip(lines, ("the input", "the start", "the end"), strict=False):
        assert line.startswith(f"flow.yaml:2: generator 'g' doesn't look at {what} that is given")


def test_what_takes_all_may_look_at_the_positions(run):
    workflow = "flow: {source: g, stages: []}\ng: {classname: Whole, path: mine, dset_name: made}\n"
    assert run(workflow, *IN, "-s", "1", "-e", "3") == []


SECTIONS = """
    flow: {source: raw, stages: [s]}
    s: {classname: NoParams, path: mine}
    """


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("resource: [{classname: Table}]", "section 'resource' (did you mean 'resources'?)"),
        ("runtme: {strict: true}", "section 'runtme' (did you mean 'runtime'?)"),
        ("log: {level: debug}", "section 'log' (did you mean 'logging'?)"),
        ("loging: debug", "section 'loging' (did you mean 'logging'?)"),
        ("other: [1, 2]", "section 'other'"),
    ],
)
def test_of_sections(run, section, says):
    (line,) = run(textwrap.dedent(SECTIONS) + section + "\n", *IN)
    assert line.startswith("flow.yaml:4: nothing uses ")
    assert line.endswith(says)


@pytest.mark.parametrize(
    "sections",
    [
        "x-common: {a: 1}\n",
        "other: {classname: Good}\n",
        "version: 2\ntitle: charge\n",
        "common: &c {window: 1}\nother: {classname: Good, params: *c}\n",
        "common: &c {window: 1}\nother: {classname: Good, params: {<<: *c, gain: 2}}\n",
        "constants:\n  window: &w [1, 2]\nother: {classname: Good, params: {window: *w}}\n",
    ],
)
def test_sections_that_are_there_for_a_reason(run, sections):
    assert run(textwrap.dedent(SECTIONS) + sections, *IN) == []


def test_of_sections_in_plans(folder):
    folder.write("mine.py", MODULE)
    folder.input()
    folder.write("flow.yaml", textwrap.dedent(SECTIONS) + "resource: []\n")
    done = folder.run("plan", "flow.yaml", "-i", "in.h5")
    assert "  note: flow.yaml:4: nothing uses section 'resource' (did you mean 'resources'?)\n" in done.out
    assert done.err == ""


def test_of_what_is_dropped(run, folder):
    workflow = "flow: {source: raw, stages: [s], drop: [peaks, calb]}\ns: {classname: Good, path: mine}\n"
    assert run(workflow, *IN, "-d", "raw", "-d", "histt") == [
        "'calb' is to be dropped, but there is no such dataset (did you mean 'calib'?)",
        "'histt' is to be dropped, but there is no such dataset (did you mean 'hits'?)",
    ]


def test_they_cost_little(folder, monkeypatch):
    """Sources are not parsed where all names stand in them."""
    import ast

    from h5flow.core.oversights import oversights
    from h5flow.workflow import check, get_class, load

    folder.write("mine.py", MODULE)
    folder.write("flow.yaml", stage("Good", "{threshold: 2, gain: 3, window: 5}"))
    config = check(load("flow.yaml"))
    monkeypatch.setattr(ast, "parse", lambda *_: pytest.fail("parsed"))
    assert oversights(config, [get_class("Good", "mine")], ["start_position"]) == []
