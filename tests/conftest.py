"""No unit test may reach the host's own network or IPsec: their commands are fakes that fail."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from cablectl.config import native
from cablectl.model.cable import Cable
from cablectl.run import journal

# How long an example takes is the machine's business.
settings.register_profile("cablectl", deadline=None)
settings.load_profile("cablectl")

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
IPTABLES = [
    f"{kind}-save" for kind in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy")
]
CHANGERS = (
    *("bridge", "ethtool", "ip", "ipsec", "journalctl", "modprobe", "nft", "pidof", "ss"),
    *("systemctl", *IPTABLES),
)


@pytest.fixture(autouse=True)
def no_real_commands(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Put a failing stand-in before each command that reads or changes the host."""
    if request.node.get_closest_marker("lab") or request.node.get_closest_marker("package"):
        return
    folder = tmp_path_factory.mktemp("fakes")
    for name in CHANGERS:
        fake = folder / name
        fake.write_text(f'#!/bin/sh\necho "a unit test ran the real {name} $*" >&2\nexit 99\n')
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(journal, "DIRECTORY", folder / "run")


def load(name: str, local: str = "cluster1") -> Cable:
    """Return the cable of an example of two endpoints, seen from one end."""
    (cable,) = load_all(name, local)
    return cable


def load_all(name: str, local: str = "cluster1") -> tuple[Cable, ...]:
    """Return the cables of an example, seen from one end."""
    network = native.parse((EXAMPLES / f"{name}.yaml").read_text(), f"{name}.yaml")
    return network.cables(network.named(local))


def shown_on(terminal: int) -> str:
    """Return all that was written to a terminal whose other end is closed."""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 1 << 16)
        except OSError:  # how Linux tells the end
            return shown.decode()


@pytest.fixture
def cable() -> Cable:
    return load("quickstart")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of what the tests counted."""
    rows = [
        row
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for row in report.user_properties
    ]
    if rows:
        terminalreporter.section("counted")
        for name, value in rows:
            terminalreporter.write_line(f"{name:40} {value}")
