"""The alarms on cablectl's metrics, by Prometheus's own promtool; and what else names a metric."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cablectl.render.metrics import METRICS, as_metrics
from cablectl.status.report import StatusReport
from tests.support.alive import report
from tests.support.every_state import every_state
from tests.support.metrics import checked, promtool
from tests.support.places import ROOT
from tools.alarm_tests import ALERTS, TESTS, alarms
from tools.dashboard import DASHBOARD

PAGE = ROOT / "docs" / "monitoring.md"
NAMES = {metric.name for metric in METRICS}
PANELS = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_promtool_takes_the_rules_and_their_tests() -> None:
    assert promtool("check", "rules", str(ALERTS)) == ""
    assert promtool("test", "rules", str(TESTS)) == ""


def test_promtool_finds_a_rule_that_never_fires(tmp_path: Path) -> None:
    """Or the test above would be satisfied by anything."""
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    rules = ALERTS.read_text()
    for old, new in (
        ("cablectl_guard_up == 0", "cablectl_guard_up == 2"),
        ("> 0.05", ">= 0"),
        ("loads the guard again", "loads it again"),
    ):
        assert rules.count(old) == 1
        (tmp_path / ALERTS.name).write_text(rules.replace(old, new))
        assert "FAILED" in promtool("test", "rules", str(tmp_path / TESTS.name))


@pytest.mark.parametrize("told", [every_state(), report()], ids=["every state", "no cable"])
def test_promtool_takes_the_metrics(told: StatusReport) -> None:
    assert checked(as_metrics(told)) == ""
    assert checked("# TYPE cablectl_x counter\ncablectl_x 1\n") != ""


def test_each_alarm_fires_in_a_test_and_is_silent_in_another() -> None:
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    fires = [{each["alertname"] for each in test["alert_rule_test"]} for test in tests]
    for name in alarms():
        assert {name in each for each in fires} == {True, False}, name


@pytest.mark.parametrize(("name", "rule"), alarms().items(), ids=alarms())
def test_an_alarm_says_what_helps(name: str, rule: dict[str, Any]) -> None:
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert "`sudo cablectl " in rule["annotations"]["description"]
    assert f"| `{name}` |" in PAGE.read_text()
    assert set(re.findall(r"cablectl_\w+", rule["expr"])) <= NAMES


def test_the_dashboard_asks_only_for_metrics_that_exist(tmp_path: Path) -> None:
    named = set(re.findall(r"cablectl_\w+", DASHBOARD.read_text()))
    assert named <= NAMES
    assert len(named) > 10
    rules = [
        {"record": f"panel_{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, text in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert promtool("check", "rules", str(file)) == ""


def test_the_dashboard_has_one_place_for_each_panel() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_the_page_has_every_metric_with_its_type_and_labels() -> None:
    rows = dict(re.findall(r"^\| `(cablectl_\w+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE))
    assert rows.keys() == NAMES
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        for labels, _ in metric.samples(every_state()):
            found.setdefault(metric.name, set()).update(labels)
    for metric in METRICS:
        kind, labels, _ = rows[metric.name].split("|")
        assert kind.strip() == metric.kind
        assert set(re.findall(r"`(\w+)`", labels)) == found[metric.name], metric.name
