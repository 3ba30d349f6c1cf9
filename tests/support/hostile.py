"""Values and pieces of text that a document shouldn't have, and some that it may."""

import string
from typing import Any

from cablectl.config.spec import FIELDS as SECTIONS
from cablectl.model.wishes import Ipsec

Path = tuple[str | int, ...]

OPTIONS: list[Any] = ["--help", "-x", "-", "--", "-modp2048", ["--help"], ["-x"], {"device": "-x"}]
SHELL = ["$(id)", "; id", "a b", "a'b", 'a"b', "\\", "#", "a # b", "*", "~"]
CONTROLS: list[Any] = ["a\nb", "a\n", "\n", "a\r", "a\0b", "\x1b[31m", "\u2028", "\x7f", ["a\n"]]
OTHERS: list[Any] = [
    *("é", "\uff11", "\u202eab", "", "..", "a/b", "a" * 64, "a" * 5000, "0x" + "f" * 99, "%any"),
    *(0, -1, 4500, 2**64, 10**300, 1.5, 1e300, None, True, [], {}, [[]], [None], [{}], ["a"] * 200),
    *("vxlan", "none", "cluster1", "aes,--help", ["aes;modp2048"], {"apiVersion": 1}, {"a\nb": 1}),
]
KINDS: list[Any] = ["--help", "a\nb", "", None, True, 1, [], ["--help"], {}, {"a\nb": 1}]
ANYWHERE: list[Any] = [*OPTIONS, *SHELL, *CONTROLS, *OTHERS]
ADDRESSES = [
    *"172.18.0.8 172.18.0.8/16 172.018.0.8 0 ::1 ::ffff:172.18.0.7 224.0.0.1 fe80::1%-x".split(),
    *"10.46.0.0/16 10.46.0.0/255.255.0.0 0.0.0.0/0 ::/0 10.0.0.0/-1 10.46.0.1/16".split(),
    *"2001:db8::9 2001:db8::9%eth0 2001:db8:9::%-x/64 2001:db8:9::%$(id)/64".split(),
    *("2001:db8:9::%\n/48", "172.18.0.8 ", "172.18.0.8\n"),
]
KEYS: list[Any] = [
    *(
        {"file": f"/{name}"}
        for name in ("-n", "a b", "$(id)", "a\nb", "a\n", "../..", "é", "", "'")
    ),
    *({"env": name} for name in ("-x", "a b", "é", "", "PSK\n", "1", "$(id)", "_", "--help")),
    *({"file": name} for name in ("-n", "--help", "psk", ["/psk"], None)),
]


def values(path: Path) -> list[Any]:
    """Return what shouldn't stand there, and some that may."""
    if path[-1] == "psk":
        return ANYWHERE + KEYS * 3
    if {"address", "public_address", "subnets", "network"} & set(path):
        return ANYWHERE + ADDRESSES + [[each] for each in ADDRESSES]
    return ANYWHERE


# Values that a file may have, by the last name of their path.
GOOD: dict[str | int, list[Any]] = {
    "cluster": ["a", "A.b_c-d", "0", "a" * 63],
    "hostname": ["a", "h.example.org"],
    "address": ["192.0.2.1", "2001:db8::1", "10.1.2.3"],
    "public_address": ["203.0.113.9", None],
    "subnets": [["10.46.0.0/16"], ["2001:db8:46::/48"], []],
    "ike_port": [500, 4501],
    "psk": [{"file": f"/etc/{name}"} for name in ("it's here/a b", "$(id)", "-n")] + [{"env": "A"}],
    "encapsulation": ["yes", "no", "auto"],
    "pfs_group": ["modp2048", ["dh19"]],
    "esp": [["aes_gcm-null"], ["aes256-sha2_256", "aes_gcm"]],
    "ike": [["aes256-sha2_256;dh19"], ["aes_gcm256-sha2+sha1;dh19+modp2048", "aes-sha1"]],
    "replay_window": [1, 4096],
    "ike_lifetime": [1081, 86400],
    "sa_lifetime": [1081, 86400],
    "max_bytes": [2**20, 2**63 - 1],
    "esn": ["yes", "auto"],
    "offload": ["auto", "packet", "off"],
    "dpd": ["off", {"delay": 5, "action": "restart"}],
    "initiate": ["auto", "both"],
    "device": ["cable0", "a.b"],
    "mtu": [1300, "auto"],
    "forwarding": ["static", "flood"],
    "port": [4790, "vxlan"],
    "network": ["10.9.0.0/16", "fd00:1::/32"],
}
FIELDS: list[Path] = [
    *((name,) for name in (*SECTIONS, "-x")),
    *(("ipsec", name) for name in Ipsec.__struct_fields__),
    *((kind, name) for kind in ("vxlan", "geneve") for name in ("port", "vni", "device", "mtu")),
    *(("gre", name) for name in ("key", "device", "mtu")),
    *(("ipip", name) for name in ("device", "mtu")),
    ("vxlan", "forwarding"),
    ("vtep", "network"),
    *(
        ("endpoints", i, *path)
        for i in (0, 1)
        for path in [
            *((name,) for name in ("cluster", "hostname", "address", "public_address", "subnets")),
            *(("ike_port",), ("preferred_server",), ("subnets", 0), ("subnets", 1), ("-x",)),
        ]
    ),
]

# Lines of the block in Submariner's ConfigMap.
BLOCKS = [
    f"{name}: {value}{end}"
    for name in ("ceIPSecMode", "ceIPSecOverlay", "ceIPSecEsp", "ceIPSecPSK", "-x", '"a\\nb"', "?")
    for value in ("transport", "vxlan", "--help", "[", "{a: b}", "*a", '"\\n-x"', "!!int x", "[a]")
    for end in ("", ",\n", "\n---\n", "\n- a")
]
# Pieces of text, in the middle of a good one.
PIECES = [
    *(*string.punctuation, "\n", "\t", "\r", "\0", "\x1b", "\ufeff", "\u2028", "é", " " * 99),
    *(
        "&a ",
        "*a",
        "<<: ",
        "? ",
        ": ",
        "- ",
        "|\n",
        ">-\n",
        "---\n",
        "...\n",
        "%YAML 9\n",
        "--help",
    ),
    *(
        "!!int ",
        "!!bool ",
        "!!float ''",
        "!!timestamp x",
        "!!binary é",
        "!!set ",
        "!!python/name:os ",
    ),
    *(
        "[" * 40,
        "{" * 9,
        "1:" * 50,
        "0x" + "f" * 5000,
        "9" * 5000,
        "1_0",
        "~",
        ".nan",
        "2001-13-99",
    ),
    *("apiVersion: v1\n", "kind: List\n", "items: [", "&a [*a]", '"\\ud800"', '"\\x00"'),
]
