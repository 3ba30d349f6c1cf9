from __future__ import annotations
import os
import pytest
from tests.support.documents import document, shaped
from .cable import FILE, PSK, PSK_FILE, bring_up, run, tear_down
from .gateways import Lab
from .traffic import changes

pytestmark = pytest.mark.lab
OLD = {"v4": "172.18.0.8", "v6": "2001:db8::8"}
NEW = {"v4": "172.18.0.18", "v6": "2001:db8::18"}
LEN = {"v4": 16, "v6": 64}
DEF = {"v4": "172.18.255.254", "v6": "2001:db8::ffff:ffff:ffff:fffe"}


def show(what, done):
    print(f"--- {what}: {done.returncode}\n{done.stdout}{done.stderr}", flush=True)


def move(gateway, v, old, new):
    nodad = "nodad" if v == "v6" else ""
    gateway.ip(
        f"address delete {old}/{LEN[v]} dev eth0", f"address add {new}/{LEN[v]} dev eth0 {nodad}"
    )
    gateway.ip(f"route replace default via {DEF[v]}")


@pytest.mark.parametrize(
    "shape",
    os.environ.get(
        "SHAPES",
        "tunnel v4,transport vxlan v4,transport vxlan v6,transport gre v4,transport gre v6,transport geneve v4,transport ipip v4,transport ipip v6,transport none v4",
    ).split(","),
)
def test_it(lab: Lab, shape: str) -> None:
    c1, c2 = lab.gateways
    v = "v6" if "v6" in shape else "v4"
    text = document(shape)
    moved = text.replace(f"{OLD[v]}'", f"{NEW[v]}'").replace(f"{OLD[v]}/", f"{NEW[v]}/")
    print(f"\n======== {shape}")
    for g in (c1, c2):
        g.write(FILE, text)
        g.write(PSK_FILE, f"{PSK}\n")
    before = [g.snapshot() for g in (c1, c2)]
    bring_up(c1, c2)
    move(c1, v, OLD[v], NEW[v])
    print(c1.whack("--status", check=False)[:0])
    if os.environ.get("TALK"):
        show("status old", run(c1, "status", FILE, "--local", "cluster1"))
        show("doctor old", run(c1, "doctor", FILE, "--local", "cluster1"))
        show("connect old", run(c1, "connect", FILE, "--timeout", "10"))
        show(
            "connect old --local",
            run(c1, "connect", FILE, "--local", "cluster1", "--timeout", "10"),
        )
        show("status without file", run(c1, "status"))
    for g in (c1, c2):
        g.write(FILE, moved)
    show("status new", run(c1, "status", FILE))
    show("plan new", run(c1, "plan", FILE))
    if os.environ.get("TEARDOWN"):
        show("teardown new", run(c1, "teardown", FILE))
        show("teardown new c2", run(c2, "teardown", FILE))
    else:
        a = c1.popen(
            "cablectl" if 0 else __import__("tests.lab.rooms", fromlist=["PROGRAM"]).PROGRAM,
            "connect",
            FILE,
            "--timeout",
            "20",
        )
        show("connect new c2", run(c2, "connect", FILE, "--timeout", "20"))
        out, err = a.communicate(timeout=60)
        print("--- connect new c1", a.returncode, out, err)
        show("status new", run(c1, "status", FILE))
        print(
            "OLD in snapshot:\n"
            + "\n".join(
                f"{k}: {l[:300]}"
                for k, t in c1.snapshot().items()
                for l in t.splitlines()
                if OLD[v] in l.replace(NEW[v], "")
                or OLD[v].replace(".", "-").replace(":", "-")
                in l.replace(NEW[v].replace(".", "-"), "")
            )
        )
        for g in (c1, c2):
            show(f"teardown {g.name}", run(g, "teardown", FILE))
    move(c1, v, NEW[v], OLD[v])
    after = [g.snapshot() for g in (c1, c2)]
    for b, a in zip(before, after):
        print("LEFT", changes(b, a)[:1500])
    for g in (c1, c2):
        g.write(FILE, text)
        run(g, "teardown", FILE)
