"""The page: that it is one file which needs nothing else, shows what it should, and lets nothing of the logs out."""

from __future__ import annotations

import html.parser
import json
import os
import re
import stat
import subprocess
import sys

import numpy as np
import pytest

from h5flow.report import judged, read_run
from h5flow.report.figures import figures
from h5flow.report.page import page
from support.browser import browsing, opened, seen, why_not
from support.by_hand import RUN, ByHand, stage
from support.pages import HAS_PLOTLY, needs_plotly

NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\"&<!-- é %{y}"


def nasty(folder):
    """A failed run of three ranks in which everything that a user can name is a piece of HTML."""
    for rank in range(3):
        log = ByHand(folder, rank, 3).begin((NASTY, "plain"), workflow=f"{NASTY}.yaml", output=NASTY)
        log.tell("file.opened", 0.0, path=NASTY, working=NASTY, input=None, storage="serial", why_storage=NASTY)
        told = {"component": f"stage '{NASTY}'", "classname": NASTY, "module": NASTY, "version": NASTY, "place": NASTY}
        log.tell("component.init", 0.0, **told, seconds=0.01)
        for number in range(30):
            began = 0.1 * number
            stages = {NASTY: stage(began + 0.05, wait=0.01, load=0.002, run=0.04, write=0.01, prefetch=0.03)}
            stages["plain"] = stage(began + 0.11, wait=0.008, load=0.01, run=0.02)
            loaded = {"generator": 0.01, "prefetch_began": began + 0.012, "prefetch": 0.03}
            log.slice(number, began, began + 0.15, stages, **loaded)
            log.tell(
                "log", began, level="warning", logger=NASTY, message=f"{NASTY} {number}", stage=NASTY, start=1, stop=2
            )
        queue = {"queue": "prefetch", "depth": 4, "occupancy": 1, "highest": 2, "puts": 30, "gets": 29}
        log.tell("queue.stats", 3.0, **queue, put_wait_s=0.0, get_wait_s=0.1)
        if rank == 1:
            told = {"error": NASTY, "kind": NASTY, "component": NASTY, "place": NASTY, "slice_index": 30, "start": 300}
            log.tell("run.failed", 3.1, level="error", message="", **told, stop=310, requirement=NASTY, traceback=NASTY)
        log.write()
    return read_run(str(folder / RUN))


class _Elements(html.parser.HTMLParser):
    """The elements of a page, and the text of each kind."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    if not HAS_PLOTLY:
        pytest.skip("NO PLOTLY: plotly isn't installed")
    run = nasty(tmp_path_factory.mktemp("nasty"))
    return page(run, judged(run))


def test_what_comes_from_logs_is_text(text):
    elements = _Elements(text)
    assert not [tag for tag, _ in elements.found if tag == "img"]
    # Rank 1 has failed, and the others say nothing of an end.
    ends = [cell for cell in elements.texts["td"] if cell in ("failed", "no end")]
    assert ends == ["no end", "failed", "no end"]
    # The figures, plotly.js, and the page's own.
    assert len([tag for tag, _ in elements.found if tag == "script"]) == 3
    assert "window.hacked" in text  # it is there, as text
    shown = html.unescape(text)
    assert shown.count(NASTY) > 8


def test_the_page_needs_nothing_else(text):
    for tag, attributes in _Elements(text).found:
        assert "src" not in attributes
        assert tag != "link" or attributes["href"] == "data:,"
        assert not any(name.startswith("on") for name in attributes)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_pictures_have_what_slices_did(tmp_path):
    run = nasty(tmp_path)
    (workflows,) = run.workflows
    timeline, at_work, waiting, durations, ranks = figures(run, workflows, first=1)
    # The rank that failed is shown first.
    assert [variant.label for variant in timeline.variants] == ["rank 1", "rank 0", "rank 2"]
    bars = {bar["name"]: bar for bar in timeline.variants[0].data}
    ahead = bars["loading ahead"]
    assert len(ahead["x"]) == 30
    assert np.allclose(ahead["base"], 0.1 * np.arange(30) + 0.012)
    assert np.allclose(ahead["x"], 0.03)
    assert set(ahead["y"]) == {"loader 1"}
    assert sorted(set(map(html.unescape, bars["running"]["y"]))) == sorted({NASTY, "plain"})
    # Slice n is loaded ahead from 12 to 42 ms, while slice n - 1 runs from 20 to 40 ms.
    both = bars["loading and computing at once"]
    covered = np.array(both["x"]).sum()
    moments = np.arange(0, 3.2, 0.0005) + 0.00025
    number = np.arange(30)[:, None]
    at = moments[None, :] - 0.1 * number

    def within(low, high):
        return ((at >= low) & (at < high)).any(axis=0)

    loading = within(0.012, 0.042) | within(0.05, 0.052) | within(0.11, 0.12)
    computing = within(0, 0.01) | within(0.052, 0.102) | within(0.12, 0.14)
    assert covered == pytest.approx((loading & computing).sum() * 0.0005, abs=0.03)
    assert covered > 0.5
    assert [len(heat.data[0]["z"][0]) for heat in at_work.variants] == [300] * 3
    assert {html.unescape(line["name"]) for line in waiting.variants[0].data} == {
        "for a loader",
        f"for {NASTY}",
        "for plain",
        "in flight, in all",
    }
    boxes = {box["name"]: box for box in durations.variants[0].data}
    assert boxes["running"]["median"] == [0.04, 0.02]
    assert len(ranks.variants[0].data[0]["y"]) == 3
    # It failed at 3.1 s, and what was on its way then is in no log.
    (end,) = timeline.variants[0].layout["shapes"]
    assert end["x0"] == end["x1"] == pytest.approx(3.1, abs=0.001)
    assert "in no log" in timeline.caption


def test_long_runs_are_drawn_in_part(tmp_path):
    log = ByHand(tmp_path).begin(("a", "b", "c"))
    for number in range(5000):
        began = 0.01 * number
        log.slice(number, began, began + 0.02, {name: stage(began, run=0.005) for name in "abc"})
    run = read_run(str(log.done(50.0, slices=5000).end(50.0).write()))
    (workflows,) = run.workflows
    timeline, *others = figures(run, workflows, None)
    drawn = timeline.variants[0].data
    assert 500 < sum(len(bar["x"]) for bar in drawn) < 3000
    assert "slices 2,400 to 2,599 of 5,000" in timeline.caption
    assert len(json.dumps([variant.data for figure in others for variant in figure.variants])) < 200_000


@needs_plotly
def test_the_page_is_where_it_should_be_and_whole(tmp_path, report):
    nasty(tmp_path)
    folder = tmp_path / RUN
    ended = report(RUN)
    assert ended.returncode == 0, ended.stderr
    assert f"page: {RUN}/report.html" in ended.stdout
    assert (folder / "report.html").read_text().endswith("</html>\n")
    assert stat.S_IMODE((folder / "report.html").stat().st_mode) & 0o444 == 0o444 & ~_umask()
    ended = report(RUN, "-o", "mine.html")
    assert ended.returncode == 0
    assert (tmp_path / "mine.html").read_text() == (folder / "report.html").read_text()
    assert not list(tmp_path.rglob("*.part"))
    for wrong, words in (
        ((RUN, "-o", "nowhere/page.html"), "page 'nowhere/page.html' can't be written: No such file or directory"),
        ((RUN, "-o", f"{RUN}/rank-0001.jsonl"), "is one of the logs"),
        ((RUN, "-o", "page.html", "--format", "text"), "--format text doesn't make"),
    ):
        ended = report(*wrong)
        assert ended.returncode == 2
        assert words in ended.stderr
    assert not list(tmp_path.rglob("*.part"))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_without_plotly_there_are_words_and_the_cure(tmp_path, report):
    nasty(tmp_path)
    ended = report(RUN, before="sys.modules['plotly'] = None")
    assert ended.returncode == 2
    assert "Failed on rank 1" in ended.stdout
    assert "the page of a report needs plotly: pip install 'h5flow-async[report]'" in ended.stderr
    assert not list(tmp_path.rglob("*.html"))
    assert report(RUN, "--format", "text", before="sys.modules['plotly'] = None").returncode == 0


def test_runs_do_not_import_reports():
    script = "import sys, h5flow.cli, h5flow.jobs.job; print([name for name in sys.modules if name in given])"
    script = f"given = ['h5flow.report', 'h5flow.commands.report', 'plotly']; {script}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def browser():
    if why_not() is not None:
        pytest.skip(why_not())
    with browsing() as driver:
        yield driver


_MARKS = """
return [...document.querySelectorAll('.plot')].map(plot => ({
  drawn: plot.classList.contains('js-plotly-plot'),
  traces: (plot.data || []).length,
  marks: plot.querySelectorAll(
    '.bars .point path, .heatmaplayer image, .scatterlayer .lines path, .boxlayer path.box').length,
  width: plot.getBoundingClientRect().width,
  buttons: [...plot.querySelectorAll('.modebar-btn')].map(button => button.dataset.title),
}))
"""


class TestInBrowser:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_every_plot_is_drawn_without_network_and_complaints(self, browser, text, tmp_path, scheme):
        path = tmp_path / "page.html"
        path.write_text(text)
        told = opened(browser, path, scheme)
        assert told.requests == []
        assert told.complaints == []
        plots = browser.execute_script(_MARKS)
        assert len(plots) == 5
        for plot in plots:
            assert plot["drawn"]
            assert plot["traces"] >= 1
            assert plot["marks"] >= 3 or plot["marks"] == 1  # a heatmap is one picture
            assert plot["width"] > 700
            # None that sends data away.
            assert set(plot["buttons"]) <= {"Download plot", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}
        assert browser.execute_script("return window.hacked") is None
        assert browser.execute_script("return document.title") == f"{RUN}: failed"
        # Nothing is wider than the window.
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", dark)[:3])) < 60) == (scheme == "dark")
        ink = browser.execute_script("return getComputedStyle(document.querySelector('.plot .xtitle')).fill")
        assert (max(map(int, re.findall(r"\d+", ink)[:3])) > 140) == (scheme == "dark")

    @needs_plotly
    def test_names_are_shown_as_they_are(self, browser, tmp_path):
        """Also those in which plotly would see tags, or numbers."""
        names = ["a <b>bold</b> name", "&lt;", "1", "20"]
        log = ByHand(tmp_path, 0, 1).begin(names)
        for number in range(10):
            began = 0.1 * number
            stages = {name: stage(began + 0.02 * place, run=0.02, wait=0.01) for place, name in enumerate(names)}
            log.slice(number, began, began + 0.1, stages, generator=0.01)
        log.write()
        run = read_run(str(tmp_path / RUN))
        path = tmp_path / "page.html"
        path.write_text(page(run, judged(run)))
        opened(browser, path)
        shown = browser.execute_script(
            "return [...document.querySelectorAll('.plot')].map(plot =>"
            " [...plot.querySelectorAll('.ytick text, .xtick text, .legendtext')].map(text => text.textContent))"
        )
        bars, heat, waiting, boxes = shown
        for texts in (bars, heat, boxes):
            assert {"generator", *names} <= set(texts)
        assert {f"for {name}" for name in names} <= set(waiting)

    def test_another_rank_can_be_chosen(self, browser, text, tmp_path):
        path = tmp_path / "page.html"
        path.write_text(text)
        opened(browser, path)
        options = browser.execute_script("return [...document.querySelector('select').options].map(each => each.text)")
        assert options == ["rank 1", "rank 0", "rank 2"]
        browser.execute_script(
            "const chosen = document.querySelector('select'); chosen.value = '2';"
            "chosen.dispatchEvent(new Event('change'))"
        )
        assert seen(browser, path).complaints == []
        assert browser.execute_script("return document.getElementById('figure-0').data.length") >= 4

    def test_scripts_that_are_not_the_page_s_own_do_not_run(self, browser, text, tmp_path):
        """Were something not escaped, the policy would hold it up."""
        path = tmp_path / "page.html"
        path.write_text(text.replace("<footer>", "<script>window.hacked = 3</script><footer>", 1))
        told = opened(browser, path)
        assert browser.execute_script("return window.hacked") is None
        assert any("Content Security Policy" in complaint for complaint in told.complaints)
        # It is seen that way what is asked for, and complained of, too.
        path.write_text(text.replace("<footer>", '<img src="https://example.org/x.png"><footer>', 1))
        told = opened(browser, path)
        assert told.requests or told.complaints
