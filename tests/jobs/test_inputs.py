"""Which files are meant by what is given, and what their outputs are called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from h5flow.errors import UsageError
from h5flow.jobs.inputs import FileJob, are_several, file_jobs_of


class TestNames:
    """Which files are meant by what is given."""

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("raw/a.h5", "raw/b.h5", "raw/x[1].h5", "more/a.h5"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).touch()
        Path("raw/folder.h5").mkdir()

    def test_patterns_and_names_each_file_once(self):
        found = file_jobs_of(["more/a.h5", "raw/[ab].h5", "raw/*.h5"], "{parent}/{stem}-of-{name}")
        assert [(job.input, job.output) for job in found] == [
            ("more/a.h5", "more/a-of-a.h5"),
            ("raw/a.h5", "raw/a-of-a.h5"),
            ("raw/b.h5", "raw/b-of-b.h5"),
            ("raw/x[1].h5", "raw/x[1]-of-x[1].h5"),
        ]

    def test_a_file_is_meant_by_its_name_though_it_looks_like_a_pattern(self):
        assert file_jobs_of(["raw/x[1].h5"], "o/{stem}.h5") == [FileJob("raw/x[1].h5", "o/x[1].h5")]
        assert not are_several(["raw/x[1].h5"], "out.h5")

    def test_outputs_beside_inputs_are_no_inputs_the_next_time(self):
        first = file_jobs_of(["raw/*.h5"], "{parent}/{stem}_reco.h5")
        for job in first:
            for end in ("", ".log", ".partial"):
                Path(job.output + end).touch()
        assert file_jobs_of(["raw/*.h5"], "{parent}/{stem}_reco.h5") == first
        assert [job.is_done for job in first] == [True] * 3

    @pytest.mark.parametrize(
        ("inputs", "output", "several"),
        [
            (["a.h5"], "out.h5", False),
            ([], "out.h5", False),
            (["a.h5"], "{strange}.h5", False),
            (["a.h5", "b.h5"], "out.h5", True),
            (["raw/*.h5"], "out.h5", True),
            (["a.h5"], "{stem}.h5", True),
        ],
    )
    def test_when_there_are_several(self, inputs, output, several):
        assert are_several(inputs, output) is several

    @pytest.mark.parametrize(
        ("inputs", "output", "says"),
        [
            (["none*.h5"], "{stem}.h5", "no file matches input 'none*.h5'"),
            (["raw/a.h5", "none.h5"], "o/{stem}.h5", "input 'none.h5' doesn't exist"),
            (["raw"], "{stem}.h5", "input 'raw' is a folder: name its files, as in 'raw/*.h5'"),
            (["raw/*.h5"], "out.h5", "3 inputs, but one output 'out.h5': put {stem}, {name}, {parent}"),
            (["raw/*.h5"], "{stme}.h5", "there is no {stme} (did you mean 'stem'?)"),
            (["raw/a.h5", "more/a.h5"], "{stem}.h5", "'raw/a.h5' and 'more/a.h5' would both give 'a.h5'"),
            (["raw/a.h5"], "{parent}/{name}", "input 'raw/a.h5' would be its own output"),
            ([], "{stem}.h5", "there is none: give -i IN.h5"),
        ],
    )
    def test_what_is_wrong(self, inputs, output, says):
        with pytest.raises(UsageError, match=re.escape(says)):
            file_jobs_of(inputs, output)
