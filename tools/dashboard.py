"""Makes contrib/grafana/dashboard.json, by Grafana's own types."""

import json
from itertools import count
from string import ascii_uppercase

from grafana_foundation_sdk.builders import dashboard, prometheus, statetimeline, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)

from tests.support.places import ROOT

DASHBOARD = ROOT / "contrib" / "grafana" / "dashboard.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
CABLE = 'cable=~"$cable"'
WHERE = "{{instance}} {{cable}}"
# The states as numbers, since a panel shows a number over time; with a colour each.
STATES = {"foreign": "purple", "down": "red", "connecting": "orange", "degraded": "yellow"}
STATES |= {"up": "green"}
HEIGHT, HALF = 8, 12  # of 24 columns
LEGEND = VizLegendOptions().show_legend(True)
RATE = "$__rate_interval"

Query = tuple[str, str]  # an expression, and the legend of its lines
Panel = statetimeline.Panel | timeseries.Panel


def as_text() -> str:
    """Return the content of dashboard.json, which Grafana 10 and later import."""
    built = (
        dashboard.Dashboard("cablectl")
        .uid("cablectl")
        .description("Overlays between gateways in IPsec. See docs/monitoring.md of cablectl")
        .tags(["cablectl", "ipsec"])
        .time("now-6h", "now")
        .refresh("1m")
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus").label("Data"))
        .with_variable(
            dashboard.QueryVariable("cable")
            .label("Cable")
            .datasource(SOURCE)
            .query("label_values(cablectl_cable_state, cable)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
        )
    )
    ids = count(1)
    for title, panels in _rows().items():
        built = built.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            built = built.with_panel(panel.id(next(ids)))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2) + "\n"


def _rows() -> dict[str, tuple[Panel, ...]]:
    """Return the panels of each row."""
    return {
        "State": (
            _timeline("State of the cables", STATES, (_numbered_states(), WHERE)),
            _timeline(
                "Connections with a Child SA",
                {"no": "red", "yes": "green"},
                (f"cablectl_connection_up{{{CABLE}}}", "{{instance}} {{connection}}"),
            ),
        ),
        "RTT and loss": (
            _graph(
                "Round-trip time of echoes",
                "s",
                (f"cablectl_health_rtt_seconds{{{CABLE}}}", f"{WHERE} mean"),
                (f"cablectl_health_jitter_seconds{{{CABLE}}}", f"{WHERE} jitter"),
            ),
            _graph("Lost echoes", "percentunit", (f"cablectl_health_loss_ratio{{{CABLE}}}", WHERE)),
        ),
        "Traffic": (
            _graph("Received", "Bps", (_traffic("received"), WHERE)),
            _graph("Sent", "Bps", (_traffic("sent"), WHERE)),
        ),
        "SAs": (
            _graph(
                "Since the last handshake",
                "s",
                (f"cablectl_last_handshake_seconds{{{CABLE}}}", WHERE),
            ),
            _graph(
                "Until the next rekeying",
                "s",
                (f"cablectl_child_sa_rekey_seconds{{{CABLE}}}", "{{instance}} {{connection}}"),
            ),
        ),
        "Guard and IPsec's errors": (
            _timeline(
                "Guard",
                {"missing": "red", "loaded": "green"},
                (f"cablectl_guard_up{{{CABLE}}}", WHERE),
            ),
            _graph(
                "Dropped clear text",
                "pps",
                (
                    f"rate(cablectl_guard_dropped_packets_total{{{CABLE}}}[{RATE}])",
                    f"{WHERE} {{{{direction}}}}",
                ),
            ),
            _graph(
                "Packets that the kernel's IPsec drops, of the whole host",
                "pps",
                (f"rate(cablectl_xfrm_errors_total[{RATE}]) > 0", "{{instance}} {{counter}}"),
            ),
        ),
        "Repairs and certificates": (
            _graph(
                "Repairs in an hour",
                "short",
                (
                    f"increase(cablectl_repairs_total{{{CABLE}}}[1h])",
                    f"{WHERE} {{{{kind}}}}",
                ),
            ),
            _graph(
                "Until a certificate ends",
                "s",
                (
                    f"cablectl_certificate_expiry_timestamp_seconds{{{CABLE}}} - time()",
                    "{{instance}} {{certificate}} {{subject}}",
                ),
            ),
        ),
    }


def _numbered_states() -> str:
    """Return the state of each cable as its number in STATES."""
    numbered = " or ".join(
        f'cablectl_cable_state{{state="{state}",{CABLE}}} * {number}'
        for number, state in enumerate(STATES)
    )
    return f"sum without (state) ({numbered})"


def _traffic(direction: str) -> str:
    return f"sum without (connection) (rate(cablectl_{direction}_bytes_total{{{CABLE}}}[{RATE}]))"


def _targets(*queries: Query) -> list[Builder[Dataquery]]:
    """Return the queries of a panel, called A, B and so on."""
    return [
        prometheus.Dataquery()
        .ref_id(name)
        .expr(expression)
        .legend_format(legend)
        .range()
        .datasource(SOURCE)
        for name, (expression, legend) in zip(ascii_uppercase, queries, strict=False)
    ]


def _graph(title: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Return a graph with a line for each series."""
    panel = timeseries.Panel().title(title).datasource(SOURCE).height(HEIGHT).span(HALF)
    panel = panel.unit(unit).axis_soft_min(0).show_points(VisibilityMode.NEVER).legend(LEGEND)
    return panel.targets(_targets(*queries))


def _timeline(title: str, words: dict[str, str], query: Query) -> statetimeline.Panel:
    """Return bars that show numbers from 0 on as words, each with its colour."""
    shown = {
        str(number): ValueMappingResult(text=word, color=colour, index=number)
        for number, (word, colour) in enumerate(words.items())
    }
    panel = statetimeline.Panel().title(title).datasource(SOURCE).height(HEIGHT).span(HALF)
    panel = panel.mappings([ValueMap(options=shown)]).show_value(VisibilityMode.AUTO)
    return panel.targets(_targets(query))
