"""Makes contrib/prometheus/alerts_test.yaml: what `promtool test rules` runs.

Most series are those of a real cable in the lab (tests/captures/metrics, made by `make alarms`),
replayed with one scrape a minute. The lab can't wait for some events: MADE_UP has their series.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import yaml

from tests.support.metrics import Recording, Series
from tests.support.places import CAPTURES, ROOT

ALERTS = ROOT / "contrib" / "prometheus" / "alerts.yaml"
TESTS = ROOT / "contrib" / "prometheus" / "alerts_test.yaml"
RECORDINGS = CAPTURES / "metrics"
HEAD = """\
# Made by `make docs`, by tools/alarm_tests.py. Run: promtool test rules alerts_test.yaml
"""
GATEWAY = {"instance": "gw1:9815", "job": "cablectl"}
CABLE = {"cable": "submariner-cable-cluster2-172-18-0-7"}
TIME = "cablectl_report_timestamp_seconds"
END = 22  # minutes of a recording's replay
Labels = dict[str, str]
Firing = dict[str, list[Labels]]  # by alarm; every other alarm is silent

# The recordings, and which alarms fire at the end of each one.
RECORDED: dict[str, Firing] = {
    "up": {},
    "one_way": {"CableDegraded": [CABLE], "CableOneWay": [CABLE], "CableLossHigh": [CABLE]},
    "guard_missing": {"CableDegraded": [CABLE], "GuardMissing": [CABLE]},
    "attacked": {
        "GuardDrops": [CABLE | {"direction": "in"}],
        "XfrmErrors": [{"counter": "XfrmInNoStates"}],
    },
    "down": {"CableDown": [CABLE]},
    "certificates": {
        name: [CABLE | {"certificate": "gateway", "subject": "CN=gw1.example, O=test"}]
        for name in ("CertificateEndsSoon", "CertificateEndsNow")
    },
}
FRESH = {TIME: "0+60x90"}
UP = {"up": "1x90"}
_CONNECTION = 'connection="submariner-cable-cluster2-172-18-0-7-{}"'
# What happens → its series, the minute at which the alarms are asked for, and which ones fire.
MADE_UP: dict[str, tuple[dict[str, str], int, Firing]] = {
    "the watch repairs four times in an hour": (
        UP | FRESH | {'cablectl_repairs_total{kind="guard"}': "0x10 1x10 2x10 3x10 4x40"},
        45,
        {"CableRepairedOften": [CABLE]},
    ),
    "the watch repairs twice": (
        UP | FRESH | {'cablectl_repairs_total{kind="guard"}': "0x10 1x10 2x60"},
        45,
        {},
    ),
    "one of two connections isn't rekeyed": (
        UP
        | FRESH
        | {
            f"cablectl_child_sa_rekey_seconds{{{_CONNECTION.format(0)}}}": "600-60x10 0x60",
            f"cablectl_child_sa_rekey_seconds{{{_CONNECTION.format(1)}}}": "6000-60x70",
        },
        30,
        {"RekeyOverdue": [CABLE | {"connection": f"{CABLE['cable']}-0"}]},
    ),
    "the peer filters ICMP": (
        UP
        | FRESH
        | {
            "cablectl_health_loss_ratio": "1x60",
            "cablectl_health_echoes_answered_total": "0x60",
        },
        30,
        {},
    ),
    "the watch doesn't answer": ({"up": "1x5 0x60", TIME: "0+60x5 _x60"}, 20, {"WatchGone": [{}]}),
    "the file of metrics is old": (UP | {TIME: "0x60"}, 20, {"WatchGone": [{}]}),
    "nothing is scraped": ({}, 20, {"WatchAbsent": [{}]}),
}


def as_text() -> str:
    """Return the content of alerts_test.yaml."""
    rules = alarms()
    tests = [
        _test(name.replace("_", " "), _replayed(name, rules), END, firing, rules)
        for name, firing in RECORDED.items()
    ]
    for name, (values, minute, firing) in MADE_UP.items():
        series = [
            {"series": _with_labels(each), "values": numbers} for each, numbers in values.items()
        ]
        tests.append(_test(name, series, minute, firing, rules))
    content = {"rule_files": [ALERTS.name], "evaluation_interval": "1m", "tests": tests}
    return HEAD + yaml.safe_dump(content, sort_keys=False, width=1000)


def alarms() -> dict[str, dict[str, Any]]:
    """Return the rules by the name of the alarm."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _test(
    name: str,
    series: list[dict[str, str]],
    minute: int,
    firing: Firing,
    rules: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return a test: which alarms fire, and the words of each one."""
    at = f"{minute}m"
    count = {f'{{alertname="{alarm}"}}': len(found) for alarm, found in firing.items()}
    return {
        "name": name,
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": at,
                "exp_samples": [{"labels": each, "value": value} for each, value in count.items()],
            }
        ],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": alarm,
                "exp_alerts": [_expected(rules[alarm], labels) for labels in found],
            }
            for alarm, found in firing.items()
        ],
    }


def _expected(rule: dict[str, Any], labels: Labels) -> dict[str, Any]:
    """Return an alarm as Prometheus raises it, with its labels and its words."""
    all_labels = labels if rule["expr"].startswith("absent") else GATEWAY | labels
    words = {
        name: re.sub(r"{{ \$labels\.(\w+) }}", lambda match: all_labels[match[1]], text)
        for name, text in rule["annotations"].items()
    }
    return {"exp_labels": rule["labels"] | all_labels, "exp_annotations": words}


def _replayed(name: str, rules: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Return a recording's series that the alarms use, at one scrape a minute from minute 0 on.

    Times of a certificate's end count from the first scrape. A counter that stays 0 is left out.
    """
    used = set(re.findall(r"cablectl_\w+", " ".join(rule["expr"] for rule in rules.values())))
    recording = Recording.of_text((RECORDINGS / f"{name}.series").read_text())
    begin, scrapes = recording.of(TIME)[0], len(recording.of(TIME))
    series = [Series("up", {}, [1.0] * scrapes)]
    for each in recording.series:
        values = each.values
        if each.name == TIME:
            values = [60.0 * minute for minute in range(scrapes)]
        elif each.name.endswith("_timestamp_seconds"):
            values = [None if value is None else round(value - begin) for value in values]
        if each.name in used and (any(values) or "xfrm" not in each.name):
            series.append(Series(each.name, each.labels, values))
    return [
        {"series": _shown(each.name, GATEWAY | each.labels), "values": " ".join(_runs(each.values))}
        for each in series
    ]


def _runs(values: list[float | None]) -> Iterator[str]:
    """Yield the values in promtool's notation: `5x3` is one 5 and three more."""
    for value, run in groupby(values):
        more = len(list(run)) - 1
        text = "_" if value is None else f"{value:.15g}"
        if value is None:
            yield " ".join([text] * (more + 1))
        else:
            yield f"{text}x{more}" if more else text


def _shown(name: str, labels: Labels) -> str:
    words = (f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{','.join(words)}}}"


def _with_labels(series: str) -> str:
    """Return a made-up series with the labels of a gateway, and with those of the cable."""
    name, _, rest = series.partition("{")
    labels = GATEWAY if name in ("up", TIME) else GATEWAY | CABLE
    return _shown(name, labels)[:-1] + (f",{rest}" if rest else "}")
