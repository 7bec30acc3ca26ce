"""Checked workflows: what they hold, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

import h5flow.workflow
from h5flow.errors import ConfigError
from h5flow.workflow import (
    ComponentConfig,
    Document,
    Flow,
    Requirement,
    RunConfig,
    RuntimeConfig,
    StageConfig,
    WorkflowConfig,
    check,
    check_all,
    load,
)

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(h5flow.workflow.__file__).parent / "schema.json").read_text())

WORKFLOW = """\
flow:
  source: gen
  stages: [hits, fit]
  drop: [raw/noise]
resources:
  - {classname: Geometry, path: geo, params: {scale: 2}}
gen:
  classname: Gen
  dset_name: raw
hits:
  classname: Hits
  path: h5flow_modules.hits
  requires: [raw/noise, {name: rows, path: [a, b], index_only: true}]
fit:
  classname: Fit
  params: {threshold: 5}
run: {input: in.h5, output: out.h5, start: 1, end: 9, compression: lzf, drop: [x]}
runtime: {strict: true, mode: pipelined, queue_depth: auto}
"""

MINIMAL = "flow: {source: raw, stages: [a]}\na: {classname: A}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(text: str, name: str = "w.yaml") -> Document:
    Path(name).write_text(text)
    return load(name)


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check(document(text), overrides)
    return str(error.value).splitlines()


def is_in_schema(text: str) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(yaml.safe_load(text))


class TestWhatAWorkflowHolds:
    def test_everything(self):
        assert check(document(WORKFLOW)) == WorkflowConfig(
            name="w.yaml",
            flow=Flow("gen", ("hits", "fit"), ("raw/noise",)),
            generator=ComponentConfig(key="gen", classname="Gen", dset_name="raw", params={}, place="w.yaml:7"),
            stages=(
                StageConfig(
                    key="hits",
                    classname="Hits",
                    path="h5flow_modules.hits",
                    params={},
                    place="w.yaml:10",
                    requires=(
                        Requirement("raw/noise", ("raw/noise",)),
                        Requirement("rows", ("a", "b"), True),
                    ),
                ),
                StageConfig(key="fit", classname="Fit", params={"threshold": 5}, place="w.yaml:14"),
            ),
            resources=(
                ComponentConfig(
                    key="Geometry", classname="Geometry", path="geo", params={"scale": 2}, place="w.yaml:6"
                ),
            ),
            run=RunConfig("in.h5", "out.h5", 1, 9, "lzf", ("x",)),
            runtime=RuntimeConfig(True, "pipelined", "auto"),
            data=yaml.safe_load(WORKFLOW),
            source_place="w.yaml:2",
        )

    def test_a_source_that_is_no_key_is_a_dataset(self):
        config = check(Document.from_mapping({"flow": {"source": "charge/raw"}}))
        assert config.flow == Flow("charge/raw")
        assert config.generator is None
        assert (config.stages, config.resources) == ((), ())
        assert (config.run, config.runtime) == (RunConfig(), RuntimeConfig(False, "pipelined", 4))
        assert config.name == "<config>"

    def test_dataset_of_a_generator_may_stand_in_its_params(self):
        config = check(document("flow: {source: g}\ng: {classname: G, params: {dset_name: raw}}"))
        assert config.generator is not None
        assert config.generator.dset_name == "raw"
        assert config.generator.params == {"dset_name": "raw"}

    def test_a_library_user_may_give_tuples_and_needs_no_places(self):
        config = check(Document.from_mapping({"flow": {"source": "x", "stages": ("a",)}, "a": {"classname": "A"}}))
        assert config.stages == (StageConfig(key="a", classname="A", params={}, place="<config>"),)

    @pytest.mark.parametrize(
        "text",
        [
            "flow: {source: raw, stages: [], drop: []}",
            "flow: {source: raw, stages: , drop: }\nresources:\nrun:\nruntime:",
            "flow: {source: raw, stages: [a]}\na: {classname: A, path: , params: , requires: , dset_name: }",
            "flow: {source: raw, stages: [a]}\na: {classname: A, params: {}, requires: [], dset_name: raw}",
            "flow: {source: g}\ng: {classname: G, dset_name: raw, requires: []}",
            "flow: {source: g}\ng: {classname: G, dset_name: raw, requires: }",
            "flow: {source: raw, stages: [run]}\nrun: {classname: Run, params: {output: x}}",
            "flow: {source: runtime}\nruntime: {classname: G, dset_name: raw}",
            "flow: {source: run}\nrun: {output: x}",
            "flow: {source: raw}\nbase: &b {x: 1}\nunused: {classname: U}\nother: [1, *b]\n3: x",
            "flow: {source: raw}\nrun: {start: 0, end: 0}",
        ],
    )
    def test_fine(self, text):
        assert check(document(text))
        assert is_in_schema(text)

    def test_a_component_called_run_leaves_the_settings_at_their_defaults(self):
        config = check(document("flow: {source: raw, stages: [run]}\nrun: {classname: Run, params: {output: x}}"))
        assert config.run == RunConfig()
        assert [stage.key for stage in config.stages] == ["run"]

    @pytest.mark.parametrize(
        "path",
        # What else is YAML isn't a workflow.
        [path for path in sorted(ROOT.glob("examples/*/*.yaml")) if path.parent.name != "monitoring"],
        ids=lambda path: path.name,
    )
    def test_examples(self, path):
        assert check(load(path))
        assert is_in_schema(path.read_text())


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("flwo: {source: x}", "w.yaml:1:1: no section 'flow' (did you mean 'flwo'?)"),
            ("flow:", "w.yaml:1:1: flow: missing key 'source'"),
            ("flow: x", "w.yaml:1:7: flow: expected a mapping with 'source', 'stages', 'drop', not 'x'"),
            (
                "flow: {source: [x]}",
                "w.yaml:1:16: flow.source: expected the key of a generator's section, or a dataset name, not ['x']",
            ),
            (
                "flow: {source: x, stage: []}",
                "w.yaml:1:19: flow: unknown key 'stage' (did you mean 'stages'?)",
            ),
            (
                "flow: {source: x, stages: a}",
                "w.yaml:1:27: flow.stages: expected a list, as in 'stages: [hit_finder]', not 'a'",
            ),
            (
                "flow: {source: x, stages: [on]}",
                "w.yaml:1:28: flow.stages[0]: expected the key of a stage's section, not true",
            ),
            (
                "flow: {source: x, drop: [a, 1]}",
                "w.yaml:1:29: flow.drop[1]: expected a dataset name, not 1",
            ),
            (
                "flow: {source: x}\nresources: {classname: G}",
                "w.yaml:2:12: resources: expected a list, as in 'resources: [{classname: Geometry}]', "
                "not {'classname': 'G'}",
            ),
            (
                "flow: {source: x}\nresources:\n- classname: G\n  paht: x",
                "w.yaml:4:3: resources[0]: unknown key 'paht' (did you mean 'path'?)",
            ),
            ("flow: {source: x}\nresources: [{}]", "w.yaml:2:13: resources[0]: missing key 'classname'"),
            (
                "flow: {source: x}\nrun: {start: -1}",
                "w.yaml:2:14: run.start: expected a row number, counted from 0, not -1",
            ),
            (
                "flow: {source: x}\nrun: {end: true}",
                "w.yaml:2:12: run.end: expected a row number, counted from 0, not true",
            ),
            (
                "flow: {source: x}\nrun: {compression: zip}",
                "w.yaml:2:20: run.compression: expected 'gzip' or 'lzf', not 'zip'",
            ),
            (
                "flow: {source: x}\nruntime: {mode: piplined}",
                "w.yaml:2:17: runtime.mode: expected 'pipelined' or 'sequential', not 'piplined'",
            ),
            (
                "flow: {source: x}\nruntime: {queue_depth: 0}",
                "w.yaml:2:24: runtime.queue_depth: expected a number of slices, at least 1, or 'auto', not 0",
            ),
            (
                "flow: {source: x}\nruntime: {strict: 1}",
                "w.yaml:2:19: runtime.strict: expected true or false, not 1",
            ),
        ],
    )
    def test_one(self, text, message):
        assert problems(text) == [message]
        assert not is_in_schema(text)

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ("{path: x}", "w.yaml:2:1: a: missing key 'classname'"),
            (
                "[x]",
                "w.yaml:2:4: a: expected a mapping with 'classname', 'path', 'params', 'requires', "
                "'dset_name', not ['x']",
            ),
            ("{classname: A, path: 5}", "w.yaml:2:25: a.path: expected a python module, "
             "such as h5flow_modules.reco, not 5"),
            ("{classname: A, params: [1]}", "w.yaml:2:27: a.params: expected a mapping "
             "from parameter names to values, not [1]"),
            ("{classname: A, params: {1: x}}", "w.yaml:2:27: a.params: expected a mapping "
             "from parameter names to values, not {1: 'x'}"),
            ("{classname: A, requires: B}", "w.yaml:2:29: a.requires: expected a list, "
             "as in 'requires: [B]', not 'B'"),
            ("{classname: A, requires: [B, {name: x, pth: y}]}", "w.yaml:2:43: a.requires[1]: "
             "unknown key 'pth' (did you mean 'path'?)"),
        ],
    )  # fmt: skip
    def test_in_a_stage(self, section, message):
        assert problems(f"flow: {{source: x, stages: [a]}}\na: {section}") == [message]

    def test_in_a_generator(self):
        assert problems("flow: {source: g}\ng: {classname: G, requires: [a]}") == [
            "w.yaml:2:1: g: missing key 'dset_name', the dataset whose slices are generated",
            "w.yaml:2:29: g.requires: only stages can require data, a generator can't",
        ]

    @pytest.mark.parametrize("stages", ["[[a]]", "[{a: 1}]", "[a, [a, a]]"])
    def test_stages_that_are_no_keys(self, stages):
        text = f"flow:\n  source: raw\n  stages: {stages}\na: {{classname: A}}\nruntime: {{queues: {{b: 2}}}}\n"
        found = problems(text, "c.x=1")
        assert len(found) == 3
        assert "no flow uses a section 'c'" in found[0]
        assert any(problem.startswith("w.yaml:3:") and "stages" in problem for problem in found)
        assert any("no queue or stage 'b'" in problem for problem in found)

    def test_stages_without_section_and_listed_twice(self):
        text = "flow: {source: x, stages: [hit_finder, hit_findr, hit_finder, flow]}\nhit_finder: {classname: A}"
        assert problems(text) == [
            "w.yaml:1:40: flow.stages[1]: no section 'hit_findr' (did you mean 'hit_finder'?)",
            "w.yaml:1:51: flow.stages[2]: stage 'hit_finder' is listed twice",
            "w.yaml:1:63: flow.stages[3]: no section 'flow'",
        ]

    def test_a_resource_listed_twice(self):
        assert problems("flow: {source: x}\nresources: [{classname: G}, {classname: G}]") == [
            "w.yaml:2:41: resources[1].classname: resource 'G' is listed twice, there can be one of each class"
        ]

    def test_all_in_the_order_of_the_file_then_included_files(self):
        Path("b.yaml").write_text("classname: B\nx: 1\n")
        text = (
            "runtime: {mode: x}\nb: !include b.yaml\na: {clasname: A}\n"
            "flow: {source: 5, stages: [a, b], x: 1}\nrun: {ouput: x}\n"
        )
        assert [problem.partition(": ")[0] for problem in problems(text)] == [
            "w.yaml:1:17",
            "w.yaml:3:1",
            "w.yaml:3:5",
            "w.yaml:4:16",
            "w.yaml:4:35",
            "w.yaml:5:7",
            "b.yaml:2:1",
        ]

    def test_without_a_file(self):
        with pytest.raises(ConfigError) as error:
            check(Document.from_mapping({"flow": {"surce": "x"}}, name=""))
        assert str(error.value) == ("flow: unknown key 'surce' (did you mean 'source'?)\nflow: missing key 'source'")


class TestOverrides:
    def test_any_value_and_missing_sections(self):
        config = check(
            document(WORKFLOW),
            [
                "runtime.queue_depth=2",
                "hits.requires.1.index_only=false",
                "hits.params.cuts.low= 0.5",
                "flow.drop=[a, b]",
                "flow.stages.1=late",
                "late.classname=Late",
                "run.end=",
            ],
        )
        assert config.runtime.queue_depth == 2
        assert config.stages[0].requires[1] == Requirement("rows", ("a", "b"), False)
        assert config.stages[0].params == {"cuts": {"low": 0.5}}
        assert config.flow.drop == ("a", "b")
        assert (config.stages[1].key, config.stages[1].place) == ("late", "w.yaml:1")
        assert config.run.end is None

    def test_the_document_and_what_shares_an_alias_stay_as_they_are(self):
        text = "flow: {source: x, stages: [a, b]}\na: &a {classname: A, params: {x: 1}}\nb: *a\n"
        original = document(text)
        config = check(original, ["a.params.x=2"])
        assert [stage.params for stage in config.stages] == [{"x": 2}, {"x": 1}]
        assert check(original, ["flow.stages.0=b", "flow.stages.1=a"]).flow.stages == ("b", "a")
        assert check(original).stages[0].params == {"x": 1}
        assert check(original).flow.stages == ("a", "b")

    def test_the_last_one_counts(self):
        assert problems(MINIMAL, "runtime.strict=true", "runtime.strict=5") == [
            "--set runtime.strict=5: runtime.strict: expected true or false, not 5"
        ]

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("runtime.queue_depth=0", "runtime.queue_depth: expected a number of slices, at least 1, or 'auto', not 0"),
            ("runtime.strct=true", "runtime: unknown key 'strct' (did you mean 'strict'?)"),
            ("a={classname: A, x: 1}", "a: unknown key 'x' (known: classname, path, params, requires, dset_name)"),
            ("runtime.strict", "expected KEY=VALUE, with dots in the key, as in 'runtime.strict=true'"),
            ("runtime..strict=true", "expected KEY=VALUE, with dots in the key, as in 'runtime.strict=true'"),
            ("=true", "expected KEY=VALUE, with dots in the key, as in 'runtime.strict=true'"),
            ("run.drop=[a", "'[a' is not valid YAML"),
            ("run.end=2024-13-01", "'2024-13-01' is not valid YAML"),
            ("flow.stages.1=b", "flow.stages: there is no item 1, the list has 1, from 0 on"),
            ("flow.stages.x=b", "flow.stages: there is no item x, the list has 1, from 0 on"),
            ("flow.source.x=b", "flow.source: there can be no 'x' in the value 'raw'"),
            ("runtme.strict=true", "no flow uses a section 'runtme' (did you mean 'runtime'?)"),
        ],
    )  # fmt: skip
    def test_mistakes(self, override, message):
        assert problems(MINIMAL, override) == [f"--set {override}: {message}"]

    def test_of_several_workflows_those_that_use_the_section(self):
        first, second = document(MINIMAL, "1.yaml"), document("flow: {source: raw}\na: 5", "2.yaml")
        configs = check_all([first, second], ["a.params.x=1", "runtime.strict=true"])
        assert configs[0].stages[0].params == {"x": 1}
        assert [config.runtime.strict for config in configs] == [True, True]

    def test_mistakes_of_several_workflows(self):
        first, second = document("flow: {}", "1.yaml"), document("{}", "2.yaml")
        with pytest.raises(ConfigError) as error:
            check_all([first, second], ["a.b=1"])
        assert str(error.value).splitlines() == [
            "--set a.b=1: no flow uses a section 'a'",
            "1.yaml:1:1: flow: missing key 'source'",
            "2.yaml:1:1: no section 'flow'",
        ]


class TestSchema:
    def test_is_one(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    @pytest.mark.parametrize(("name", "struct"), [("flow", Flow), ("run", RunConfig), ("runtime", RuntimeConfig)])
    def test_has_the_keys_and_defaults_of_the_structs(self, name: str, struct: Any):
        described = SCHEMA["$defs"][name]["properties"]
        fields = {field.name: field for field in msgspec.structs.fields(struct)}
        assert list(described) == list(fields)
        for key, description in described.items():
            assert description["description"]
            if "default" in description:
                assert description["default"] == fields[key].default

    def test_knows_all_keys(self):
        assert is_in_schema(WORKFLOW)

    @pytest.mark.parametrize(
        "section",
        [
            "{classname: A, requires: B}",
            "{classname: A, requires: [{name: x, pth: y}]}",
            "{classname: A, requires: [{path: y}]}",
            "{classname: A, requires: [{name: x, path: []}]}",
            "{classname: A, param: {}}",
            "{classname: 5}",
        ],
    )
    def test_rejects_wrong_components(self, section):
        text = f"flow: {{source: x, stages: [a]}}\na: {section}"
        assert problems(text)
        assert not is_in_schema(text)
