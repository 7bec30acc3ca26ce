"""Workflow files as data with places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from h5flow.errors import ConfigError
from h5flow.workflow import Document, load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**files: str) -> None:
    for name, text in files.items():
        Path(f"{name}.yaml").write_text(text)


def problems(path: str = "w.yaml") -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(path)
    return [str(problem) for problem in error.value.problems]


class TestPlaces:
    def test_values_and_keys(self):
        write(w="flow:\n  source: raw\n  stages: [a,\n    b]\na: {params: {x: 1}}\n")
        document = load("w.yaml")
        assert document.data == {"flow": {"source": "raw", "stages": ["a", "b"]}, "a": {"params": {"x": 1}}}
        assert document.place() == "w.yaml:1:1"
        assert document.place("flow", "source") == "w.yaml:2:11"
        assert document.key_place("flow", "source") == "w.yaml:2:3"
        assert document.place("flow", "stages", 1) == "w.yaml:4:5"
        assert document.key_place("flow", "stages", 1) == "w.yaml:4:5"
        assert document.place("a", "params", "x") == "w.yaml:5:17"

    def test_of_what_does_not_exist_it_is_the_section_around_it(self):
        write(w="a:\n  b: {c: 1}\n  d: [1]\n")
        document = load("w.yaml")
        assert document.place("a", "b", "nothing", "deeper") == "w.yaml:2:6"
        assert document.key_place("a", "b", "nothing") == "w.yaml:2:6"
        assert document.place("a", "d", 1) == "w.yaml:3:6"
        assert document.place("a", "d", "x") == "w.yaml:3:6"
        assert document.place("a", "b", "c", "x") == "w.yaml:2:10"
        assert document.place("nothing") == "w.yaml:1:1"

    def test_the_file_is_named_as_the_user_did(self, folder):
        (folder / "sub").mkdir()
        write(**{"sub/w": "a: 1\n"})
        assert load("./sub/w.yaml").place("a") == "./sub/w.yaml:1:4"
        assert load(folder / "sub" / "w.yaml").place("a") == f"{folder}/sub/w.yaml:1:4"

    def test_merged_and_aliased_values_are_where_they_are_written(self):
        write(
            w="base: &b\n  x: 1\n  y: 2\na:\n  <<: *b\n  y: 3\nc: *b\nd: {<<: [{x: 4}, *b]}\ne: {<<: *b, <<: {z: 5}}\n"
        )
        document = load("w.yaml")
        assert document.data["a"] == {"x": 1, "y": 3}
        assert document.data["d"] == {"x": 4, "y": 2}
        assert document.data["e"] == {"x": 1, "y": 2, "z": 5}
        assert document.place("a", "x") == "w.yaml:2:6"
        assert document.place("a", "y") == "w.yaml:6:6"
        assert document.place("c", "y") == "w.yaml:3:6"
        assert document.place("d", "x") == "w.yaml:8:14"

    def test_columns_count_characters(self):
        write(w="a: {µ: é, b: 1}\n")
        assert load("w.yaml").place("a", "b") == "w.yaml:1:14"

    def test_keys_that_are_no_text(self):
        write(w="5: a\ntrue: b\n2024-01-02: c\n")
        document = load("w.yaml")
        assert [document.key_place(key) for key in document.data] == ["w.yaml:1:1", "w.yaml:2:1", "w.yaml:3:1"]

    def test_a_value_that_holds_itself(self):
        write(w="a: &x {y: *x}\n")
        document = load("w.yaml")
        assert document.data["a"]["y"] is document.data["a"]
        assert document.place("a", "y", "y", "y") == "w.yaml:1:4"

    def test_without_a_file(self):
        document = Document.from_mapping({"flow": {"source": "x"}})
        assert document.data == {"flow": {"source": "x"}}
        assert document.place("flow", "source") == "<config>"
        assert Document.from_mapping({}, name="").key_place("a") == ""


class TestInclude:
    def test_whole_mapping_list_item_value_and_merge_key(self):
        write(
            w="a: !include m.yaml\nb: [1, !include m.yaml]\nc: !include v.yaml\nd: {<<: !include m.yaml, z: 0}\n",
            m="x: 1\ny: !include v.yaml\n",
            v="[5,\n 6]\n",
        )
        document = load("w.yaml")
        m = {"x": 1, "y": [5, 6]}
        assert document.data == {"a": m, "b": [1, m], "c": [5, 6], "d": {**m, "z": 0}}
        assert document.place("a", "x") == "m.yaml:1:4"
        assert document.place("b", 1, "y", 1) == "v.yaml:2:2"
        assert document.place("d", "x") == "m.yaml:1:4"
        assert document.place("d", "z") == "w.yaml:4:29"
        assert document.key_place("a") == "w.yaml:1:1"

    def test_the_whole_file(self):
        write(w="!include other.yaml\n", other="flow: {source: x}\n")
        assert load("w.yaml").place("flow", "source") == "other.yaml:1:16"

    def test_relative_to_the_working_directory_first(self, folder):
        (folder / "sub").mkdir()
        write(
            **{
                "sub/w": "a: !include one.yaml\nb: !include two.yaml\n",
                "one": "here",
                "sub/one": "beside",
                "sub/two": "beside",
            }
        )
        document = load("sub/w.yaml")
        assert document.data == {"a": "here", "b": "beside"}
        assert (document.place("a"), document.place("b")) == ("one.yaml:1:1", "sub/two.yaml:1:1")

    def test_one_file_twice_is_no_cycle(self):
        write(w="a: !include x.yaml\nb: !include x.yaml\n", x="1")
        assert load("w.yaml").data == {"a": 1, "b": 1}

    def test_mistakes_are_all_reported(self):
        write(
            w="a: !include no.yaml\nb: {c: [!include b.yaml]}\nd: !include {x: 1}\ne: !include e.yaml\n",
            b="x: !include ./w.yaml\n",
            e="# nothing\n",
        )
        assert problems() == [
            "w.yaml:1:4: included file 'no.yaml' can't be read: No such file or directory",
            "b.yaml:1:4: x: includes itself: w.yaml → b.yaml → ./w.yaml",
            "w.yaml:3:4: d: !include takes the name of a file",
            "e.yaml: the file is empty",
        ]


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "w.yaml: the file is empty"),
            (b"# only a comment\n", "w.yaml: the file is empty"),
            (b"[a]\n", "w.yaml:1:1: a workflow is a mapping with a section 'flow'"),
            (b"\nflow", "w.yaml:2:1: a workflow is a mapping with a section 'flow'"),
            (b"a: 1\nb: \xe9\n", "w.yaml:2:4: the file is not UTF-8 text"),
            (b"a: \xc3\xa9\xff", "w.yaml:1:5: the file is not UTF-8 text"),
            (b"a: b\n  \x07", "w.yaml:2:3: not valid YAML: a control character"),
            (b"a: 1\n---\nb: 1\n", "w.yaml:2:1: not valid YAML: but found another document expected a single"),
            (b"a: *b\n", "w.yaml:1:4: not valid YAML: found undefined alias"),
            (b"a: {b: 1\n", "w.yaml:2:1: not valid YAML: "),
            (b"a: !what 1\n", "w.yaml:1:4: could not determine a constructor for the tag '!what'"),
            (b"a: 1\nb: 2024-13-01\n", "w.yaml:2:4: month must be in 1..12"),
            (b"? [a]\n: 1\n", "w.yaml:1:3: found unhashable key"),
        ],
    )
    def test_not_a_workflow(self, text, message):
        Path("w.yaml").write_bytes(text)
        (problem,) = problems()
        assert problem.startswith(message)

    def test_byte_order_mark(self):
        Path("w.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
        assert load("w.yaml").data == {"a": 1}

    def test_missing_file_and_directory(self, folder):
        assert problems("no.yaml") == ["no.yaml: can't be read: No such file or directory"]
        assert problems(".") == [".: can't be read: Is a directory"]

    def test_keys_that_appear_twice(self):
        write(w="a: {x: 1, y: 2, x: 3}\nb:\n  - {z: 1}\n  - z: 1\n    z: 2\na: 1\n")
        assert problems() == [
            "w.yaml:6:1: key 'a' appears twice, first at w.yaml:1:1",
            "w.yaml:1:17: a: key 'x' appears twice, first at w.yaml:1:5",
            "w.yaml:5:5: b[1]: key 'z' appears twice, first at w.yaml:4:5",
        ]


NAMES = st.text("abcdefgh", min_size=1, max_size=4)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.integers() | st.booleans() | st.none() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, TREES, min_size=1, max_size=4)


def leaves(tree: Any, keys: tuple[Any, ...] = ()):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from leaves(value, (*keys, key))
    if keys:
        yield keys, tree


def has_parts(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


@given(DOCUMENTS, st.booleans())
def test_a_place_is_where_the_text_of_the_value_starts(tree, flow_style):
    """Catches a place that is off by one, or that belongs to another value."""
    numbers = {keys: f"<{number}>" for number, (keys, value) in enumerate(leaves(tree)) if not has_parts(value)}
    for keys, number in numbers.items():
        tree = put(tree, keys, number)
    text = yaml.safe_dump(tree, default_flow_style=flow_style)
    Path("w.yaml").write_text(text)
    document = load("w.yaml")
    assert document.data == tree
    for keys, number in numbers.items():
        _, line, column = document.place(*keys).split(":")
        assert text.splitlines()[int(line) - 1][int(column) - 1 :].startswith(number)


@given(DOCUMENTS, st.data())
def test_including_is_the_same_as_writing_it_in_place(tree, data):
    keys, value = data.draw(st.sampled_from(list(leaves(tree))))
    Path("part.yaml").write_text(yaml.safe_dump(value))
    marker = "take the part from its file"
    whole = yaml.safe_dump(put(tree, keys, marker), width=1000).replace(marker, "!include part.yaml")
    Path("w.yaml").write_text(whole)
    document = load("w.yaml")
    assert document.data == tree
    assert document.place(*keys).startswith("part.yaml:1:")


def put(tree: Any, keys: tuple[Any, ...], value: Any) -> Any:
    if not keys:
        return value
    copied = tree.copy()
    copied[keys[0]] = put(tree[keys[0]], keys[1:], value)
    return copied


class TestTags:
    def test_tuples(self):
        write(
            w="flow: {source: raw, stages: !!python/tuple [a]}\n"
            "a:\n  params:\n    pair: !!python/tuple [1, !!python/tuple [x, 2.5]]\n"
            "    ? !!python/tuple [1, 2]\n    : 3\n"
        )
        document = load("w.yaml")
        assert document.data["flow"]["stages"] == ("a",)
        assert document.data["a"]["params"] == {"pair": (1, ("x", 2.5)), (1, 2): 3}
        assert document.place("a", "params", "pair", 1) == "w.yaml:4:30"

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("!!python/object/apply:os.system [x]", "constructor for the tag '!!python/object/apply:os.system'"),
            ("!!python/name:os.system", "constructor for the tag '!!python/name:os.system'"),
            ("!own [1]", "constructor for the tag '!own': workflow files hold plain values, !!python/tuple and"),
            ("!!python/tuple 5", "a tuple is written as a list, !!python/tuple [1, 2]"),
        ],
    )
    def test_others_are_refused_where_they_stand(self, value, says):
        write(w=f"flow: {{source: raw}}\na:\n  x: {value}\n")
        (problem,) = problems()
        assert problem.startswith("w.yaml:3:6: ")
        assert says in problem
