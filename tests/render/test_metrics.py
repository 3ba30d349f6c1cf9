"""The state of cables as metrics, as Prometheus's own parser reads them."""

import subprocess
import sys

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from cablectl.model.cable import Cable
from cablectl.render.metrics import METRICS, as_metrics
from cablectl.status import state
from cablectl.status.health import with_health
from cablectl.status.report import RepairState, StatusReport, Verdict
from tests.support.alive import NOW, alive, report, without_sa
from tests.support.documents import shaped
from tests.support.every_state import every_state
from tests.support.health import ANSWERING, UNKNOWN
from tests.support.places import EXAMPLES
from tests.support.standing import with_ends

NAME = "submariner-cable-cluster2-172-18-0-7"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(told: StatusReport) -> Samples:
    """Return the values by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(as_metrics(told))
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float | None:
    """Return the value of the one cable; None if there is no such sample."""
    return found.get((f"cablectl_{name}", frozenset({("cable", NAME), *labels.items()})))


def test_the_end_of_a_certificate_is_a_time(cable: Cable) -> None:
    facts = with_ends(alive(cable), (("gateway", "CN=west", 6), ("authority", "CN=a", 29)), NOW)
    found = samples(report(state.of(cable, facts, NOW)))
    for role, subject, days in (("gateway", "CN=west", 6), ("authority", "CN=a", 29)):
        end = of(found, "certificate_expiry_timestamp_seconds", certificate=role, subject=subject)
        assert end == int(NOW) + days * 86400


def test_prometheus_reads_them() -> None:
    text = as_metrics(every_state())
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert len(families) == len(METRICS)
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.text)
        assert family.samples
        assert {sample.name for sample in family.samples} == {metric.name}


def test_what_they_say_of_a_cable(cable: Cable) -> None:
    found = samples(report(state.of(cable, without_sa(cable, alive(cable), 1), NOW)))
    first, second = (each.name for each in cable.connections)
    told = {
        verdict: of(found, "cable_state", state=verdict)
        for verdict in ("up", "degraded", "connecting", "down", "foreign")
    }
    assert told == {"up": 0, "degraded": 1, "connecting": 0, "down": 0, "foreign": 0}
    info = {"peer": "172.18.0.7", "mode": "transport", "overlay": "vxlan", "offload": "software"}
    assert of(found, "cable_info", **info) == 1
    for connection, number in ((first, 1), (second, 0)):
        assert of(found, "connection_up", connection=connection) == number
        assert of(found, "connection_routed", connection=connection) == number
        assert of(found, "received_bytes_total", connection=connection) == 824 * number
        assert of(found, "sent_bytes_total", connection=connection) == 1236 * number
    assert of(found, "child_sa_age_seconds", connection=first) == 3600
    assert of(found, "child_sa_rekey_seconds", connection=first) == 25200
    assert of(found, "child_sa_age_seconds", connection=second) is None
    assert of(found, "last_handshake_seconds") == 3600
    assert of(found, "overlay_up", device="vxlan-tunnel") == 1
    assert of(found, "overlay_mtu_bytes", device="vxlan-tunnel") == 1408
    assert of(found, "guard_up") == 1
    assert of(found, "guard_dropped_packets_total", direction="in") == 0
    assert of(found, "guard_dropped_packets_total", direction="out") == 0


def test_the_last_handshake_is_that_of_the_newest_child_sa(cable: Cable) -> None:
    up = state.of(cable, alive(cable), NOW)
    first, second = up.connections
    newer = replace(second.child_sas[0], age=60)
    rekeyed = replace(up, connections=(first, replace(second, child_sas=(newer,))))
    assert of(samples(report(rekeyed)), "last_handshake_seconds") == 60


def test_of_a_cable_without_an_sa_no_handshake_is_known(cable: Cable) -> None:
    found = samples(report(state.of(cable, without_sa(cable, alive(cable), 0, 1), NOW)))
    assert of(found, "last_handshake_seconds") is None


def test_what_echoes_tell(cable: Cable) -> None:
    up = state.of(cable, alive(cable), NOW)
    told = {
        "health_rtt_seconds": 0.05034,
        "health_last_rtt_seconds": 0.0501,
        "health_jitter_seconds": 0.00021,
        "health_loss_ratio": 0.03,
        "health_echoes_sent_total": 160,
        "health_echoes_answered_total": 157,
    }
    found = samples(report(with_health(up, ANSWERING)))
    assert {name: of(found, name) for name in told} == told
    found = samples(report(with_health(up, UNKNOWN)))
    assert [of(found, name) for name in told] == [None, None, None, None, 1, 0]
    found = samples(report(up))
    assert [of(found, name) for name in told] == [None] * len(told)


def test_repairs_have_a_kind(cable: Cable) -> None:
    quiet = state.of(cable, alive(cable), NOW)
    assert of(samples(report(quiet)), "last_repair_timestamp_seconds") is None
    done = RepairState(counts={"guard": 2, "reload": 0}, last=NOW - 60)
    found = samples(report(replace(quiet, repairs=done)))
    assert of(found, "repairs_total", kind="guard") == 2
    assert of(found, "repairs_total", kind="reload") == 0
    assert of(found, "last_repair_timestamp_seconds") == NOW - 60


def test_what_the_host_has_belongs_to_no_cable() -> None:
    found = samples(replace(report(), xfrm_errors={"XfrmInNoStates": 3}))
    name = ("cablectl_xfrm_errors_total", frozenset({("counter", "XfrmInNoStates")}))
    time = ("cablectl_report_timestamp_seconds", frozenset[tuple[str, str]]())
    assert found == {name: 3, time: NOW}


def test_labels_are_escaped() -> None:
    odd = 'submariner-cable-"x\\no\nz'
    text = as_metrics(report(state.unknown(odd, Verdict.DOWN, "why")))
    (first, *_) = text_string_to_metric_families(text)
    assert first.samples[0].labels == {"cable": odd, "state": "up"}


def test_of_nothing_there_are_names_and_the_time() -> None:
    lines = as_metrics(report()).splitlines()
    (time,) = (line for line in lines if not line.startswith("# "))
    assert time.startswith("cablectl_report_timestamp_seconds ")
    assert len(lines) == 2 * len(METRICS) + 1


def test_only_metrics_load_the_library() -> None:
    """A dry run and the table of a state don't wait for it."""
    script = (
        "import sys; from cablectl.cli import main\n"
        "import cablectl.render.status_table, cablectl.host.cables\n"
        "try: main()\n"
        "finally: assert 'prometheus_client' not in sys.modules"
    )
    argv = ["plan", str(EXAMPLES / "quickstart.yaml"), "--dry-run", "--local", "cluster1"]
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_shape_has_its_own_samples() -> None:
    """No metric fails for a cable without overlay, guard or SAs."""
    for shape in ("tunnel v4", "none vxlan v4"):
        found = samples(report(state.of(shaped(shape), alive(shaped(shape)), NOW)))
        assert sum(value for (name, _), value in found.items() if name.endswith("_state")) == 1
