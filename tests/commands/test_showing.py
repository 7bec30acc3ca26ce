"""What commands print."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys

import h5py
import pytest

from h5flow.commands.showing import quoted


@pytest.mark.parametrize("command", [("inspect", "out.h5"), ("plan", "workflow.yaml", "-i", "in.h5")])
def test_whoever_reads_it_may_stop(reco, command):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "h5flow", *command], stdout=writing, stderr=subprocess.PIPE, timeout=50, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


SHOWN = [
    ("inspect", "out.h5"),
    ("inspect", "out.h5", "--format", "json"),
    ("inspect", "out.h5", "--format", "mermaid"),
    ("plan", "workflow.yaml", "-i", "in.h5"),
    ("report", "logs", "--format", "text"),
    ("check", "workflow.yaml", "-i", "in.h5"),
    ("--help",),
]


@pytest.fixture
def logged(reco):
    """The folder, with logs of a run, and a dataset whose name isn't ASCII."""
    with h5py.File("out.h5", "a") as file:
        file.create_dataset("müon/data", data=[1, 2])
    done = reco.run("workflow.yaml", "-i", "in.h5", "-o", "other.h5", "--log-dir", "logs")
    assert done.code == 0, done
    return reco


def started(*command, **options):
    return subprocess.run([sys.executable, "-m", "h5flow", *command], timeout=50, check=False, **options)


def test_an_output_of_few_signs(logged, monkeypatch):
    for command in SHOWN:
        monkeypatch.delenv("PYTHONIOENCODING", raising=False)
        plain = started(*command, capture_output=True, env={**os.environ, "PYTHONUTF8": "1"})
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        done = started(*command, capture_output=True)
        assert done.returncode == plain.returncode == 0, done
        assert b"Traceback" not in done.stderr
        assert done.stdout.isascii()
        assert len(done.stdout.splitlines()) == len(plain.stdout.splitlines())
        if "json" in command:
            assert json.loads(done.stdout) == json.loads(plain.stdout)
        if command == ("inspect", "out.h5"):
            assert b"raw -> hits" in done.stdout
            assert rb"m\xfcon" in done.stdout


def test_an_output_that_is_closed(logged):
    for command in SHOWN:
        closing = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "h5flow", *command]
        done = subprocess.run(closing, stderr=subprocess.PIPE, timeout=50, check=False)
        assert done.returncode == 0, done
        assert b"Traceback" not in done.stderr
    # What is printed must not get into the file that is opened next.
    both = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-m", "h5flow"]
    run = subprocess.run([*both, "workflow.yaml", "-i", "in.h5", "-o", "silent.h5", "-v"], timeout=50, check=False)
    assert run.returncode == 0
    with h5py.File("silent.h5") as file, h5py.File("other.h5") as other:
        assert file["reco/sums/data"][:].tolist() == other["reco/sums/data"][:].tolist()


def test_an_output_that_is_full(reco):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = started("inspect", "out.h5", stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "h5flow-async: the standard output can't be written: No space left on device\n"


@pytest.mark.parametrize(
    "name", ["hits", "n|(x)", "a]b}", 'x "q"', "<b>&amp;", "`code`", "#35;", "1\n2", "ü/😀", "\\pi"]
)
def test_names_in_diagrams_end_no_text_and_mean_nothing(name):
    """Mermaid's `#34;` is HTML's `&#34;`."""
    text = quoted(name, "7 rows")
    assert re.fullmatch(r'"([^"<>&`\\\n#;]|#\d+;|<br/>)*"', text)
    first, second = text[1:-1].split("<br/>")
    assert (html.unescape(first.replace("#", "&#")), second) == (name, "7 rows")
