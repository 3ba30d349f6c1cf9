"""The evidence of a healthy host and of a healthy cable, as JSON values."""

from typing import Any

HOST: dict[str, Any] = {
    "root": True,
    "kernel": "6.1.0-44-amd64",
    "time": 1_795_550_000,
    "synchronised": True,
    "libreswan": "Libreswan 4.10",
    "daemons": [{"name": "pluto", "pid": 17}],
    "pluto_error": "",
    "listening": ["127.0.0.1:4500", "172.18.0.8:4500", "172.18.0.8:500", "[2001:db8::8]:4500"],
    "cables": ["submariner-cable-cluster2-172-18-0-7"],
    "own_cables": ["cluster2-172-18-0-7"],
    "sockets": [
        {"address": "172.18.0.8", "port": 4500, "holder": {"name": "pluto", "pid": 17}},
        {"address": "172.18.0.8", "port": 500, "holder": {"name": "pluto", "pid": 17}},
        {"address": "*", "port": 4789},
    ],
    "modules": dict.fromkeys(
        ("esp4", "esp6", "vxlan", "geneve", "ip_gre", "ip6_gre", "nf_tables"), "loaded"
    ),
    "links": {},
    "fips": False,
    "runs": [],
    "firewall": [],
}
ENDS: dict[str, Any] = {
    "files": "cable.yaml",
    "local_device": "eth0",
    "route": {"device": "eth0", "mtu": 1500},
    "subnet_devices": {"10.44.0.0/16": "eth1"},
    "rp_filters": {"eth0": 0, "vxlan-tunnel": 2},
    "forwarding": {"vxlan-tunnel": True, "eth1": True},
    "service_port": None,
    "replies": {4500: {"answer": "SA"}, 500: {"answer": "SA"}},
    "key": {"place": "/etc/cablectl/psk, mode 0600, of user 0"},
    "log": {},
    "facts": None,
    "facts_error": "",
    "offload": None,
    "received": 7,
    "pings": {"sent": 2, "answered": 2, "bytes_out": 228, "bytes_in": 228},
}
