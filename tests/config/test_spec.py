"""The file: what is taken, and every problem of what is not, with line and field."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cablectl.config import native
from cablectl.errors import UsageError
from cablectl.model.health_check import HealthCheck
from cablectl.model.psk import PskDirectory, PskEnv
from cablectl.model.wishes import (
    Dpd,
    DpdAction,
    Encapsulation,
    Forwarding,
    Initiate,
    Offload,
    Vxlan,
)
from tests.support.documents import document
from tests.support.places import CASES, EXAMPLES

FILES = CASES / "file"
QUICKSTART = (EXAMPLES / "quickstart.yaml").read_text()


def problems(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        native.parse(text, "cable.yaml")
    assert caught.value.exit_code == 2
    return [caught.value.message, *caught.value.details]


@pytest.mark.parametrize("path", sorted(FILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_refused(path: Path) -> None:
    expected = path.with_suffix(".txt").read_text().splitlines()
    assert problems(path.read_text()) == expected


def test_no_case_repeats_a_secret() -> None:
    for path in (*FILES.glob("inline_psk*.yaml"), FILES / "no_value_after_all.yaml"):
        assert "correct-horse" in path.read_text()
        assert "correct-horse" not in "".join(problems(path.read_text()))


def test_yaml_booleans_are_words() -> None:
    text = QUICKSTART + "  encapsulation: no\n  offload: off\n  dpd: off\n"
    ipsec = native.parse(text, "cable.yaml").ipsec
    assert (ipsec.encapsulation, ipsec.offload, ipsec.dpd) == (Encapsulation.NO, Offload.OFF, None)
    quoted = QUICKSTART + "  encapsulation: 'yes'\n  offload: 'off'\n  dpd: 'off'\n"
    ipsec = native.parse(quoted, "cable.yaml").ipsec
    assert (ipsec.encapsulation, ipsec.offload, ipsec.dpd) == (Encapsulation.YES, Offload.OFF, None)


def test_every_field_is_taken() -> None:
    text = QUICKSTART.replace("{file: /etc/cablectl/psk}", "{env: CABLE_PSK}") + (
        "  ike_port: 500\n  encapsulation: auto\n  pfs_group: modp2048\n  esp: [aes_gcm-null]\n"
        "  dpd: {delay: 5, action: restart}\n  initiate: both\n"
        "vxlan: {port: 8472, vni: 7, device: cable0, mtu: 1300}\n"
    )
    network = native.parse(text, "cable.yaml")
    assert network.ipsec.psk == PskEnv("CABLE_PSK")
    assert network.ipsec.ike_port == 500
    assert network.ipsec.pfs_group == "modp2048"
    assert network.ipsec.esp == ("aes_gcm-null",)
    assert network.ipsec.dpd == Dpd(5, DpdAction.RESTART)
    assert network.ipsec.initiate is Initiate.BOTH
    vxlan = network.overlay
    assert isinstance(vxlan, Vxlan)
    assert (vxlan.port, vxlan.vni, vxlan.device, vxlan.mtu) == (8472, 7, "cable0", 1300)


def test_health() -> None:
    """It is on by default, and both ends send echoes between the same two addresses."""
    assert native.parse(QUICKSTART, "cable.yaml").health == HealthCheck(interval=5, threshold=3)
    for word in ("off", "'off'", "no"):
        network = native.parse(f"{QUICKSTART}health: {word}\n", "cable.yaml")
        assert network.health is None
        assert all(each.health is None for each in network.cables(network.endpoints[0]))
    partly = native.parse(QUICKSTART + "health: {interval: 3600}\n", "cable.yaml")
    (cable,) = partly.cables(partly.endpoints[0])
    assert cable.health == HealthCheck(interval=3600, threshold=3)


def test_null_does_not_switch_dead_peer_detection_off() -> None:
    assert problems(QUICKSTART + "  dpd:\n") == [
        "cable.yaml:17: ipsec.dpd: no value; allowed: a mapping with delay and action, or off"
    ]


@settings(max_examples=300)
@given(st.text() | st.text(alphabet="[]{}:-,&*!|>'\"#?\n \t0a", max_size=60))
def test_no_text_makes_a_traceback(text: str) -> None:
    assert problems(text)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=300)
@given(
    st.sampled_from(
        [
            "mode: transport",
            "[10.44.0.0/16]",
            "172.18.0.8",
            "cluster1-worker",
            "{file: /etc/cablectl/psk}",
        ]
    ),
    VALUES,
)
def test_no_value_makes_a_traceback(place: str, value: object) -> None:
    import yaml

    flow = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    shown = flow.removesuffix("\n...\n").strip()
    message = ""
    try:
        native.parse(QUICKSTART.replace(place, shown, 1), "cable.yaml")
    except UsageError as error:
        message = error.message
    assert not message or message.startswith("cable.yaml:")


def test_forwarding_of_a_file() -> None:
    def forwarding(text: str) -> Forwarding:
        overlay = native.parse(text, "x.yaml").overlay
        assert isinstance(overlay, Vxlan)
        return overlay.forwarding

    assert forwarding((EXAMPLES / "mesh.yaml").read_text()) is Forwarding.STATIC
    assert forwarding(document("none vxlan v6 mesh")) is Forwarding.STATIC
    assert forwarding(document("transport vxlan v4")) is Forwarding.FLOOD


def test_a_directory_of_keys() -> None:
    text = QUICKSTART.replace("{file: /etc/cablectl/psk}", "{directory: /etc/cablectl/keys/}")
    assert native.parse(text, "x").ipsec.psk == PskDirectory("/etc/cablectl/keys")
