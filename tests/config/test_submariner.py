"""Submariner's documents: the same plan as the file written by hand, and every problem in place."""

import base64
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cablectl.config import native
from cablectl.config.submariner import documents
from cablectl.config.submariner.documents import Imported
from cablectl.errors import UsageError
from cablectl.facts.host_facts import Facts
from cablectl.libreswan.dialects import LATEST, parse_version
from cablectl.model.cable import Role
from cablectl.model.network import Network
from cablectl.model.psk import PskEnv, PskFile
from cablectl.model.wishes import (
    DEFAULT_PSK,
    Encapsulation,
    Forwarding,
    Mode,
    Vxlan,
)
from cablectl.plan import connect_plan
from cablectl.render import draft, plans
from tests.support.places import CASES, EXAMPLES

FOLDER = EXAMPLES / "submariner"
CONFIGMAP, ENDPOINTS, RESOURCE = (
    (FOLDER / f"{name}.yaml").read_text() for name in ("configmap", "endpoints", "submariner")
)
REFUSED, ACCEPTED = (
    [path.with_suffix(".yaml") for path in sorted((CASES / "submariner").glob(f"*.{suffix}"))]
    for suffix in ("txt", "out")
)


def parse(*texts: str, psk_file: str = "") -> Imported:
    return documents.parse({f"{i}.yaml": text for i, text in enumerate(texts)}, psk_file)


def problems(*texts: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse(*texts)
    assert caught.value.exit_code == 2
    return [caught.value.message, *caught.value.details]


def scripts(network: Network) -> list[str]:
    facts = Facts(libreswan=parse_version("4.10"))
    return [
        plans.as_script(connect_plan.plan(network.cables(each), (facts,)))
        for each in network.endpoints
    ]


def test_the_proposals_configmap_and_two_endpoints_give_the_plan_of_the_file_by_hand() -> None:
    by_hand = native.parse((FOLDER / "by-hand.yaml").read_text(), "by-hand.yaml")
    found = parse(CONFIGMAP, ENDPOINTS)
    assert scripts(found.network) == scripts(by_hand)
    assert found.network == by_hand


def test_what_import_writes_gives_the_same_plan() -> None:
    for texts in ((CONFIGMAP, ENDPOINTS), (RESOURCE, ENDPOINTS), (ENDPOINTS,)):
        found = parse(*texts, psk_file="/etc/cablectl/psk")
        written = draft.as_file(found.value, ["documents"])
        assert native.parse(written, "cable.yaml") == found.network


@pytest.mark.parametrize(
    "block",
    [
        'ceIPSecMode: "transport",\nceIPSecOverlay: "vxlan",\nceIPSecEsp: ["aes_gcm-null"]\n',
        "ceIPSecMode: transport\nceIPSecOverlay: vxlan\nceIPSecEsp:\n  - aes_gcm-null\n",
        "ceIPSecMode: transport,\nceIPSecOverlay: vxlan  ,\nceIPSecEsp: [aes_gcm-null],\n",
        '{"ceIPSecMode": "transport",\n"ceIPSecOverlay": "vxlan", "ceIPSecEsp": ["aes_gcm-null"]}',
        'ceIPSecMode: "transport"\nceIPSecOverlay: "vxlan"\nceIPSecEsp: [\n  "aes_gcm-null",\n]\n',
    ],
    ids=["as in the proposal", "YAML", "commas everywhere", "JSON", "a list of several lines"],
)
def test_the_block_is_taken_as_it_is_written(block: str) -> None:
    config = yaml.safe_load(CONFIGMAP)
    config["data"]["ceCustomConfig"] = block
    for text in (yaml.safe_dump(config), json.dumps(config), json.dumps(config, indent=4)):
        network = parse(text, ENDPOINTS).network
        assert network.mode is Mode.TRANSPORT
        assert isinstance(network.overlay, Vxlan)
        assert network.ipsec.esp == ("aes_gcm-null",)


def test_single_documents_lists_streams_and_json_say_the_same() -> None:
    items = yaml.safe_load(ENDPOINTS)["items"]
    expected = parse(ENDPOINTS).network
    assert parse(*map(yaml.safe_dump, items)).network == expected
    assert parse(yaml.safe_dump_all(items)).network == expected
    assert (
        parse(json.dumps({"kind": "List", "apiVersion": "v1", "items": items})).network == expected
    )
    endpoints = {"kind": "EndpointList", "apiVersion": "submariner.io/v1", "items": items}
    assert parse(yaml.safe_dump(endpoints)).network == expected
    assert parse(f"---\n{ENDPOINTS}\n---\n").network == expected


def test_more_than_two_endpoints_are_a_mesh() -> None:
    listed = yaml.safe_load(ENDPOINTS)
    (first, _) = listed["items"]
    for number in (3, 4):
        spec_of = first["spec"] | {
            "cluster_id": f"cluster{number}",
            "hostname": f"cluster{number}-worker",
            "private_ip": f"172.18.0.{number}",
            "subnets": [f"10.{number}.0.0/16"],
            "cable_name": f"submariner-cable-cluster{number}-172-18-0-{number}",
        }
        listed["items"].append({**first, "metadata": {}, "spec": spec_of})
    found = parse(CONFIGMAP, json.dumps(listed))
    assert [each.cluster for each in found.network.endpoints] == [
        *("cluster1", "cluster2", "cluster3", "cluster4"),
    ]
    assert isinstance(found.network.overlay, Vxlan)
    assert found.network.overlay.forwarding is Forwarding.STATIC
    for end in found.network.endpoints:
        cables = found.network.cables(end)
        script = plans.as_script(connect_plan.plan(cables, (Facts(libreswan=LATEST),) * 3))
        assert script.count("bridge fdb append") == 3
    written = draft.as_file(found.value, ["documents"])
    assert native.parse(written, "mesh.yaml") == found.network


class TestResource:
    def test_its_fields_and_its_secret(self) -> None:
        found = parse(RESOURCE, ENDPOINTS)
        assert found.network.mode is Mode.TRANSPORT
        assert found.network.ipsec.encapsulation is Encapsulation.YES
        assert found.network.ipsec.ike_port == 4500
        assert base64.b64decode(found.key).startswith(b"example key")

    def test_a_configmap_goes_before_it_if_it_is_named(self) -> None:
        resource = RESOURCE.replace("transport\n", "tunnel\n")
        named = resource.replace(
            "  clusterID:",
            "  cableDriverCustomConfig: {configMapName: cabledriver-config}\n  clusterID:",
        )
        assert parse(named, CONFIGMAP, ENDPOINTS).network.mode is Mode.TRANSPORT
        other = named.replace("cabledriver-config", "another").replace(
            "  ceIPSecOverlay: vxlan\n", ""
        )
        assert parse(other, CONFIGMAP, ENDPOINTS).network.mode is Mode.TUNNEL

    def test_without_forced_encapsulation_only_nat_gets_it(self) -> None:
        text = RESOURCE.replace("Encaps: true", "Encaps: false")
        assert parse(text, ENDPOINTS).network.ipsec.encapsulation is Encapsulation.AUTO

    def test_what_is_not_used_is_told(self) -> None:
        text = RESOURCE.replace("Debug: false", "Debug: true").replace("Port: 500\n", "Port: 501\n")
        assert [note.partition(" ")[0] for note in parse(text, ENDPOINTS).notes] == [
            "ceIPSecDebug",
            "ceIPSecIKEPort:",
        ]

    def test_two_clusters_that_differ(self) -> None:
        other = RESOURCE.partition("---")[0].replace("vxlan", "gre").replace("cluster1", "cluster2")
        (message,) = problems(RESOURCE, other, ENDPOINTS)
        assert message == ("1.yaml:15: spec.ceIPSecOverlay: differs from the value at 0.yaml:15")


class TestKey:
    INLINE = RESOURCE.partition("---")[0].replace(
        "ceIPSecPSKSecret: submariner-ipsec-psk", "ceIPSecPSK: correct-horse-battery"
    )

    def test_inline_it_is_never_in_the_file(self) -> None:
        found = parse(self.INLINE, ENDPOINTS)
        assert found.key == "correct-horse-battery"
        assert found.network.ipsec.psk == PskEnv("CE_IPSEC_PSK")
        assert "correct-horse" not in draft.as_file(found.value, []) + "".join(found.notes)
        elsewhere = parse(self.INLINE, ENDPOINTS, psk_file="/root/psk").network.ipsec.psk
        assert elsewhere == PskFile("/root/psk")

    def test_it_is_in_no_error(self) -> None:
        broken = self.INLINE.replace("NATTPort: 4500", "NATTPort: x")
        assert "correct-horse" not in "".join(problems(broken, ENDPOINTS))
        odd = self.INLINE.replace("correct-horse-battery", "[correct-horse]")
        assert "correct-horse" not in "".join(problems(odd, ENDPOINTS))

    def test_not_in_the_documents(self) -> None:
        found = parse(RESOURCE.partition("---")[0], ENDPOINTS)
        assert found.key == ""
        assert found.network.ipsec.psk == PskFile("/etc/cablectl/psk")
        assert "of the Secret submariner-ipsec-psk" in found.notes[0]


class TestEndpoints:
    def changed(self, *changes: tuple[str, str]) -> str:
        text = ENDPOINTS
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        return text

    def test_nat(self) -> None:
        text = self.changed(
            ("nat_enabled: false", "nat_enabled: true"),
            ('public_ip: ""', "public_ip: 203.0.113.8"),
        )
        one, other = parse(text).network.endpoints
        assert (str(one.public_address), other.public_address) == ("203.0.113.8", None)

    def test_in_transport_mode_nat_is_left_out_and_told(self) -> None:
        text = self.changed(("nat_enabled: false", "nat_enabled: true"))
        found = parse(CONFIGMAP, text)
        assert not any(each.behind_nat for each in found.network.endpoints)
        assert "doesn't pass NAT" in found.notes[-1]

    @pytest.mark.parametrize(
        ("one", "other", "role"),
        [
            ("true", "false", Role.SERVER),
            ("false", "true", Role.CLIENT),
            ("true", "true", Role.CLIENT),
            ("true", None, Role.BIDIRECTIONAL),
            (None, None, Role.BIDIRECTIONAL),
        ],
    )
    def test_preferred_server(self, one: str | None, other: str | None, role: Role) -> None:
        documents = yaml.safe_load(ENDPOINTS)
        for item, said in zip(documents["items"], (one, other), strict=True):
            if said:
                item["spec"]["backend_config"]["preferred-server"] = said
        network = parse(yaml.safe_dump(documents)).network
        assert network.cables(network.endpoints[0])[0].role is role

    def test_the_resource_says_it_for_its_own_cluster(self) -> None:
        resource = RESOURCE.replace("PreferredServer: false", "PreferredServer: true")
        ends = parse(resource, ENDPOINTS).network.endpoints
        assert [each.preferred_server for each in ends] == [True, None]

    def test_each_may_have_a_port_of_its_own(self) -> None:
        network = parse(self.changed(('"4500"', '"4501"'))).network
        assert [each.ike_port for each in network.endpoints] == [4501, 4500]

    def test_an_unusual_cable_name_is_told(self) -> None:
        text = self.changed(("cable_name: submariner-cable-cluster1", "cable_name: other"))
        assert "cable_name other-172-18-0-8 is ignored" in "".join(parse(text).notes)


def test_the_vxlan_driver_is_clear_text_on_its_own_port() -> None:
    network = parse(ENDPOINTS.replace("libreswan", "vxlan").replace('"4500"', '"4800"')).network
    assert (network.mode, network.overlay) == (
        Mode.NONE,
        Vxlan(port=4800, forwarding=Forwarding.FLOOD),
    )
    bare = re.sub(r"        udp-port.*\n", "", ENDPOINTS.replace("libreswan", "vxlan"))
    assert parse(bare).network.overlay == Vxlan(port=4500, forwarding=Forwarding.FLOOD)
    found = parse(OPERATORS, CLEAR)
    assert (found.network.mode, found.key) == (Mode.NONE, "")
    assert "ipsec" not in found.value


# A resource as Submariner's operator fills it in for the VXLAN driver.
OPERATORS = re.sub(
    r"  ceIPSec(Mode|Overlay|PSKSecret):.*\n",
    "",
    RESOURCE.partition("---")[0].replace("cableDriver: libreswan", "cableDriver: vxlan"),
)
CLEAR = ENDPOINTS.replace("libreswan", "vxlan")


class TestNoDocumentSwitchesEncryptionOff:
    @pytest.mark.parametrize("which", [0, 1])
    def test_by_the_driver_of_one_endpoint(self, which: int) -> None:
        items = yaml.safe_load(ENDPOINTS)["items"]
        items[which]["spec"]["backend"] = "vxlan"
        for texts in ((), (CONFIGMAP,), (RESOURCE,)):
            found = problems(*texts, yaml.safe_dump_all(items))
            (of_backend,) = (line for line in found if "spec.backend" in line)
            assert "'vxlan' is not allowed; allowed: libreswan, as at" in of_backend

    def test_if_another_endpoint_names_no_driver(self) -> None:
        (found,) = problems(CLEAR.replace("backend: vxlan", "other: vxlan", 1))
        assert found == (
            "0.yaml:14: items[0].spec.backend: missing;"
            " write vxlan if this end has no IPsec, as at 0.yaml:36"
        )

    @pytest.mark.parametrize(
        ("wish", "field"),
        [
            ("ceIPSecMode: transport", "spec.ceIPSecMode"),
            ("ceIPSecOverlay: vxlan", "spec.ceIPSecOverlay"),
            ("ceIPSecEsp: [aes_gcm-null]", "spec.ceIPSecEsp"),
            ("ceIPSecPfsGroup: modp2048", "spec.ceIPSecPfsGroup"),
            ("ceIPSecPSK: correct-horse-battery", "spec.ceIPSecPSK"),
            ("ceIPSecPSKSecret: submariner-ipsec-psk", "spec.ceIPSecPSKSecret"),
        ],
    )
    def test_if_the_resource_asks_for_ipsec(self, wish: str, field: str) -> None:
        resource = OPERATORS.replace("  clusterID:", f"  {wish}\n  clusterID:")
        (found,) = problems(resource, CLEAR)
        assert found == (
            "0.yaml:9: spec.cableDriver: 'vxlan' sends everything in clear text, but"
            f" {field} at 0.yaml:15 asks for IPsec; write libreswan, or remove what asks for IPsec"
        )

    def test_if_a_configmap_or_a_secret_is_given(self) -> None:
        block = CONFIGMAP[: CONFIGMAP.index("    ceIPSecMode")] + "    ceIPSecNATTPort: 4500\n"
        secret = RESOURCE.partition("---\n")[2]
        for text, wish in ((CONFIGMAP, "ceIPSecMode"), (block, "ceIPSecNATTPort")):
            (found,) = problems(text, CLEAR)
            assert f"but {wish} at 0.yaml:9 asks for IPsec" in found
        (found,) = problems(secret, CLEAR)
        assert "but data.psk at 0.yaml:8 asks for IPsec" in found

    def test_by_the_mode_of_a_configmap(self) -> None:
        found = problems(CONFIGMAP.replace('"transport"', '"none"'), ENDPOINTS)
        assert "0.yaml:9: ceIPSecMode: 'none' is not allowed; allowed: tunnel, transport" in found

    def test_by_a_cipher_that_only_authenticates(self) -> None:
        (found,) = problems(CONFIGMAP.replace("aes_gcm-null", "null-sha1"), ENDPOINTS)
        assert "'null-sha1' doesn't encrypt" in found

    def test_by_a_second_configmap_or_secret(self) -> None:
        other = CONFIGMAP.replace("aes_gcm-null", "aes_cbc-sha1")
        (found,) = problems(CONFIGMAP, other, ENDPOINTS)
        assert found == "1.yaml:12: ceIPSecEsp: differs from the value at 0.yaml:12"
        secret = RESOURCE.partition("---\n")[2].replace("ZXhh", "ZXho")
        (found,) = problems(RESOURCE, secret, ENDPOINTS)
        assert found == "1.yaml:8: data.psk: differs from the key at 0.yaml:27; give one key"


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refused(path: Path) -> None:
    assert problems(path.read_text()) == path.with_suffix(".txt").read_text().splitlines()


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_accepted(path: Path) -> None:
    """Beside the documents are the notes, and the file that says the same."""
    found = parse(path.read_text(), psk_file=DEFAULT_PSK)
    written = draft.as_file(found.value, ["0.yaml"])
    told = "".join(f"note: {note}\n" for note in found.notes)
    assert told + written == path.with_suffix(".out").read_text()
    assert native.parse(written, "cable.yaml") == found.network
    for end in found.network.endpoints:
        cables = found.network.cables(end)
        assert connect_plan.plan(cables, (Facts(libreswan=LATEST),) * len(cables)).steps


def test_each_case_is_either_accepted_or_refused() -> None:
    assert {*REFUSED, *ACCEPTED} == set((CASES / "submariner").glob("*.yaml"))
    assert not {*REFUSED} & {*ACCEPTED}


def test_a_health_address_is_read_only_where_echoes_need_it() -> None:
    ends = parse(ENDPOINTS).network.endpoints
    assert [str(end.health_address) for end in ends] == ["10.44.0.1", "10.45.0.1"]
    for mode in ("tunnel", "transport"):
        resource = RESOURCE.replace("ceIPSecMode: transport", f"ceIPSecMode: {mode}")
        ends = parse(resource, ENDPOINTS).network.endpoints
        assert [end.health_address for end in ends] == [None, None]
    without_overlay = RESOURCE.replace("  ceIPSecOverlay: vxlan\n", "")
    (problem,) = problems(without_overlay, ENDPOINTS)
    assert "overlay: missing; allowed in mode transport" in problem


@settings(max_examples=200)
@given(st.text(alphabet="ceIPSMod:, \"[]{}\n|-'#&*!", max_size=80))
def test_no_block_makes_a_traceback(block: str) -> None:
    config = yaml.safe_load(CONFIGMAP)
    config["data"]["ceCustomConfig"] = block
    with pytest.raises(UsageError):
        parse(yaml.safe_dump(config), ENDPOINTS.replace("backend: libreswan", "backend: none"))
