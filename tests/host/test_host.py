"""Facts from what the host's tools print; pytest-subprocess stands in for the tools."""

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from pytest_subprocess import FakeProcess

from cablectl.cli import source
from cablectl.errors import HostNotReadyError, TimeLimitError, UsageError
from cablectl.facts.host_facts import Algorithms, Credential, Facts, Pluto, connected
from cablectl.host import daemon, devices, ipsec_state, kernel, keys, probe, reading
from cablectl.host.paths import ways
from cablectl.libreswan import secrets_file
from cablectl.libreswan.dialects import LATEST, Version
from cablectl.libreswan.limits import Limits
from cablectl.libreswan.pluto import Ike
from cablectl.linux.esp_offload import Nic
from cablectl.model.cable import Cable
from cablectl.model.psk import PskEnv
from cablectl.plan import connect_plan
from tests.support.documents import shaped
from tests.support.gateway import KEY, WAYS
from tests.support.plans import BLANK


@pytest.mark.usefixtures("gateway")
class TestFacts:
    def test_a_gateway_on_which_the_cable_is_up(self, here: Cable) -> None:
        Path(secrets_file.path(here)).write_bytes(secrets_file.content(here, KEY.encode()))
        facts = reading.facts(here)
        expected = connected(here, Facts(libreswan=Version(4, 10)), 1408)
        seen = facts.overlay.link
        assert seen
        assert expected.overlay.link
        assert expected.overlay.link.addresses < seen.addresses
        assert expected.overlay.link.info.items() < seen.info.items()
        assert facts.policies.keys() == expected.policies.keys()
        assert replace(facts.overlay, link=expected.overlay.link) == expected.overlay
        expected = replace(
            expected,
            guard_watched=False,
            overlay=facts.overlay,
            held=frozenset({"172.18.0.8", "241.18.0.8", "fe80::1"}),
            policies=facts.policies,
            device="eth0",
            nic=facts.nic,
            algorithms=Algorithms(()),
        )
        loaded = {
            name: replace(
                each, child_sas=(), ike=Ike.NONE, ike_of=None, limits=Limits(), serials=()
            )
            for name, each in facts.connections.items()
        }
        assert replace(facts, service_port=4789, connections=loaded) == expected
        assert facts.nic == Nic("eth0", {"esp-hw-offload": False})
        assert connect_plan.plan((here,), (facts,)).needed == ()

    @pytest.mark.parametrize(
        ("addresses", "problem"),
        [
            ({"172.18.0.9"}, "no longer has 172.18.0.8, .*; its address is 172.18.0.9 now"),
            ({"172.18.0.8"}, "no route from 172.18.0.8 to 172.18.0.7"),
        ],
    )
    def test_without_a_way_to_the_peer(
        self, here: Cable, monkeypatch: pytest.MonkeyPatch, addresses: set[str], problem: str
    ) -> None:
        monkeypatch.setattr(devices, "addresses_of", lambda _: frozenset(addresses))
        monkeypatch.setattr(reading, "ways", lambda *_: {})
        monkeypatch.setattr(devices, "source_towards", lambda _: "172.18.0.9")
        facts = reading.facts(here)
        assert facts.holds_address == (str(here.local.address) in addresses)
        with pytest.raises(HostNotReadyError, match=problem):
            connect_plan.plan((here,), (facts,))

    def test_every_child_sa_has_a_state(self, here: Cable, fp: FakeProcess) -> None:
        """The status is read after the traffic status, so it can't be the older of the two."""
        reading.facts(here)
        asked = [" ".join(map(str, call)) for call in fp.calls]
        order = [line for line in asked if line.startswith("ipsec whack ")]
        assert order == ["ipsec whack --trafficstatus", "ipsec whack --status"]

    def test_the_secret(self, here: Cable) -> None:
        assert reading.facts(here).credential is Credential.ABSENT

    def test_another_secret(self, here: Cable) -> None:
        Path(secrets_file.path(here)).write_text("172.18.0.8 172.18.0.7 : PSK 0x00\n")
        assert reading.facts(here).credential is Credential.OTHER

    @pytest.mark.parametrize(
        ("identities", "key", "expected"),
        [
            ("172.18.0.18 172.18.0.7", KEY, Credential.EARLIER),
            ("172.18.0.18 172.18.0.7", "another", Credential.OTHER),
            ("172.18.0.8 172.18.0.7", KEY, Credential.SAME),
        ],
    )
    def test_the_secret_of_an_earlier_file(
        self, here: Cable, identities: str, key: str, expected: Credential
    ) -> None:
        line = f"{identities} : PSK 0x{key.encode().hex()}\n"
        Path(secrets_file.path(here)).write_text(line)
        assert reading.facts(here).credential is expected
        Path(secrets_file.path(here)).write_text(f"{line}somebody : PSK 0x00\n")
        assert keys.find(here).held is Credential.OTHER

    def test_a_key_that_others_can_read(self, here: Cable, tmp_path: Path) -> None:
        (tmp_path / "psk").chmod(0o644)
        (warning,) = reading.facts(here).warnings
        assert warning.endswith(f"chmod 600 {tmp_path}/psk")

    def test_a_missing_key_keeps_connect_from_starting(self, here: Cable, tmp_path: Path) -> None:
        (tmp_path / "psk").unlink()
        facts = reading.facts(here)
        with pytest.raises(HostNotReadyError, match="No such file or directory") as caught:
            connect_plan.plan((here,), (facts,))
        assert f"cablectl secret new {tmp_path}/psk" in caught.value.hint

    def test_an_empty_variable(self, here: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CABLE_PSK", raising=False)
        this = replace(here, ipsec=replace(here.ipsec, psk=PskEnv("CABLE_PSK")))
        with pytest.raises(HostNotReadyError, match="is empty"):
            connect_plan.plan((this,), (reading.facts(this),))

    def test_a_main_file_that_includes_nothing(self, here: Cable, tmp_path: Path) -> None:
        (tmp_path / "main").write_text(f"#include {tmp_path}/*.secrets\n")
        with pytest.raises(HostNotReadyError, match="doesn't include cablectl's secrets files"):
            connect_plan.plan((here,), (reading.facts(here),))

    def test_no_esp(self, here: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernel, "has_esp", lambda module: False)
        with pytest.raises(HostNotReadyError, match="no ESP"):
            connect_plan.plan((here,), (reading.facts(here),))


def test_not_root(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostNotReadyError, match="only root") as caught:
        reading.facts(cable)
    assert caught.value.exit_code == 3


@pytest.mark.usefixtures("gateway")
def test_a_dead_pluto_and_no_systemd(here: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "pluto_status", lambda: None)
    monkeypatch.setattr(daemon, "startable", lambda: Pluto.DOWN)
    facts = reading.facts(here)
    assert (facts.pluto, facts.connections) == (Pluto.DOWN, {})


def test_no_libreswan(cable: Cable, fp: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fp.register(["ipsec", "--version"], callback=missing)
    with pytest.raises(HostNotReadyError, match="ipsec is not installed"):
        reading.facts(cable)


def test_the_ipsec_of_another_program(
    cable: Cable, fp: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fp.register(["ipsec", "--version"], stdout="Linux strongSwan U5.9.8/K6.1.0\n")
    with pytest.raises(HostNotReadyError, match=r"strongSwan .* is not a Libreswan version"):
        reading.facts(cable)


def test_no_answer_is_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ipsec").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "ipsec").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(probe, "LIMIT", 0.2)
    with pytest.raises(TimeLimitError, match="no answer in"):
        daemon.negotiations()


def test_a_dry_run_reads_only_what_decides_the_arguments(cable: Cable, fp: FakeProcess) -> None:
    fp.register(["ipsec", "--version"], stdout="Libreswan 5.2\n")
    fp.register(WAYS.split(), stdout='[{"dst":"172.18.0.7","dev":"eth0"}]')
    fp.register("ip -j link show dev eth0".split(), stdout='[{"mtu":9000}]')
    fp.register("ip -N -d -j address".split(), stdout="[]")
    fp.register("ethtool --json -k eth0".split(), stdout='[{"esp-hw-offload":{"active":true}}]')
    fp.register("modprobe -n -q esp4_offload".split(), returncode=1)
    (facts,) = reading.dry_facts_of((cable,), None)
    assert facts == Facts(
        libreswan=Version(5, 2),
        path_mtu=9000,
        nic=Nic("eth0", {"esp-hw-offload": True}),
        to_load=("xfrm_user", "esp4"),
        assumed=("pluto is running",),
        algorithms=Algorithms(()),
    )


def test_a_dry_run_elsewhere_says_what_it_assumes(cable: Cable, fp: FakeProcess) -> None:
    fp.register(["ipsec", "--version"], returncode=127)
    fp.register(WAYS.split(), stderr="RTNETLINK answers: Invalid argument\n", returncode=1)
    (facts,) = reading.dry_facts_of((cable,), None)
    assert (facts.libreswan, facts.path_mtu) == (LATEST, 1500)
    assert [each.split(",")[0] for each in facts.assumed] == [
        "pluto is running",
        f"Libreswan {LATEST}",
        "a path MTU of 1500 bytes",
    ]


def test_a_route_may_have_an_mtu_of_its_own(cable: Cable, fp: FakeProcess) -> None:
    route = [{"dst": "172.18.0.7", "dev": "eth0", "metrics": [{"mtu": 1400}]}]
    fp.register(WAYS.split(), stdout=json.dumps(route))
    fp.register("ip -j link show dev eth0".split(), stdout='[{"mtu":1500}]')
    peer = cable.remote_host
    assert ways(cable.local.address, (peer,)) == {peer: (1400, "eth0")}


def test_the_address_towards_a_peer(cable: Cable, fp: FakeProcess) -> None:
    ask, route = ["ip", "-j", "route", "get", "172.18.0.7"], {"dst": "172.18.0.7"}
    fp.register(ask, stdout=json.dumps([{**route, "prefsrc": "10.0.0.4"}]))
    fp.register(ask, returncode=2)
    found = [devices.source_towards(cable.remote.address) for _ in range(2)]
    assert found == ["10.0.0.4", ""]


class TestSource:
    """Which address speaks for the host to the peer's subnets."""

    def source(self, shape: str, *held: str) -> str:
        return devices.source_address(shaped(shape), frozenset(held))

    def test_the_one_in_its_own_clusters_subnets(self) -> None:
        held = ("172.18.0.8", "10.44.3.2", "10.44.0.1", "10.45.0.1")
        assert self.source("transport vxlan v4", *held) == "10.44.0.1"

    def test_none_if_there_is_none(self) -> None:
        assert self.source("transport vxlan v4", "172.18.0.8", "10.45.0.1") == ""

    def test_ipv6(self) -> None:
        held = ("fe80::1", "2001:db8::8", "2001:db8:44::1", "10.44.0.1")
        assert self.source("transport gre v6", *held) == "2001:db8:44::1"


def test_the_variable_of_submariners_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, forced in (("true", True), ("1", True), ("false", False), ("", False)):
        monkeypatch.setenv("CE_IPSEC_FORCEENCAPS", value)
        assert source.forces_encapsulation() is forced


ALGPARSE = "ipsec algparse --ikev2 --pfs esp=aes_foo-null".split()


@pytest.fixture
def unusual(cable: Cable) -> Cable:
    return replace(cable, ipsec=replace(cable.ipsec, esp=("aes_foo-null",)))


def test_an_algorithm_that_libreswan_refuses(unusual: Cable, fp: FakeProcess) -> None:
    told = (
        "algparse -v2 -pfs 'esp=aes_foo-null'\n"
        "\tERROR: ESP encryption algorithm 'aes_foo' is not recognized\n"
    )
    fp.register(ALGPARSE, stdout=told, returncode=1)
    algorithms = daemon.algorithms_of(unusual)
    assert algorithms == Algorithms(refused="ESP encryption algorithm 'aes_foo' is not recognized")
    with pytest.raises(UsageError, match="aes_foo"):
        connect_plan.plan((unusual,), (replace(BLANK, algorithms=algorithms),))


def test_the_algorithms_of_ike_and_of_esp(unusual: Cable, fp: FakeProcess) -> None:
    ipsec = replace(unusual.ipsec, ike=("aes256-sha2;dh19", "aes_gcm256-sha2;dh19"))
    both = replace(unusual, ipsec=ipsec)
    asked = ["ipsec", "algparse", "--ikev2", "--pfs", f"ike={','.join(ipsec.ike)}"]
    lines = "\tAES_CBC_256-HMAC_SHA2_256-DH19\n\tAES_GCM_16_256-HMAC_SHA2_256-DH19\n"
    fp.register(asked, stdout=f"algparse -v2 -pfs '{asked[-1]}'\n{lines}")
    fp.register(ALGPARSE, stdout="algparse -v2 -pfs 'esp=aes_foo-null'\n\tAES_FOO-NONE\n")
    ike = ("AES_CBC_256-HMAC_SHA2_256-DH19", "AES_GCM_16_256-HMAC_SHA2_256-DH19")
    assert daemon.algorithms_of(both) == Algorithms(("AES_FOO-NONE",), ike=ike)
    told = f"algparse -v2 -pfs '{asked[-1]}'\n\tERROR: IKE DH algorithm 'dh19' is not recognized\n"
    fp.register(asked, stdout=told, returncode=1)
    refused = daemon.algorithms_of(both)
    assert refused == Algorithms(refused="IKE DH algorithm 'dh19' is not recognized")
    fp.register(asked)
    why = "`ipsec algparse` can't check ipsec.ike here: exit code 0: no output"
    assert daemon.algorithms_of(both) == Algorithms(unchecked=why)


@pytest.mark.parametrize(
    ("output", "code", "reason"),
    [
        ("ipsec: unknown command: algparse\n", 1, "exit code 1: ipsec: unknown command: algparse"),
        # What 5.4 says to an option that it doesn't know; it says it twice.
        ("algparse: invalid option -- 'p'\n", 1, "exit code 1: algparse: invalid option -- 'p'"),
        ("", 0, "exit code 0: no output"),
    ],
)
def test_a_check_of_algorithms_that_fails_is_a_warning(
    unusual: Cable, fp: FakeProcess, output: str, code: int, reason: str
) -> None:
    fp.register(ALGPARSE, stderr=output, returncode=code)
    algorithms = daemon.algorithms_of(unusual)
    warning = f"`ipsec algparse` can't check ipsec.esp here: {reason}"
    assert algorithms == Algorithms(unchecked=warning)
    plan = connect_plan.plan((unusual,), (replace(BLANK, algorithms=algorithms),))
    assert plan.warnings == (warning,)


def test_a_kernel_that_counts_no_ipsec_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipsec_state, "ERRORS", tmp_path / "xfrm_stat")
    assert ipsec_state.xfrm_errors() is None
    (tmp_path / "xfrm_stat").write_text("XfrmInNoStates          \t17\n")
    assert ipsec_state.xfrm_errors() == {"XfrmInNoStates": 17}


def test_whack_itself_is_asked_and_the_script_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `ipsec` that was installed meanwhile is asked anew where its programs are."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("IPSEC_RUNDIR", raising=False)
    for release in ("older", "newer"):
        _executable(tmp_path / release / "whack", f'echo {release} told "$1" >&2; exit 1')
        _executable(tmp_path / "ipsec", f"echo {tmp_path / release}")
        with pytest.raises(HostNotReadyError) as caught:
            daemon.show_states()
        assert "exit code 1: ipsec whack --showstates" in caught.value.message
        assert caught.value.details == (f"{release} told --showstates",)


@pytest.mark.parametrize("moved", [True, False])
def test_the_script_runs_where_whack_may_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, moved: bool
) -> None:
    """pluto's socket is moved by the environment, or whack isn't where the script says."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    if moved:
        monkeypatch.setenv("IPSEC_RUNDIR", "/elsewhere")
        _executable(tmp_path / "whack", "exit 1")
    _executable(tmp_path / "ipsec", f"test $1 != --directory || exec echo {tmp_path}\necho $*")
    assert daemon.show_states() == "whack --showstates\n"


def _executable(path: Path, text: str) -> None:
    """Write a new file, as an upgrade does."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
