"""Requirements as written and as used."""

from __future__ import annotations

import pytest

from h5flow.errors import ConfigError
from h5flow.workflow import Requirement, format_requirements


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a/b", Requirement("a/b", ("a/b",))),
        ({"name": "a"}, Requirement("a", ("a",))),
        ({"name": "a", "path": None, "index_only": None}, Requirement("a", ("a",))),
        ({"name": "a", "path": "b"}, Requirement("a", ("b",))),
        ({"name": "a", "path": ["b", "c"], "index_only": True}, Requirement("a", ("b", "c"), True)),
    ],
)
def test_short_and_long_forms(written, meant):
    assert format_requirements([written]) == [meant]


def test_as_dict_is_what_stages_get_and_can_be_read_again():
    requirement = Requirement("a", ("b", "c"), True)
    assert requirement.as_dict() == {"name": "a", "path": ["b", "c"], "index_only": True}
    assert format_requirements([requirement.as_dict()]) == [requirement]


def test_nothing():
    assert format_requirements([]) == []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("A", "requires: expected a list, as in 'requires: [A]', not 'A'"),
        ({"name": "A"}, "requires: expected a list, as in 'requires: [A]', not {'name': 'A'}"),
        ([5], "requires[0]: expected a dataset name, or a mapping with 'name' and 'path', not 5"),
        (["a", ""], "requires[1]: expected a dataset name, or a mapping with 'name' and 'path', not ''"),
        ([{"path": "a"}], "requires[0]: missing key 'name'"),
        ([{"name": "a", "path": []}], "requires[0].path: expected a dataset name or a list of them, not []"),
        (
            [{"name": "a", "path": ["b", 1]}],
            "requires[0].path: expected a dataset name or a list of them, not ['b', 1]",
        ),
        (
            [{"name": "a", "index_only": "yes"}],
            "requires[0].index_only: expected true or false, not 'yes'",
        ),
        (
            [{"name": "a", "index_onyl": True}],
            "requires[0]: unknown key 'index_onyl' (did you mean 'index_only'?)",
        ),
        ([{"name": "a", "xyz": True}], "requires[0]: unknown key 'xyz' (known: name, path, index_only)"),
    ],
)
def test_mistakes(written, message):
    with pytest.raises(ConfigError) as error:
        format_requirements(written)
    assert str(error.value) == message


def test_all_mistakes_at_once():
    with pytest.raises(ConfigError) as error:
        format_requirements([1, "fine", {"name": 2, "paht": "x"}])
    assert [problem.subject for problem in error.value.problems] == [
        "requires[0]",
        "requires[2]",
        "requires[2].name",
    ]
