"""What a job would do, told without doing it."""

from __future__ import annotations

import json
import re

CHAIN = """
    flow: {source: raw, stages: [sum, more, last], drop: [more]}
    sum: {classname: Sum, path: mine, requires: [hits, later], params: {scale: 2}}
    more:
      classname: Makes
      path: chain
      params: {into: more}
      requires: [reco/sums, {name: rows, path: hits, index_only: true}]
    last:
      classname: Makes
      path: chain
      params: {into: later}
      requires: [more, nowhere, {name: far, path: [hits, calib]}, {name: none, path: [hits, raw, more, calib]}]
    runtime: {queue_depth: 3, queues: {more: 7}, loaders: 5, max_in_flight: 40}
"""

MODULE = """
    from h5flow.core import H5FlowStage

    class Makes(H5FlowStage):
        def __init__(self, into, **params):
            super().__init__(**params)
            self.into = into

        def init(self, source_name):
            self.data_manager.create_dset(self.into, 'f4')
            self.data_manager.create_ref(source_name, self.into)
            if self.into == 'fails':
                1 / 0

        def run(self, source_name, source_slice, cache):
            raise AssertionError('nothing is to be run')
"""


def planned(folder, *arguments):
    folder.write("chain.py", MODULE)
    folder.write("chain.yaml", CHAIN)
    before = folder.names()
    done = folder.run("plan", "chain.yaml", "-i", "in.h5", "-o", "out.h5", "--format", "json", *arguments)
    assert done.code == 0, done
    assert folder.names() - {"__pycache__"} == before, "nothing is left behind"
    return json.loads(done.out)


def test_requirements_are_early_or_late_for_a_reason(folder):
    (workflow,) = planned(folder)["workflows"]
    first, more, last = workflow["stages"]
    needs = {(stage["name"], need["name"]): need for stage in workflow["stages"] for need in stage["requires"]}
    when = {key: need["when"] for key, need in needs.items()}
    assert when == {
        ("stage 'sum'", "hits"): "early",
        ("stage 'sum'", "later"): "early",
        ("stage 'more'", "reco/sums"): "late",
        ("stage 'more'", "rows"): "early",
        ("stage 'last'", "more"): "late",
        ("stage 'last'", "nowhere"): "missing",
        ("stage 'last'", "far"): "early",
        ("stage 'last'", "none"): "missing",
    }
    assert needs["stage 'more'", "reco/sums"]["why"] == "stage 'sum' makes 'reco/sums'"
    assert needs["stage 'last'", "nowhere"]["why"].startswith("dataset 'nowhere' isn't there")
    assert needs["stage 'last'", "none"]["why"].startswith("there are no references between 'more' and 'calib'")
    # 20 rows with a hit each, of 8 bytes; a row number has 8, too.
    assert (workflow["rows"], workflow["slices"], workflow["rows_per_slice"]) == (20, 1, 20)
    assert needs["stage 'sum'", "hits"]["bytes"] == workflow["rows_per_slice"] * 8
    assert needs["stage 'more'", "rows"]["bytes"] == workflow["rows_per_slice"] * 8
    assert first["waits"] == [
        "for stage 'last' on the slice before, which makes 'later'",
        "for stage 'last' on the slice before, which makes 'raw → later'",
    ]
    assert more["makes"] == ["more", "raw → more"]
    assert last["source"].endswith("chain.py:4")


def test_actors_and_queues(folder):
    plan = planned(folder, "-s", "4", "-e", "14")
    (workflow,) = plan["workflows"]
    assert workflow["rows"] == 10
    assert workflow["loaders"] == 5
    assert workflow["max_in_flight"] == "40"
    assert (workflow["generator_depth"], workflow["prefetch_depth"]) == (3, 3)
    assert [stage["depth"] for stage in workflow["stages"]] == [3, 7, 3]
    assert workflow["drop"] == ["more"]
    assert plan["storage_on_ranks"] in ("single-writer", "parallel")
    assert planned(folder, "-z", "gzip")["storage_on_ranks"] == "single-writer"


def test_text_and_diagram(folder):
    planned(folder)
    text = folder.run("plan", "chain.yaml", "-i", "in.h5").out
    assert re.search(r"─▶ stage 'more' \(chain.yaml:4\): chain.Makes 0.0.0", text)
    assert "requires reco/sums (reco/sums): late, stage 'sum' makes 'reco/sums'" in text
    assert "│ 7 slices" in text
    diagram = folder.run("plan", "chain.yaml", "-i", "in.h5", "--format", "mermaid").out
    assert "w0s1 -->|7| w0s2" in diagram
    assert 'w0s0 -.->|"reco/sums"| w0s1' in diagram


def test_sequential_mode_has_no_queues(folder):
    arguments = ("plan", "workflow.yaml", "-i", "in.h5", "--set", "runtime.mode=sequential")
    text = folder.run(*arguments).out
    assert "workflow.yaml, sequential" in text
    assert "requires hits (hits): loaded at this stage" in text
    assert not any(word in text for word in ("prefetcher", "│", "committer", "early", "in flight"))
    diagram = folder.run(*arguments, "--format", "mermaid").out
    assert "  w0g --> w0s0" in diagram.splitlines()
    assert "prefetcher" not in diagram


def test_what_components_print_is_not_part_of_it(folder):
    folder.write("mine.py", (folder.path / "mine.py").read_text() + "print('{')\n")
    done = folder.run("plan", "workflow.yaml", "-i", "in.h5", "--format", "json")
    assert done.code == 0, done
    assert [workflow["name"] for workflow in json.loads(done.out)["workflows"]] == ["workflow.yaml"]
    assert done.err == "{\n"


def test_the_second_workflow_sees_what_the_first_one_makes(folder):
    folder.write(
        "second.yaml", "flow: {source: reco/sums, stages: [x]}\nx: {classname: Sum, path: mine, requires: [raw]}\n"
    )
    done = folder.run("plan", "workflow.yaml", "second.yaml", "-i", "in.h5", "--format", "json")
    assert done.code == 0, done
    _, second = json.loads(done.out)["workflows"]
    assert second["rows"] is None
    assert second["stages"][0]["requires"][0]["when"] == "early"


def test_slices_of_a_generator_that_says_how_many_it_has(folder):
    folder.write(
        "made.py",
        """
        from h5flow.core import H5FlowGenerator
        class Made(H5FlowGenerator):
            def init(self):
                self.data_manager.create_dset(self.dset_name, 'u2', (3,))
            def __len__(self):
                return 42
            def next(self):
                raise AssertionError('nothing is to be run')
        """,
    )
    folder.write("made.yaml", "flow: {source: g, stages: []}\ng: {classname: Made, path: made, dset_name: made}\n")
    done = folder.run("plan", "made.yaml")
    assert done.code == 0, done
    assert (
        "  42 slices of 'made', 6 B a row; as many in flight as take little more memory than one"
        in done.out.splitlines()
    )


def test_an_init_that_fails_without_rows_is_told(folder):
    folder.write("chain.py", MODULE)
    folder.write(
        "fails.yaml", "flow: {source: raw, stages: [a]}\na: {classname: Makes, path: chain, params: {into: fails}}\n"
    )
    done = folder.run("plan", "fails.yaml", "-i", "in.h5")
    assert done.code == 0, done
    assert "its init could not be tried without rows: stage 'a' (fails.yaml:2), rank 0: ZeroDivisionError" in done.out


def test_what_is_wrong_is_said_as_by_a_run(folder):
    assert "needs an input file" in folder.run("plan", "workflow.yaml").err
    done = folder.run("plan", "workflow.yaml", "-i", "gone.h5")
    assert done.code == 1
    assert "'gone.h5' doesn't exist" in done.err
    assert folder.run("plan", "nowhere.yaml").code == 2
