"""What the monitoring example asks Prometheus and Loki for is what a run emits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import h5flow.telemetry

EXAMPLES = Path(__file__).parents[2] / "examples"
MONITORING = EXAMPLES / "monitoring"

DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text())
SCRAPING = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
VECTOR = yaml.safe_load((MONITORING / "vector.yaml").read_text())

#: Labels that Prometheus adds to all that it scrapes.
OF_PROMETHEUS = {"instance", "job"}

#: What Grafana puts in for its variables.
GRAFANA = {"$__rate_interval": "1m", "$__interval": "1m"}
GRAFANA |= dict.fromkeys(("$job", "$instance", "$rank", "$workflow"), ".*")

SCHEMA = json.loads((Path(h5flow.telemetry.__file__).parent / "events.schema.json").read_text())
#: Fields of each event, with what may be in them.
FIELDS: dict[str, dict[str, Any]] = {
    part["properties"]["event"]["enum"][0]: part["properties"]
    for part in SCHEMA["$defs"].values()
    if "event" in part["properties"]
}
ALL_FIELDS = set().union(*FIELDS.values())


class Emitted(NamedTuple):
    """What a run has emitted."""

    #: Values of each label of each metric.
    metrics: dict[str, dict[str, set[str]]]
    #: Where its log is, in the folder where it was run, and its lines.
    log: Path
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    """The detector example with metrics and logs."""
    folder = tmp_path_factory.mktemp("monitoring")
    shutil.copytree(EXAMPLES, folder / "examples")
    command = [sys.executable, "-m", "h5flow", "examples/detector/workflow.yaml", "--log-dir", "logs"]
    command += ["--set", "simulation.params.events=40", "--set", "metrics.textfile=metrics/h5flow-{rank}.prom"]
    subprocess.run(command, cwd=folder, check=True, timeout=50)
    metrics: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families((folder / "metrics/h5flow-0.prom").read_text()):
        for sample in family.samples:
            for label, value in sample.labels.items():
                metrics.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    (log,) = folder.glob("logs/*/*")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return Emitted(metrics, log.relative_to(folder), lines)


def panels() -> Iterator[dict[str, Any]]:
    """All panels, with those in rows that are collapsed."""
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", [])


def targets(kind: str) -> list[dict[str, Any]]:
    """Queries of panels and annotations for a kind of data source."""
    found = [target for panel in panels() for target in panel.get("targets", [])]
    found += DASHBOARD["annotations"]["list"]
    return [target for target in found if target["datasource"]["type"] == kind]


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def variables() -> dict[str, dict[str, Any]]:
    """The dashboard's variables by name."""
    return {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def filled(query: str) -> str:
    """A query as Grafana sends it."""
    for variable, value in GRAFANA.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def parts(query: str) -> list[Any]:
    """All parts of a PromQL expression; raises `ValueError` if it isn't one."""
    found: list[Any] = []
    promql.walk(promql.parse(query), lambda part: found.append(part))
    return found


def selectors(query: str) -> list[Any]:
    """The metrics that an expression selects."""
    return [part for part in parts(query) if isinstance(part, promql.VectorSelector)]


def labels_beneath(part: Any, emitted: Emitted) -> set[str]:
    """The labels that all metrics in a part of an expression have."""
    return set.intersection(
        *({*emitted.metrics[each.name], *OF_PROMETHEUS} for each in selectors(promql.Expr.prettify(part)))
    )


def check(query: str, emitted: Emitted) -> None:
    """Each metric, label and literal value of an expression is emitted."""
    for part in parts(query):
        if isinstance(part, promql.VectorSelector):
            assert part.name in emitted.metrics, f"{part.name} isn't emitted: {query}"
            values = emitted.metrics[part.name]
            for matcher in part.matchers.matchers:
                assert matcher.name in {*values, *OF_PROMETHEUS}, f"{part.name} has no label {matcher.name}: {query}"
                if matcher.value != ".*":
                    assert set(matcher.value.split("|")) <= values[matcher.name], query
        grouping = part.modifier if isinstance(part, promql.AggregateExpr) else None
        if isinstance(part, promql.BinaryExpr) and part.modifier is not None:
            grouping = part.modifier.matching
        if grouping is not None:
            assert set(grouping.labels) <= labels_beneath(part, emitted), query


@pytest.mark.parametrize("target", targets("prometheus"), ids=lambda target: target["expr"][:60])
def test_the_dashboard_asks_prometheus_for_what_is_emitted(emitted, target):
    query = filled(target["expr"])
    check(query, emitted)
    named = set(re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", "")))
    assert named <= labels_beneath(promql.parse(query), emitted), target["legendFormat"]
    for part in parts(query)[:1]:
        if isinstance(part, promql.AggregateExpr) and part.modifier is not None:
            assert named <= set(part.modifier.labels), "a legend names a label that is summed up"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alerts_ask_for_what_is_emitted(emitted, rule):
    check(rule["expr"], emitted)
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert named <= labels_beneath(promql.parse(rule["expr"]), emitted)
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_every_metric_is_on_the_dashboard_or_in_an_alert(emitted):
    asked = [filled(target["expr"]) for target in targets("prometheus")] + [rule["expr"] for rule in rules()]
    assert {each.name for query in asked for each in selectors(query)} == set(emitted.metrics)


def test_the_dashboard_can_be_imported():
    every = list(panels())
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    sources = {name: kind["query"] for name, kind in variables().items() if kind["type"] == "datasource"}
    assert sources == {"prometheus": "prometheus", "loki": "loki"}
    for panel in every:
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for part in (panel, *panel["targets"]):
            kind = part["datasource"]["type"]
            assert part["datasource"]["uid"] == f"${{{kind}}}"
            assert sources[kind] == kind
    taken = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, f"{panel['title']} covers another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_variables_of_the_dashboard_are_labels_that_are_emitted(emitted):
    queried = {name: variable for name, variable in variables().items() if variable["type"] == "query"}
    assert list(queried) == ["job", "instance", "rank", "workflow"]
    for name, variable in queried.items():
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found is not None
        check(filled(found[1]), emitted)
        assert found[2] in labels_beneath(promql.parse(filled(found[1])), emitted)
        assert found[2] == name
        if variable["includeAll"]:
            assert variable["allValue"] == ".*"
    # Rank 0 may be in both, and would be counted twice.
    assert not queried["job"]["includeAll"]
    assert not queried["job"]["multi"]


def test_prometheus_scrapes_what_the_manual_says():
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in SCRAPING["scrape_configs"]}
    assert jobs == {"h5flow": ["localhost:9464"], "node": ["localhost:9100"]}
    assert "port: 9464" in (EXAMPLES.parent / "README.md").read_text()
    assert SCRAPING["rule_files"] == ["rules.yml"]


STREAM = re.compile(r"{(.*?)}\s*(?:\||$)")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
TAKEN_OUT = re.compile(r'\| json ((?:\w+="[^"]+"(?:, )?)+)')


@pytest.mark.parametrize("target", targets("loki"), ids=lambda target: target["expr"][-60:])
def test_the_dashboard_asks_loki_for_labels_and_fields_that_there_are(target):
    query = filled(target["expr"])
    stream = STREAM.search(query)
    assert stream is not None
    matchers = {name: value for name, _, value in MATCHER.findall(stream[1])}
    assert set(matchers) <= set(VECTOR["sinks"]["loki"]["labels"])
    assert matchers["job"] == VECTOR["sinks"]["loki"]["labels"]["job"]
    events = matchers["event"].split("|") if "event" in matchers else list(FIELDS)
    levels = FIELDS["log"]["level"]["enum"]
    assert set(matchers.get("level", "info").split("|")) <= set(levels)
    assert "workflow" not in matchers or matchers["workflow"] == ".*|all"
    taken = {name: field for found in TAKEN_OUT.findall(query) for name, _, field in MATCHER.findall(found)}
    for field in taken.values():
        if len(events) < len(FIELDS):
            assert all(field in FIELDS[event] for event in events), f"{events} has no {field}"
        else:
            assert field in ALL_FIELDS
    used = set(re.findall(r"unwrap (\w+)", query)) | set(re.findall(r"{{\.(\w+)}}", query))
    assert used <= set(taken)
    assert set(re.findall(r"\) by \((\w+)\)", query)) <= set(VECTOR["sinks"]["loki"]["labels"])


def test_vector_reads_the_logs_that_are_written(emitted):
    (source,) = VECTOR["sources"].values()
    (pattern,) = source["include"]
    assert emitted.log.match(pattern)
    assert VECTOR["transforms"]["lines"]["inputs"] == list(VECTOR["sources"])
    assert VECTOR["sinks"]["loki"]["inputs"] == ["lines"]
    # Vector tells files from each other by their first lines.
    assert emitted.lines[0]["run_id"]
    assert max(len(json.dumps(line)) for line in emitted.lines) < source["max_line_bytes"]


def test_vector_takes_fields_that_lines_have(emitted):
    program = VECTOR["transforms"]["lines"]["source"]
    read = set(re.findall(r"\bline\.(\w+)", program))
    assert read >= {"timestamp", "level", "event", "rank", "workflow"}
    assert read <= ALL_FIELDS
    # What isn't looked at for being there is in each line, and of the type that it is said to be.
    for line in emitted.lines:
        assert all(isinstance(line[name], str) for name in ("timestamp", "level", "event"))
        assert isinstance(line["rank"], int)
        assert line["workflow"] is None or isinstance(line["workflow"], str)
    written = set(re.findall(r"^\.(\w+) = ", program, re.MULTILINE))
    sink = VECTOR["sinks"]["loki"]
    for template in (*sink["labels"].values(), *sink["structured_metadata"].values()):
        assert set(re.findall(r"{{ (\w+) }}", template)) <= written
    # Each combination of labels is a stream, so nothing that comes in masses may be one.
    assert set(sink["labels"]) == {"job", "rank", "level", "event", "workflow"}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("promtool", ("check", "config", "prometheus.yml")),
        ("promtool", ("check", "rules", "rules.yml")),
        ("vector", ("validate", "--no-environment", "vector.yaml")),
    ],
    ids=["prometheus.yml", "rules.yml", "vector.yaml"],
)
def test_the_tools_that_are_here_find_no_mistake(tool: str, arguments: tuple[str, ...]):
    """The checks above do without them."""
    if (found := shutil.which(tool)) is not None:
        done = subprocess.run([found, *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stdout + done.stderr


#: Metrics of a rank every minute, as promtool writes them (`a+bxn`: n steps of b), and the alerts after an hour.
HOURS = {
    "a run that goes on": (
        {"up": "1x60", "updated_time_seconds": "0+60x60", "slices_total": "0+9x60", "reloads_total": "0x60"},
        set(),
    ),
    "one that has ended": ({"up": "1x9 0x51", "updated_time_seconds": "0+60x9 540x51", "slices_total": "0+9x9"}, set()),
    "one that has failed": ({"up": "0x60", "failed": "1x60"}, {"H5flowRunFailed"}),
    "one that was killed": ({"up": "1x60", "updated_time_seconds": "0+60x30 1800x30"}, {"H5flowRunVanished"}),
    "one that hangs": (
        {"up": "1x60", "updated_time_seconds": "0+60x60", "slices_total": "0+9x30 270x30"},
        {"H5flowNoSlices"},
    ),
    "one that hangs in its first slice": ({"up": "1x60", "updated_time_seconds": "0+60x60"}, {"H5flowNoSlices"}),
    "one that loads twice": (
        {"up": "1x60", "updated_time_seconds": "0+60x60", "slices_total": "0+9x60", "reloads_total": "0+2x60"},
        {"H5flowReloads"},
    ),
    "one that takes more and more": (
        {"up": "0x60", "resident_memory_bytes": "1000+50x60"},
        {"H5flowMemoryGrows"},
    ),
}


@pytest.mark.parametrize("hour", HOURS)
def test_alerts_come_when_they_should(tmp_path, hour):
    """By Prometheus itself, where it is installed."""
    if (promtool := shutil.which("promtool")) is None:
        return
    series, expected = HOURS[hour]
    series = {"start_time_seconds": "0x60", **series}
    labels = 'instance="here",job="node",rank="0"'
    given = [{"series": f"h5flow_{name}{{{labels}}}", "values": values} for name, values in series.items()]
    fires = [{"eval_time": "1h", "alertname": rule["alert"], "exp_alerts": []} for rule in rules()]
    for alert, rule in zip(fires, rules(), strict=True):
        if alert["alertname"] in expected:
            alert["exp_alerts"] = [
                {
                    "exp_labels": {"instance": "here", "job": "node", "rank": "0", **rule["labels"]},
                    "exp_annotations": {
                        name: text.replace("{{ $labels.rank }}", "0")
                        .replace("{{ $labels.instance }}", "here")
                        .replace("{{ $labels.workflow }}", "")
                        .replace("{{ $value | humanizeDuration }}", "30m 0s")
                        for name, text in rule["annotations"].items()
                    },
                }
            ]
    tests = {"rule_files": [str(MONITORING / "rules.yml")], "evaluation_interval": "1m"}
    tests["tests"] = [{"interval": "1m", "input_series": given, "alert_rule_test": fires}]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run([promtool, "test", "rules", "alerts.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
