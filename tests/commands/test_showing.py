"""What commands print."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys

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


@pytest.mark.parametrize(
    "name", ["hits", "n|(x)", "a]b}", 'x "q"', "<b>&amp;", "`code`", "#35;", "1\n2", "ü/😀", "\\pi"]
)
def test_names_in_diagrams_end_no_text_and_mean_nothing(name):
    """Mermaid's `#34;` is HTML's `&#34;`."""
    text = quoted(name, "7 rows")
    assert re.fullmatch(r'"([^"<>&`\\\n#;]|#\d+;|<br/>)*"', text)
    first, second = text[1:-1].split("<br/>")
    assert (html.unescape(first.replace("#", "&#")), second) == (name, "7 rows")
