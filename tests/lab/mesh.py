"""A mesh on a lab's gateways c1, c2 and so on: its file, and the program run on all at once."""

from __future__ import annotations

from collections.abc import Sequence

from .cable import FILE, PSK_FILE
from .gateways import Gateway
from .rooms import PROGRAM

LIMIT = ("--timeout", "40")


def number(name: str) -> int:
    return int(name[1:])


def address(name: str) -> str:
    return f"172.18.0.{number(name)}"


def vtep(name: str) -> str:
    return f"241.18.0.{number(name)}"


def document(names: Sequence[str], ipsec: str = "") -> str:
    """Return the file of a mesh; `ipsec` has more settings of that section."""
    endpoints = "".join(
        f"  - {{cluster: {name}, hostname: {name}-worker, address: {address(name)},"
        f" subnets: [10.{40 + number(name)}.0.0/16]}}\n"
        for name in names
    )
    return (
        "version: 1\nmode: transport\noverlay: vxlan\n"
        f"endpoints:\n{endpoints}ipsec: {{psk: {{file: {PSK_FILE}}}{ipsec and f', {ipsec}'}}}\n"
    )


def run_on_all(gateways: Sequence[Gateway], *args: str) -> list[tuple[int, str]]:
    """Run the program on all gateways at once; return each gateway's exit code and output."""
    running = [gateway.popen(PROGRAM, *args) for gateway in gateways]
    outputs = ["".join(process.communicate(timeout=300)) for process in running]
    return [(process.returncode, text) for process, text in zip(running, outputs, strict=True)]


def connect_all(gateways: Sequence[Gateway], names: Sequence[str], text: str = "") -> None:
    for gateway in gateways:
        gateway.write(FILE, text or document(names))
    for code, output in run_on_all(gateways, "connect", FILE, *LIMIT):
        assert code == 0, output


def ping(gateway: Gateway, target: str) -> bool:
    return gateway.run("ping", "-c", "1", "-W", "5", target, check=False).returncode == 0
