"""Metrics, read by the parsers of prometheus_client."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from support.logs_of_runs import ROWS

pytest.importorskip("prometheus_client", reason="NO METRICS: prometheus_client isn't installed")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from h5flow.telemetry.journal import Journal, identity
from h5flow.telemetry.metrics import Metrics, registry_of, write
from h5flow.telemetry.state import RunState
from h5flow.telemetry.ticker import Ticker


def samples(text, parser=parse):
    return [sample for family in parser(text) for sample in family.samples]


def value(found, name, **labels):
    """The one sample of a name with these labels."""
    (sample,) = (s for s in found if s.name == name and labels.items() <= s.labels.items())
    return sample.value


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("mode", ["pipelined", "sequential"])
def test_the_text_file_has_what_was_done(told, folder, mode):
    ended = told("metrics.textfile=m/{rank}.prom", f"runtime.mode={mode}", "first.params.sleep=0.02", log=False)
    assert ended.code == 0, ended
    found = samples((folder / "m/0.prom").read_text())
    assert value(found, "h5flow_slices_total", workflow="workflow.yaml", rank="0") == 12
    assert value(found, "h5flow_rows_total") == ROWS
    assert value(found, "h5flow_actor_seconds_total", actor="first", kind="run") >= 12 * 0.02
    assert value(found, "h5flow_actor_seconds_total", actor="second", kind="run") < 12 * 0.02
    for kind in ("wait", "prefetch", "load", "run", "write"):
        assert value(found, "h5flow_actor_seconds_total", actor="second", kind=kind) >= 0
    assert value(found, "h5flow_loaded_bytes_total") >= 8 * ROWS
    assert (value(found, "h5flow_up"), value(found, "h5flow_failed")) == (0, 0)
    assert 10e6 < value(found, "h5flow_resident_memory_bytes") < 10e9
    assert abs(value(found, "h5flow_start_time_seconds") - time.time()) < 60
    assert value(found, "h5flow_updated_time_seconds") >= value(found, "h5flow_start_time_seconds")
    assert value(found, "h5flow_run_info", size="1") == 1
    queues = {sample.labels["queue"] for sample in found if sample.name == "h5flow_queue_depth"}
    assert queues == ({"generator", "prefetch", "first", "second"} if mode == "pipelined" else set())
    assert [path.name for path in (folder / "m").iterdir()] == ["0.prom"]


def test_a_run_that_fails_says_so(told, folder):
    assert told("metrics.textfile=m.prom", "second.params.fails=15", log=False).code == 1
    found = samples((folder / "m.prom").read_text())
    assert (value(found, "h5flow_up"), value(found, "h5flow_failed")) == (0, 1)
    assert value(found, "h5flow_slices_total") == 3


def test_the_port_answers_while_it_runs_and_not_after(folder):
    port = free_port()
    command = [sys.executable, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--set", f"metrics.port={port}"]
    command += ["--set", "first.params.sleep=0.1", "--set", "rows.params.slices=40"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    ends, seen = time.monotonic() + 30, []
    while len(seen) < 2:
        assert time.monotonic() < ends
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                found = samples(answer.read().decode(), parse_openmetrics)
        except urllib.error.URLError:
            time.sleep(0.05)
            continue
        done = [sample.value for sample in found if sample.name == "h5flow_slices_total"]
        if done and done[0] > (seen[-1] if seen else 0):
            seen.append(done[0])
            assert value(found, "h5flow_up") == 1
            assert value(found, "h5flow_in_flight_slices") >= 1
        time.sleep(0.1)
    assert 0 < seen[0] < seen[1] <= 40
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(request, timeout=5)


def test_a_port_that_is_taken_is_said_before_anything_is_opened(told, folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = told(f"metrics.port={port}", log=False)
    assert ended.code == 2
    assert f"metrics can't be served at 127.0.0.1:{port}: Address already in use; choose another" in ended.err
    assert not (folder / "out.h5.partial").exists()


def test_without_prometheus_client_it_is_said_what_to_install(told, folder):
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util\nfound = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'prometheus_client' else found(name, *more)\n"
    )
    ended = told("metrics.textfile=m.prom", log=False, env={"PYTHONPATH": str(folder / "hidden")})
    assert ended.code == 2
    assert "pip install 'h5flow-async[metrics]'" in ended.err


@pytest.mark.parametrize("setting", ["metrics.textfile=x/{run}", "metrics.port=70000", "metrics.prt=3"])
def test_mistakes_are_found(told, setting):
    assert told(setting, log=False).code == 2


def test_ranks_write_a_file_each(ranks, folder):
    port = free_port()
    ended = ranks(
        2,
        *("-m", "h5flow", "workflow.yaml", "-o", "out.h5"),
        *("--set", "metrics.textfile=m-{rank}.prom", "--set", f"metrics.port={port}"),
    )
    assert ended.code == 0, ended
    rows = 0
    for rank in range(2):
        found = samples((folder / f"m-{rank}.prom").read_text())
        assert {sample.labels["rank"] for sample in found} == {str(rank)}
        rows += value(found, "h5flow_rows_total")
    assert rows == 2 * ROWS


def test_ranks_with_one_name_for_all_their_files_are_told_so(ranks, folder):
    ended = ranks(2, "-m", "h5flow", "workflow.yaml", "-o", "out.h5", "--set", "metrics.textfile=m.prom")
    assert ended.code != 0
    assert "metrics.textfile 'm.prom' is the same file for all ranks: put {rank} into its name" in ended.err
    assert not (folder / "m.prom").exists()


def test_ranks_of_a_farm_have_files_of_their_own(told, ranks, folder):
    """Each is rank 0 of the jobs that it does."""
    (folder / "in").mkdir()
    for number in range(4):
        assert told(log=False, arguments=("workflow.yaml", "-o", f"in/{number}.h5")).code == 0
    (folder / "loop.yaml").write_text(
        "flow: {source: raw, stages: [third]}\nthird: {classname: Work, path: parts, params: {sleep: 0.5}}\n"
    )
    ended = ranks(
        2,
        *("-m", "h5flow", "loop.yaml", "-i", "in/*.h5", "-o", "out/{stem}.h5"),
        *("--set", "metrics.textfile=m/{rank}.prom", "--set", "metrics.port=0"),
    )
    assert ended.code == 0, ended
    assert sorted(path.name for path in (folder / "m").iterdir()) == ["0.prom", "1.prom"]
    for rank in ("0", "1"):
        assert {sample.labels["rank"] for sample in samples((folder / f"m/{rank}.prom").read_text())} == {rank}


def test_a_port_that_is_free_is_found_and_logged(told):
    ended = told("-v", "metrics.port=0", "logging.format=console", log=False)
    assert ended.code == 0, ended
    (port,) = re.findall(r"metrics are served at http://127\.0\.0\.1:(\d+)/metrics", ended.err)
    assert int(port) > 0


@pytest.mark.parametrize("stages", [("generator", "prefetch"), ("prefetcher", "committer"), ('qu"ote', "zweité\n")])
def test_names_of_stages_may_be_any(told, folder, stages):
    """Each sample is there once, or Prometheus takes none of them."""
    first, second = (stage.replace('"', '\\"').replace("\n", "\\n") for stage in stages)
    (folder / "odd names.yaml").write_text(
        f'flow: {{source: rows, stages: ["{first}", "{second}"]}}\n'
        "rows: {classname: Source, path: parts, dset_name: raw}\n"
        f'"{first}": {{classname: Work, path: parts}}\n"{second}": {{classname: Work, path: parts}}\n'
    )
    ended = told("metrics.textfile=m.prom", arguments=("odd names.yaml", "-o", "out.h5"))
    assert ended.code == 0, ended
    found = samples((folder / "m.prom").read_text())
    twice = [one for one, n in Counter((s.name, *sorted(s.labels.items())) for s in found).items() if n > 1]
    assert not twice
    assert {sample.labels["workflow"] for sample in found if "workflow" in sample.labels} == {"odd names.yaml"}
    actors = [s.labels["actor"] for s in found if s.name == "h5flow_actor_seconds_total" and s.labels["kind"] == "run"]
    assert len(actors) == 5
    for stage in stages:
        assert stage in actors or f"stage '{stage}'" in actors
    (started,) = ended.of("workflow.start")
    assert started["actors"] == actors


def test_names_that_are_no_text_are_written(tmp_path):
    journal = Journal(identity("id", 0, 1))
    journal.ended = {os.fsdecode(b"w\xff.yaml"): RunState(slices=3)}
    write(registry_of(Metrics(journal, 0)), str(tmp_path / "m.prom"))
    found = samples((tmp_path / "m.prom").read_text())
    assert value(found, "h5flow_slices_total", workflow="w\\udcff.yaml") == 3


def test_what_is_no_file_is_not_replaced_by_one(told, folder):
    """Such as /dev/stdout."""
    os.mkfifo(folder / "pipe")
    ended = told("metrics.textfile=pipe", log=False)
    assert ended.code == 0, ended
    assert ended.err.count("metrics file 'pipe' can't be written: it is no file that could be replaced") == 1
    assert (folder / "pipe").is_fifo()


def test_what_can_not_be_written_leaves_no_half_file(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    registry = registry_of(Metrics(Journal(identity("id", 0, 1)), 0))
    write(registry, str(tmp_path / "m.prom"))
    before = (tmp_path / "m.prom").read_text()
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(registry, str(tmp_path / "m.prom"))
    assert [path.name for path in tmp_path.iterdir()] == ["m.prom"]
    assert (tmp_path / "m.prom").read_text() == before


def test_files_are_written_outside_of_loops_too():
    """Else a run whose components take a minute to be made would look as if it had been killed."""
    journal, states = Journal(identity("id", 0, 1)), []
    ticked = threading.Event()
    with Ticker(journal, [(0.0, lambda state: (states.append(state), ticked.set()))]).running():
        assert ticked.wait(30)
    assert states[0] is None


def test_forks_do_not_keep_the_port(folder):
    """A pool of processes that a module keeps, say."""
    script = """
import os, signal, socket
from prometheus_client import CollectorRegistry
from h5flow.telemetry.metrics import served
with served(CollectorRegistry(), 0, "127.0.0.1") as port:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b".")
        signal.pause()
    os.read(reading, 1)
try:
    with served(CollectorRegistry(), port, "127.0.0.1"):
        print("served")
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "served\n", done.stderr
