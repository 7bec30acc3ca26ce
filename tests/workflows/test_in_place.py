"""Extending an output: a copy of it, or with --in-place itself."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

from h5flow.data.file.file_copy import FileCopy
from h5flow.data.file.output_file import OutputFile
from h5flow.errors import FileError

MODULE = """
    import numpy as np
    from h5flow.core import H5FlowGenerator, H5FlowStage

    class Rows(H5FlowGenerator):
        def __init__(self, **params):
            super().__init__(**params)
            self.left = 3
            if params.get('broken') == 'made':
                raise ValueError('no such luck')
        def init(self):
            self.data_manager.create_dset(self.dset_name, dtype='f8')
        def next(self):
            if not self.left:
                return self.EMPTY
            self.left -= 1
            rows = self.data_manager.reserve_data(self.dset_name, 2)
            self.data_manager.write_data(self.dset_name, rows, self.left)
            return rows

    class Breaks(H5FlowStage):
        def __init__(self, breaks=False, **params):
            super().__init__(**params)
            self.breaks = breaks
        def run(self, source_name, source_slice, cache):
            if self.breaks and source_slice.start >= 8:
                raise ValueError('no such luck')
    """

WORKFLOW = """
    flow: {source: rows, stages: [breaks]}
    rows: {classname: Rows, dset_name: raw}
    breaks: {classname: Breaks}
    """

BREAKS = ("--set", "breaks.params.breaks=true")


@pytest.fixture
def files(folder):
    """A workflow, and an output that it has made."""
    folder.write("mod.py", MODULE)
    folder.write("flow.yaml", WORKFLOW)
    assert folder.run("flow.yaml", "-o", "out.h5").code == 0
    return folder


def number(files) -> int:
    return (files.path / "out.h5").stat().st_ino


@pytest.mark.parametrize("option", [["--in-place"], ["--set", "run.in_place=true"]])
def test_it_is_the_same_file_then(files, option):
    before = number(files)
    assert files.run("flow.yaml", "-o", "out.h5", *option).code == 0
    assert number(files) == before
    np.testing.assert_array_equal(files.rows("raw/data"), [2, 2, 1, 1, 0, 0] * 2)
    assert files.names() == {"mod.py", "flow.yaml", "out.h5"}
    assert files.run("flow.yaml", "-o", "out.h5").code == 0
    assert number(files) != before


def test_all_workflows_of_a_command_work_on_it(files):
    files.write("loop.yaml", "flow: {source: raw}")
    before = number(files)
    assert files.run("flow.yaml", "loop.yaml", "-o", "out.h5", "--in-place").code == 0
    assert files.run("loop.yaml", "-i", "./out.h5", "-o", "out.h5", "--in-place").code == 0
    assert number(files) == before
    assert len(files.rows("raw/data")) == 12


def test_a_run_that_fails_leaves_the_only_copy_and_the_next_one_keeps_its_hands_off(files):
    before = number(files)
    assert files.run("flow.yaml", "-o", "out.h5", "--in-place", *BREAKS).code == 1
    assert files.names() == {"mod.py", "flow.yaml", "out.h5.partial", "out.h5.partial.in-place"}
    for option in ([], ["--in-place"], ["--overwrite"]):
        done = files.run("flow.yaml", "-o", "out.h5", *option)
        assert done.code == 1
        assert "out.h5.partial' is the only copy of 'out.h5', which a run that worked in place has left" in done.err
    assert (files.path / "out.h5.partial").stat().st_ino == before
    (files.path / "out.h5.partial").rename(files.path / "out.h5")
    assert files.run("flow.yaml", "-o", "out.h5", "--in-place").code == 0
    assert number(files) == before
    assert files.names() == {"mod.py", "flow.yaml", "out.h5"}


@pytest.mark.parametrize("wrong", [["rows.classname=Cows"], ["rows.params.broken=made"]])
@pytest.mark.parametrize("option", [[], ["--in-place"]])
def test_what_fails_before_the_file_is_opened_leaves_it_as_it_was(files, wrong, option):
    before, content = number(files), (files.path / "out.h5").read_bytes()
    assert files.run("flow.yaml", "-o", "out.h5", "--set", *wrong, *option).code
    assert number(files) == before
    assert (files.path / "out.h5").read_bytes() == content
    assert files.names() == {"mod.py", "flow.yaml", "out.h5"}


def test_there_is_nothing_to_work_on_in_place_where_an_input_becomes_another_file(files):
    files.write("loop.yaml", "flow: {source: raw}")
    content = (files.path / "out.h5").read_bytes()
    done = files.run("loop.yaml", "-i", "out.h5", "-o", "new.h5", "--in-place", "-v")
    assert done.code == 0
    assert "'out.h5' is copied: only an output that is there can be worked on in place" in done.err
    assert (files.path / "out.h5").read_bytes() == content


def test_what_copying_takes_is_told(files):
    assert re.search(
        r"(copied|cloned) '\S*out\.h5', \d+\.\d MB, in \d+\.\d\d s, of which \d+\.\d\d s were waited for",
        files.run("flow.yaml", "-o", "out.h5", "-v").err,
    )
    assert "copied" not in files.run("flow.yaml", "-o", "out.h5").err


def test_a_signal_while_the_copy_is_waited_for_leaves_nothing_behind(files, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    output = OutputFile("out.h5")
    output.begin(None)
    monkeypatch.setattr(FileCopy, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        output.wait()
    output.give_up()
    assert files.names() == {"mod.py", "flow.yaml", "out.h5"}


@pytest.mark.parametrize("exists", [True, False])
def test_the_working_file_is_no_input(files, exists):
    """What a run that failed has left would be replaced, and the output read instead, if there is one."""
    files.write("loop.yaml", "flow: {source: raw}")
    content = (files.path / "out.h5").read_bytes()
    (files.path / "out.h5.partial").write_bytes(content)
    if not exists:
        (files.path / "out.h5").unlink()
    done = files.run("loop.yaml", "-i", "./out.h5.partial", "-o", "out.h5")
    assert done.code == 1
    assert "input './out.h5.partial' is where 'out.h5' is written; rename it, or choose another output" in done.err
    assert (files.path / "out.h5.partial").read_bytes() == content


def test_no_room_for_the_note(files, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = OutputFile("out.h5", in_place=True)
    output.begin(None)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(FileError, match=r"can't work on 'out.h5' in place, .* No space"):
        output.wait()
    assert files.names() == {"mod.py", "flow.yaml", "out.h5"}
