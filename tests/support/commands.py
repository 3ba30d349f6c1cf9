"""The commands that read or change a host."""

from pathlib import Path

IPTABLES = [
    f"{kind}-save" for kind in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy")
]
CHANGERS = (
    *("bridge", "ethtool", "ip", "ipsec", "journalctl", "modprobe", "nft", "pidof", "ss"),
    *("systemctl", *IPTABLES),
)


def forbid(folder: Path) -> None:
    """Write a failing stand-in for each of them into a folder, to be first on the PATH."""
    for name in CHANGERS:
        fake = folder / name
        fake.write_text(f'#!/bin/sh\necho "a unit test ran the real {name} $*" >&2\nexit 99\n')
        fake.chmod(0o755)
