"""Copies of files: whole or not there, whichever way the system has to make them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from h5flow.data.file.file_copy import FileCopy

LONG = os.urandom(1 << 16) * (5 << 4) + b"end"


def failing(number: int):
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture(params=[b"", b"short", LONG], ids=["empty", "short", "long"])
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "source"
    path.write_bytes(request.param)
    return path


@pytest.mark.parametrize("without", [[], ["copy_file_range"], ["copy_file_range", "sendfile"]])
def test_is_the_same(source: Path, tmp_path: Path, without: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in without:
        monkeypatch.setattr(os, name, failing(errno.EXDEV))
    target = tmp_path / "target"
    target.write_bytes(b"something longer than what comes" * 1_000_000)
    copying = FileCopy(source, target)
    copying.wait()
    assert target.read_bytes() == source.read_bytes()
    assert copying.size == source.stat().st_size


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_leaves_nothing_behind_that_is_not_whole(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_bytes(LONG)
    monkeypatch.setattr(os, "copy_file_range", failing(number))
    copying = FileCopy(tmp_path / "source", tmp_path / "target")
    with pytest.raises(OSError, match=os.strerror(number)):
        copying.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_leaves_nothing_behind_when_given_up(source: Path, tmp_path: Path) -> None:
    FileCopy(source, tmp_path / "target").give_up()
    assert not (tmp_path / "target").exists()


def test_leaves_nothing_behind_when_a_signal_ends_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fstat", interrupted)
    with pytest.raises(KeyboardInterrupt):
        FileCopy(source, tmp_path / "target")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_of_a_parent_stays_where_a_child_gives_up(source: Path, tmp_path: Path) -> None:
    copying = FileCopy(source, tmp_path / "target")
    if (child := os.fork()) == 0:
        copying.give_up()
        os._exit(0)
    os.waitpid(child, 0)
    copying.wait()
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_says_so_when_the_source_becomes_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(LONG)
    pieces = os.copy_file_range

    def shortened(*arguments: int) -> int:
        source.write_bytes(b"")
        return pieces(*arguments)

    monkeypatch.setattr(os, "copy_file_range", shortened)
    with pytest.raises(OSError, match="shorter"):
        FileCopy(source, tmp_path / "target").wait()
