"""cablectl beside Submariner, and with Submariner's documents as its configuration."""

from __future__ import annotations

import pytest

from .cable import EXAMPLES, FILE, bring_up, child_sas, connections, ping, prepare, run, tear_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

DOCUMENTS = tuple(f"/root/{name}.yaml" for name in ("submariner", "configmap", "endpoints"))
KEY = "ZXhhbXBsZSBrZXksIHRha2Ugb25lIG9mIHlvdXIgb3duIGZyb20gL2Rldi91cmFuZG9t"

# The commands of Submariner's VXLAN driver for another cluster, 10.46.0.0/16.
DRIVER = (
    "link add vxlan-tunnel type vxlan id 1000 dstport 4800",
    "address add 241.18.0.8/8 dev vxlan-tunnel",
    "link set vxlan-tunnel up",
    "route add 10.46.0.0/16 via 241.18.0.6 dev vxlan-tunnel table 100 metric 100",
    "rule add from all lookup 100",
)
OTHER_DEVICE = "vtep: {network: 242.0.0.0/8}\nvxlan: {device: cable0, vni: 1001}\n"


def test_submariners_documents_are_enough(lab: Lab) -> None:
    """The pre-shared key is in a Secret among the documents; no cablectl file is needed."""
    before = [gateway.snapshot() for gateway in lab.gateways]
    for gateway in lab.gateways:
        for path in DOCUMENTS:
            example = EXAMPLES / "submariner" / path.rpartition("/")[2]
            gateway.write(path, example.read_text())
    running = [gateway.popen(PROGRAM, "connect", *DOCUMENTS) for gateway in lab.gateways]
    for process in running:
        out, err = process.communicate(timeout=150)
        assert process.returncode == 0, err
        assert " is up, encrypted by ESP in transport mode" in out
        assert KEY not in out + err
    for gateway in lab.gateways:
        assert child_sas(gateway) == connections(gateway)
        assert ping(gateway).returncode == 0
        assert keys_in_processes(gateway) == 0
    for gateway, snapshot in zip(lab.gateways, before, strict=True):
        assert run(gateway, "teardown", *DOCUMENTS).returncode == 0
        assert gateway.snapshot() == snapshot


def keys_in_processes(gateway: Gateway) -> int:
    """Count the processes that have the key in their command line or environment."""
    script = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"
    return gateway.run("sh", "-c", script).stdout.count(KEY)


def test_beside_the_overlay_of_submariners_driver(lab: Lab) -> None:
    """Both overlays have a device, addresses, a rule, and routes. Submariner's are in table 100."""
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
        gateway.write(FILE, gateway.read(FILE) + OTHER_DEVICE)
    c1.ip(*DRIVER)
    before = c1.snapshot()
    try:
        bring_up(c1, c2)
        assert c1.run("ping", "-c", "1", "-W", "2", "242.18.0.7").returncode == 0
        for subnet, device in (("10.45.0.1", "cable0"), ("10.46.0.1", "vxlan-tunnel")):
            assert f" dev {device} " in c1.run("ip", "route", "get", subnet).stdout
        tear_down(c1, c2)
        assert c1.snapshot() == before
    finally:
        tear_down(c1, c2)
        c1.ip("rule delete from all lookup 100", "link delete vxlan-tunnel")


def test_an_algorithm_that_libreswan_does_not_know(lab: Lab) -> None:
    c1 = lab.gateways[0]
    prepare(c1)
    c1.write(FILE, c1.read(FILE) + "  esp: [aes_foo-null]\n")
    before = c1.snapshot()
    done = run(c1, "connect", FILE)
    assert done.returncode == 2
    assert "ESP encryption algorithm 'aes_foo' is not recognized" in done.stderr
    assert c1.snapshot() == before
