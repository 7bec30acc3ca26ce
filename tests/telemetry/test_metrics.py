"""Metrics, read by the parsers of prometheus_client."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from logs_of_runs import ROWS

pytest.importorskip("prometheus_client", reason="NO METRICS: prometheus_client isn't installed")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse


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
    assert f"metrics can't be served at 127.0.0.1:{port}: Address already in use" in ended.err
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
